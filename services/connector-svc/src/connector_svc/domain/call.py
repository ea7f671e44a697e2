"""A call: one operation at a vendor, written down before it is made, and what came of it."""

from typing import ClassVar, Literal, assert_never

import msgspec

from bizosaas_events import Command, Decider
from bizosaas_events.messages.connector import (
    SERVICE,
    CallEvent,
    CallFailed,
    CallStarted,
    CallSucceeded,
    CallUncertain,
    Effect,
)

from .errors import CallUncertainError, IdempotencyKeyReusedError


class Begin(Command, frozen=True, kw_only=True, tag="connector.internal.begin-call"):
    """CallOperation with what is known before the vendor is asked."""

    service: ClassVar[str] = SERVICE

    call_id: str
    connection_id: str
    connector: str
    operation: str
    effect: Effect
    idempotency_key: str
    arguments_digest: str
    fingerprint: str


class Settle(Command, frozen=True, kw_only=True, tag="connector.internal.settle-call"):
    """What came of it."""

    service: ClassVar[str] = SERVICE

    outcome: CallSucceeded | CallFailed | CallUncertain


CallCommand = Begin | Settle


class State(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["none", "started", "succeeded", "failed", "uncertain"] = "none"
    operation: str = ""
    arguments_digest: str = ""
    detail: str = ""


def decide(command: CallCommand, state: State) -> list[CallEvent]:
    match command:
        case Begin():
            return _begin(command, state)
        case Settle(outcome=outcome):
            # Only a call that is open can end: whoever comes late changes nothing.
            return [outcome] if state.status == "started" else []
        case _:
            assert_never(command)


def _begin(command: Begin, state: State) -> list[CallEvent]:
    """Nothing for a call that was begun before, by a process that died or by the same request sent twice."""
    asked = (command.operation, command.arguments_digest)
    if state.status != "none" and asked != (state.operation, state.arguments_digest):
        raise IdempotencyKeyReusedError
    if state.status == "uncertain":
        raise CallUncertainError(state.detail)
    if state.status in ("started", "succeeded"):
        return []
    return [
        CallStarted(
            call_id=command.call_id, connection_id=command.connection_id, connector=command.connector,
            operation=command.operation, effect=command.effect, idempotency_key=command.idempotency_key,
            arguments_digest=command.arguments_digest, fingerprint=command.fingerprint,
        )
    ]  # fmt: skip


def evolve(state: State, event: CallEvent) -> State:
    match event:
        case CallStarted():
            return State(status="started", operation=event.operation, arguments_digest=event.arguments_digest)
        case CallSucceeded():
            return msgspec.structs.replace(state, status="succeeded")
        case CallFailed():
            return msgspec.structs.replace(state, status="failed", detail=event.detail)
        case CallUncertain():
            return msgspec.structs.replace(state, status="uncertain", detail=event.detail)
        case _:
            assert_never(event)


CALL: Decider[CallCommand, State, CallEvent] = Decider(category="call", initial=State, decide=decide, evolve=evolve)
