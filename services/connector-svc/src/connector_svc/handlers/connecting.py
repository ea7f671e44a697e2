"""Connecting with credentials, checking, renaming and ending a connection."""

from datetime import datetime
from uuid import UUID, uuid5

import msgspec
import structlog

from bizosaas_events import Context, DomainError, Envelope, execute
from bizosaas_events.bus import Answer
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages.connector import (
    CheckConnection,
    Connect,
    ConnectionRefused,
    Disconnect,
    RenameConnection,
)
from bizosaas_events.store import EventStore
from bizosaas_ports.clock import Clock
from bizosaas_ports.connector import Account, ConnectorError

from ..domain.connection import CONNECTION, Establish, Refuse, Request, decide
from ..domain.errors import (
    ConnectionClosedError,
    CredentialsInvalidError,
    NotConnectedError,
    ReconnectNeededError,
    WrongMethodError,
)
from ..domain.ports import Connectors, Credential, Secrets
from .refusals import not_made, refusal_of
from .sessions import Sessions

_log = structlog.get_logger(__name__)


async def connect(
    command: Connect, envelope: Envelope, *, store: EventStore, connectors: Connectors, secrets: Secrets, now: Clock
) -> Answer:
    """Keep what was sealed, check that it works, and say so; what does not work is revoked.

    The credentials stay sealed on their way through here: what is opened is
    what secret-svc lends for the check call.
    """
    if earlier := await earlier_outcome(store, envelope):
        return Answer(earlier)
    info = connectors.describe(command.connector)
    if info.method != "credentials":
        raise WrongMethodError(command.connector, info.method)
    settings = connectors.settings(command.connector, command.settings)
    id, context = command.connection_id, envelope.context()
    request = Request(
        connection_id=id, connector=command.connector, label=command.label, settings=settings, method=info.method
    )
    await execute(store, CONNECTION, id, request, context)
    secret_id = secret_id_of(envelope)
    purpose = f"connection {id}"
    try:
        await secrets.store(
            context, secret_id, "password", command.sealed_credentials, purpose, id=derived(envelope.id, "store")
        )
        credential = await secrets.lease(context, secret_id, None, f"check of {purpose}")
        account = await connectors.open(command.connector, settings, credential.value).check()
    except RefusedError as error:
        return await refuse(store, secrets, envelope, context, id, CredentialsInvalidError.slug, error, now)
    except CredentialsInvalidError as error:
        return await refuse(store, secrets, envelope, context, id, error.slug, error, now, secret_id)
    except ConnectorError as error:
        told = not_made(error.reason, f"{error} {error.vendor_says}".strip(), error.retry_after)
        detail = str(error)
        return await refuse(store, secrets, envelope, context, id, error.reason, told, now, secret_id, detail)
    return await establish(
        store, connectors, secrets, envelope, context, id, command.connector, credential, account, now
    )


async def check_connection(command: CheckConnection, envelope: Envelope, *, sessions: Sessions) -> Answer:
    """Ask the vendor whom it takes us for; what that says about the connection is recorded."""
    try:
        opened = await sessions.open(command.connection_id, envelope.context(), "a check", probing=True)
        await sessions.run(opened, lambda port: port.check())
    except ConnectorError as error:
        raise refusal_of(error) from error
    return Answer()


async def rename_connection(command: RenameConnection, envelope: Envelope, *, store: EventStore, now: Clock) -> Answer:
    context = msgspec.structs.replace(envelope.context(), time=now())
    handled = await execute(store, CONNECTION, command.connection_id, command, context, command_id=envelope.id)
    return Answer(handled.recorded[-1] if handled.recorded else None)


async def disconnect(
    command: Disconnect, envelope: Envelope, *, store: EventStore, sessions: Sessions, now: Clock
) -> Answer:
    """End a connection: at the vendor, where it has a way and answers, then here. The reaction revokes the secret."""
    if earlier := await earlier_outcome(store, envelope):
        return Answer(earlier)
    id, context = command.connection_id, envelope.context()
    state = await sessions.state(id, context)
    if decide(command, state) and state.method == "oauth":
        try:
            opened = await sessions.open(id, context, "its revocation", probing=True)
            await sessions.revoke_at_vendor(opened)
        except (ConnectorError, NotConnectedError, ConnectionClosedError, ReconnectNeededError, RefusedError) as error:
            # A vendor that is away must not keep a connection alive here; without the secret nobody can use the grant.
            _log.warning("grant not revoked at the vendor", connection=id, reason=str(error))
        # Refreshing and noting trouble may have recorded events meanwhile: the caller's version was right when asked.
        command = msgspec.structs.replace(command, expected_version=None)
    context = msgspec.structs.replace(context, time=now())
    handled = await execute(store, CONNECTION, id, command, context, command_id=envelope.id)
    return Answer(handled.recorded[-1] if handled.recorded else None)


async def establish(
    store: EventStore, connectors: Connectors, secrets: Secrets, envelope: Envelope, context: Context, id: str,
    connector: str, credential: Credential, account: Account, now: Clock, *, scopes: list[str] | None = None,
    expires_at: datetime | None = None,
) -> Answer:  # fmt: skip
    """Record that the connection works; a connection that was closed meanwhile gets no credential."""
    command = Establish(
        connection_id=id, secret_id=credential.secret_id, secret_version=credential.version,
        fingerprint=credential.fingerprint, account=account.name, scopes=scopes or account.scopes,
        credential_expires_at=expires_at,
        operations=[operation.name for operation in connectors.describe(connector).operations],
    )  # fmt: skip
    context = msgspec.structs.replace(context, time=now())
    try:
        handled = await execute(store, CONNECTION, id, command, context, command_id=envelope.id)
    except ConnectionClosedError:
        await secrets.revoke(context, credential.secret_id, "the connection was closed")
        raise
    return Answer(handled.recorded[-1])


async def refuse(
    store: EventStore, secrets: Secrets, envelope: Envelope, context: Context, id: str, reason: str, told: DomainError,
    now: Clock, secret_id: str = "", detail: str = "",
) -> Answer:  # fmt: skip
    """Record that the connection was not made, after having its secret destroyed, and tell the caller why."""
    if secret_id:
        await secrets.revoke(context, secret_id, "the connection was not made")
    command = Refuse(connection_id=id, reason=reason, detail=detail or str(told))
    context = msgspec.structs.replace(context, time=now())
    await execute(store, CONNECTION, id, command, context, command_id=envelope.id)
    raise told


async def earlier_outcome(store: EventStore, envelope: Envelope) -> Envelope | None:
    """What a command of several steps recorded as its last, if it is delivered again; a refusal is told again."""
    earlier = await store.handled(envelope.id)
    if earlier is not None:
        event = store.codec.decode(earlier)
        if isinstance(event, ConnectionRefused):
            raise not_made(event.reason, event.detail)
    return earlier


def secret_id_of(envelope: Envelope) -> str:
    """The secret that a command makes: the same when it is handled again. A reconnect has one of its own."""
    return derived(envelope.id, "secret")


def derived(id: str, purpose: str) -> str:
    """An id that follows from another."""
    return str(uuid5(UUID(id), purpose))
