"""What a CallOperation asks for, checked before anything is done."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import msgspec

from bizosaas_events import Envelope
from bizosaas_events.messages.connector import CallOperation, ConnectorInfo, ConnectorOperation
from bizosaas_ports.capabilities import operations

from ..domain.errors import ArgumentsInvalidError, IdempotencyKeyMissingError, UnknownOperationError

LONGEST_KEY = 200


@dataclass(frozen=True)
class Call:
    """A CallOperation that was found right: its operation exists and its arguments fit."""

    id: str
    connection_id: str
    connector: str
    operation: ConnectorOperation
    arguments: dict[str, Any]
    digest: str
    key: str

    @property
    def is_read(self) -> bool:
        return self.operation.effect == "read"


def planned(command: CallOperation, envelope: Envelope, connector: ConnectorInfo) -> Call:
    """The call that is asked for. Its id follows from tenant, connection and idempotency key; of a read, the command's.

    Raises UnknownOperationError, ArgumentsInvalidError and
    IdempotencyKeyMissingError, naming the field.
    """
    known = {operation.name: operation for operation in connector.operations}
    operation = known.get(command.operation)
    if operation is None:
        raise UnknownOperationError(command.operation, connector.key, known)
    try:
        request = msgspec.convert(command.arguments, operations()[operation.name].request)
    except msgspec.ValidationError as error:
        raise ArgumentsInvalidError(*_field_and_words(error)) from error
    is_read, key = operation.effect == "read", command.idempotency_key
    if not is_read and not 1 <= len(key) <= LONGEST_KEY:
        raise IdempotencyKeyMissingError(operation.name)
    id = f"{envelope.tenantid}:{command.connection_id}:{key}"
    return Call(
        id=envelope.id if is_read else str(uuid5(NAMESPACE_OID, f"bizosaas:connector-svc:call:{id}")),
        connection_id=command.connection_id, connector=connector.key, operation=operation,
        arguments=command.arguments, digest=digest_of(msgspec.json.encode(request, order="deterministic")), key=key,
    )  # fmt: skip


def digest_of(data: bytes) -> str:
    """What an event holds in place of data."""
    return hashlib.sha256(data).hexdigest()


def _field_and_words(error: msgspec.ValidationError) -> tuple[str, str]:
    """msgspec's message as the field it is about, from `at $.title` or from the name in it, and the sentence."""
    words, _, path = str(error).partition(" - at `$.")
    named = path.rstrip("`") or ".".join(re.findall(r"field `([^`]+)`", words))
    return f"arguments.{named}" if named else "arguments", f"{words}."
