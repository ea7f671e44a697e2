"""A connection: one account at one vendor, the credential in use, and whether it works."""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

import msgspec

from bizosaas_events import Command, Decider, StreamNotFoundError
from bizosaas_events.messages.connector import (
    SERVICE,
    AuthorizationStarted,
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionEvent,
    ConnectionInterrupted,
    ConnectionRecovered,
    ConnectionRefused,
    ConnectionRenamed,
    ConnectionRequested,
    CredentialRefreshed,
    CredentialRefreshStarted,
    Disconnect,
    Method,
    RenameConnection,
    Trouble,
)

from .errors import ConnectionClosedError, ConnectorMismatchError, LabelInvalidError, StaleVersionError

LONGEST_LABEL = 100


class _Internal(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = SERVICE

    connection_id: str


class Request(_Internal, frozen=True, kw_only=True, tag="connector.internal.request"):
    """Connect or StartAuthorization, with settings that were checked."""

    connector: str
    label: str
    settings: dict[str, str]
    method: Method


class SendToVendor(_Internal, frozen=True, kw_only=True, tag="connector.internal.send-to-vendor"):
    scopes: list[str]
    expires_at: datetime


class Establish(_Internal, frozen=True, kw_only=True, tag="connector.internal.establish"):
    """The check call has worked with this credential."""

    secret_id: str
    secret_version: int
    fingerprint: str
    account: str
    operations: list[str]
    scopes: list[str] = []
    credential_expires_at: datetime | None = None


class Refuse(_Internal, frozen=True, kw_only=True, tag="connector.internal.refuse"):
    reason: str
    detail: str


class BeginRefresh(_Internal, frozen=True, kw_only=True, tag="connector.internal.begin-refresh"):
    secret_version: int


class FinishRefresh(_Internal, frozen=True, kw_only=True, tag="connector.internal.finish-refresh"):
    secret_id: str
    secret_version: int
    fingerprint: str
    credential_expires_at: datetime | None = None


class Interrupt(_Internal, frozen=True, kw_only=True, tag="connector.internal.interrupt"):
    """A call failed with the credential of `secret_version`, for a reason that lies in the connection."""

    secret_id: str
    secret_version: int
    reason: Trouble
    reconnect: bool
    detail: str


class Recover(_Internal, frozen=True, kw_only=True, tag="connector.internal.recover"):
    """A call has worked."""


ConnectionCommand = (
    Request
    | SendToVendor
    | Establish
    | Refuse
    | RenameConnection
    | BeginRefresh
    | FinishRefresh
    | Interrupt
    | Recover
    | Disconnect
)


class State(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["none", "requested", "authorizing", "connected", "refused", "interrupted", "closed"] = "none"
    version: int = 0
    connector: str = ""
    label: str = ""
    settings: dict[str, str] = {}
    method: Method = "credentials"
    secret_id: str = ""
    """Empty until a credential has worked; kept through a reconnect that fails, since it may still work."""
    secret_version: int = 0
    fingerprint: str = ""
    scopes: list[str] = []
    reason: str = ""
    detail: str = ""
    reconnect: bool = False
    refreshing: int = 0
    """The version whose refresh was begun and not finished: a crash may have left a newer one in secret-svc."""
    superseded: tuple[str, ...] = ()
    """Secrets that were replaced by a reconnect."""


def decide(command: ConnectionCommand, state: State) -> list[ConnectionEvent]:
    if state.status == "none" and not isinstance(command, Request):
        raise StreamNotFoundError(CONNECTION.stream(command.connection_id))
    if isinstance(command, RenameConnection | Disconnect):
        expected = command.expected_version
        if expected is not None and expected != state.version:
            raise StaleVersionError(expected, state.version)
    if state.status == "closed":
        return _after_the_end(command)
    match command:
        case Request():
            return _request(command, state)
        case SendToVendor(connection_id=id, scopes=scopes, expires_at=expires_at):
            return [AuthorizationStarted(connection_id=id, scopes=scopes, expires_at=expires_at)]
        case Establish():
            return [
                ConnectionEstablished(
                    connection_id=command.connection_id, secret_id=command.secret_id,
                    secret_version=command.secret_version, fingerprint=command.fingerprint, account=command.account,
                    scopes=command.scopes, credential_expires_at=command.credential_expires_at,
                    operations=command.operations,
                )
            ]  # fmt: skip
        case Refuse(connection_id=id, reason=reason, detail=detail):
            return [ConnectionRefused(connection_id=id, reason=reason, detail=detail)]
        case RenameConnection(connection_id=id, label=label):
            _check_label(label)
            return [] if label == state.label else [ConnectionRenamed(connection_id=id, label=label)]
        case BeginRefresh(connection_id=id, secret_version=version):
            begun = state.refreshing == version or state.secret_version != version
            return [] if begun else [CredentialRefreshStarted(connection_id=id, secret_version=version)]
        case FinishRefresh():
            return _finish_refresh(command, state)
        case Interrupt():
            return _interrupt(command, state)
        case Recover(connection_id=id):
            works = state.status == "connected" or not state.secret_id
            return [] if works else [ConnectionRecovered(connection_id=id)]
        case Disconnect(connection_id=id):
            return [ConnectionClosed(connection_id=id)]
        case _:
            assert_never(command)


def _after_the_end(command: ConnectionCommand) -> list[ConnectionEvent]:
    """What is still under way when a connection is closed comes to nothing; what is asked anew is refused."""
    if isinstance(command, Request | SendToVendor | Establish | RenameConnection | BeginRefresh):
        raise ConnectionClosedError
    return []


def _request(command: Request, state: State) -> list[ConnectionEvent]:
    _check_label(command.label)
    if state.status != "none" and command.connector != state.connector:
        raise ConnectorMismatchError(state.connector)
    asked = (command.label, command.settings, command.method)
    if state.status != "none" and asked == (state.label, state.settings, state.method):
        return []
    return [
        ConnectionRequested(
            connection_id=command.connection_id, connector=command.connector, label=command.label,
            settings=command.settings, method=command.method,
        )
    ]  # fmt: skip


def _check_label(label: str) -> None:
    if not 1 <= len(label.strip()) <= LONGEST_LABEL:
        raise LabelInvalidError


def _finish_refresh(command: FinishRefresh, state: State) -> list[ConnectionEvent]:
    """Versions only grow: whoever comes late with an older one changes nothing."""
    if command.secret_id != state.secret_id or command.secret_version <= state.secret_version:
        return []
    return [
        CredentialRefreshed(
            connection_id=command.connection_id, secret_version=command.secret_version,
            fingerprint=command.fingerprint, credential_expires_at=command.credential_expires_at,
        )
    ]  # fmt: skip


def _interrupt(command: Interrupt, state: State) -> list[ConnectionEvent]:
    """News about a credential that was replaced meanwhile is no news; an outage never hides a needed reconnect."""
    if (command.secret_id, command.secret_version) != (state.secret_id, state.secret_version):
        return []
    known = state.status == "interrupted" and (state.reason == command.reason or state.reconnect)
    if known:
        return []
    return [
        ConnectionInterrupted(
            connection_id=command.connection_id, reason=command.reason, reconnect=command.reconnect,
            detail=command.detail,
        )
    ]  # fmt: skip


def evolve(state: State, event: ConnectionEvent) -> State:
    return msgspec.structs.replace(_evolve(state, event), version=state.version + 1)


def _evolve(state: State, event: ConnectionEvent) -> State:
    change = msgspec.structs.replace
    match event:
        case ConnectionRequested():
            return change(
                state, status="requested", connector=event.connector, label=event.label, settings=event.settings,
                method=event.method,
            )  # fmt: skip
        case AuthorizationStarted():
            return change(state, status="authorizing")
        case ConnectionEstablished():
            replaced = state.secret_id not in ("", event.secret_id)
            return change(
                state, status="connected", secret_id=event.secret_id, secret_version=event.secret_version,
                fingerprint=event.fingerprint, scopes=event.scopes, reason="", detail="", reconnect=False, refreshing=0,
                superseded=(*state.superseded, state.secret_id) if replaced else state.superseded,
            )  # fmt: skip
        case ConnectionRefused():
            return change(state, status="refused", reason=event.reason, detail=event.detail)
        case ConnectionRenamed():
            return change(state, label=event.label)
        case CredentialRefreshStarted():
            return change(state, refreshing=event.secret_version)
        case CredentialRefreshed():
            return change(state, secret_version=event.secret_version, fingerprint=event.fingerprint, refreshing=0)
        case ConnectionInterrupted():
            return change(
                state, status="interrupted", reason=event.reason, detail=event.detail, reconnect=event.reconnect
            )
        case ConnectionRecovered():
            return change(state, status="connected", reason="", detail="", reconnect=False)
        case ConnectionClosed():
            return change(state, status="closed")
        case _:
            assert_never(event)


CONNECTION: Decider[ConnectionCommand, State, ConnectionEvent] = Decider(
    category="connection", initial=State, decide=decide, evolve=evolve
)
