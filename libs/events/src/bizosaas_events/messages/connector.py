"""connector-svc: connections to external systems, their OAuth flows, and the calls made through them.

External data never becomes an event: an event about a call has its operation,
the type, number and id of what it touched, its status, duration, size and digest.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal, assert_never

import msgspec

from ..envelope import Command, Envelope, Event, Result
from ..projection import View

SERVICE = "connector"

Effect = Literal["read", "write", "send", "money", "destroy"]
Method = Literal["credentials", "oauth"]
Trouble = Literal["revoked", "expired", "scope-missing", "provider-down", "rate-limited", "misconfigured"]
"""Why a connection does not work. Only the first two ask a person to reconnect."""


class ConnectorCommand(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = "manage_integrations"


class Connect(ConnectorCommand, frozen=True, kw_only=True, tag="connector.connect.v1"):
    """Connect with credentials a person holds. They are a JSON object, sealed to secret-svc's public key."""

    connection_id: str
    connector: str
    label: str
    settings: dict[str, str]
    sealed_credentials: bytes


class StartAuthorization(ConnectorCommand, frozen=True, kw_only=True, tag="connector.start-authorization.v1"):
    """Begin the OAuth 2.0 authorization-code flow with PKCE; answers AuthorizeAt. With an existing id: reconnect."""

    connection_id: str
    connector: str
    label: str
    settings: dict[str, str]
    redirect_uri: str
    scopes: list[str] = []


class AuthorizeAt(Result, frozen=True, kw_only=True, tag="connector.authorize-at.v1"):
    """Where the person has to go, once, before `expires_at`."""

    connection_id: str
    url: str
    expires_at: datetime


class CompleteAuthorization(ConnectorCommand, frozen=True, kw_only=True, tag="connector.complete-authorization.v1"):
    """What the vendor sent to the callback; answers Authorized.

    The single-use `state` is the caller's proof, and names tenant and person.
    `sealed_code` is sealed to connector-svc's public key; empty with `error`,
    the vendor's refusal (RFC 6749, 4.1.2.1). `issuer`: RFC 9207.
    """

    permission: ClassVar[str | None] = None

    state: str
    sealed_code: bytes = b""
    issuer: str = ""
    error: str = ""


class Authorized(Result, frozen=True, kw_only=True, tag="connector.authorized.v1"):
    connection_id: str
    tenant_id: str


class CallOperation(ConnectorCommand, frozen=True, kw_only=True, tag="connector.call-operation.v1"):
    """Do one operation (`<port>.<operation>`) of a port through a connection; answers OperationResult.

    The same `idempotency_key` never has its effect twice, whatever the vendor offers.
    """

    connection_id: str
    operation: str
    arguments: dict[str, Any]
    idempotency_key: str


class OperationResult(Result, frozen=True, kw_only=True, tag="connector.operation-result.v1"):
    """`data` is the port's result type as JSON; `repeated`: the effect was found done, from an earlier try."""

    call_id: str
    data: msgspec.Raw
    repeated: bool = False


class CheckConnection(ConnectorCommand, frozen=True, kw_only=True, tag="connector.check-connection.v1"):
    """Make the connector's cheap check call and record what it says."""

    connection_id: str


class RenameConnection(ConnectorCommand, frozen=True, kw_only=True, tag="connector.rename-connection.v1"):
    connection_id: str
    label: str
    expected_version: int | None = None
    """The stream version the caller saw; refused with `stale-version` when it is another by now."""


class Disconnect(ConnectorCommand, frozen=True, kw_only=True, tag="connector.disconnect.v1"):
    """End a connection and revoke its credential."""

    connection_id: str
    expected_version: int | None = None


class ReceiveWebhook(ConnectorCommand, frozen=True, kw_only=True, tag="connector.receive-webhook.v1"):
    """What a vendor sent us, as it came: nobody has checked its signature yet. Refused where there are no webhooks."""

    permission: ClassVar[str | None] = None

    connection_id: str
    headers: dict[str, str]
    body: bytes


class ListConnectors(ConnectorCommand, frozen=True, kw_only=True, tag="connector.list-connectors.v1"):
    """What can be connected; answers ConnectorCatalogue."""

    permission: ClassVar[str | None] = "view_dashboard"


class ConnectorField(msgspec.Struct, frozen=True, kw_only=True):
    """What a person fills in to connect: a setting, or a part of the credential."""

    name: str
    label: str
    kind: Literal["text", "url", "secret"]
    required: bool = True
    example: str = ""


class ConnectorOperation(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    effect: Effect
    summary: str


class ConnectorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A connector as people and programs see it."""

    key: str
    name: str
    method: Method
    settings: list[ConnectorField]
    credentials: list[ConnectorField]
    """Empty with OAuth: the vendor asks for them."""
    scopes: list[str]
    operations: list[ConnectorOperation]
    configured: bool = True
    """False: the operator has not registered an OAuth application for it."""


class ConnectorCatalogue(Result, frozen=True, kw_only=True, tag="connector.catalogue.v1"):
    connectors: list[ConnectorInfo]


class ConnectionRequested(Event, frozen=True, kw_only=True, tag="connector.connection.requested.v1"):
    says: ClassVar[str] = "{actor} asked to connect {connector} as “{label}”"

    connection_id: str
    connector: str
    label: str
    settings: dict[str, str]
    method: Method


class AuthorizationStarted(Event, frozen=True, kw_only=True, tag="connector.connection.authorization-started.v1"):
    says: ClassVar[str] = "{actor} was sent to the vendor's page to authorise the connection"

    connection_id: str
    scopes: list[str]
    expires_at: datetime


class ConnectionEstablished(Event, frozen=True, kw_only=True, tag="connector.connection.established.v1"):
    says: ClassVar[str] = "the connection works as {account}, with the credential {fingerprint}"

    connection_id: str
    secret_id: str
    secret_version: int
    fingerprint: str
    account: str
    scopes: list[str] = []
    credential_expires_at: datetime | None = None
    operations: list[str] = []
    """`<port>.<operation>`: what can be asked of it. By these the tool gate of agent-svc finds the right connection."""


class ConnectionRefused(Event, frozen=True, kw_only=True, tag="connector.connection.refused.v1"):
    says: ClassVar[str] = "the connection was not made: {detail}"

    connection_id: str
    reason: str
    detail: str


class ConnectionRenamed(Event, frozen=True, kw_only=True, tag="connector.connection.renamed.v1"):
    says: ClassVar[str] = "{actor} renamed the connection to “{label}”"

    connection_id: str
    label: str


class CredentialRefreshStarted(Event, frozen=True, kw_only=True, tag="connector.connection.refresh-started.v1"):
    """Written before the vendor is asked, so that a crash in between is seen; the old pair is kept."""

    says: ClassVar[str] = "{actor} began to refresh the credential of version {secret_version}"

    connection_id: str
    secret_version: int


class CredentialRefreshed(Event, frozen=True, kw_only=True, tag="connector.connection.refreshed.v1"):
    says: ClassVar[str] = "the credential was refreshed: version {secret_version}, fingerprint {fingerprint}"

    connection_id: str
    secret_version: int
    fingerprint: str
    credential_expires_at: datetime | None = None


class ConnectionInterrupted(Event, frozen=True, kw_only=True, tag="connector.connection.interrupted.v1"):
    says: ClassVar[str] = "the connection is interrupted ({reason}): {detail}"

    connection_id: str
    reason: Trouble
    reconnect: bool
    detail: str


class ConnectionRecovered(Event, frozen=True, kw_only=True, tag="connector.connection.recovered.v1"):
    says: ClassVar[str] = "the connection works again"

    connection_id: str


class ConnectionClosed(Event, frozen=True, kw_only=True, tag="connector.connection.closed.v1"):
    says: ClassVar[str] = "{actor} closed the connection"

    connection_id: str


class CallStarted(Event, frozen=True, kw_only=True, tag="connector.call.started.v1"):
    """Written before the vendor is asked: what was going to be done, with which credential."""

    says: ClassVar[str] = "{actor} began {operation} with the credential {fingerprint}"

    call_id: str
    connection_id: str
    connector: str
    operation: str
    effect: Effect
    idempotency_key: str
    arguments_digest: str
    fingerprint: str


class CallSucceeded(Event, frozen=True, kw_only=True, tag="connector.call.succeeded.v1"):
    says: ClassVar[str] = "{operation} succeeded ({status}, {duration_ms} ms): {count} × {resource_type} {resource_id}"

    call_id: str
    connection_id: str
    operation: str
    resource_type: str
    resource_id: str = ""
    count: int
    status: int
    duration_ms: int
    bytes: int
    digest: str
    repeated: bool = False


class CallFailed(Event, frozen=True, kw_only=True, tag="connector.call.failed.v1"):
    """The vendor was asked and it did not happen; trying again is safe."""

    says: ClassVar[str] = "{operation} failed ({reason}): {detail}"

    call_id: str
    connection_id: str
    operation: str
    reason: str
    detail: str
    status: int = 0
    duration_ms: int = 0


class CallUncertain(Event, frozen=True, kw_only=True, tag="connector.call.uncertain.v1"):
    """It may have been applied, and the vendor offers no way to find out: a person has to look. Never retried."""

    says: ClassVar[str] = "{operation} may have been applied: {detail}"

    call_id: str
    connection_id: str
    operation: str
    detail: str


ConnectionEvent = (
    ConnectionRequested
    | AuthorizationStarted
    | ConnectionEstablished
    | ConnectionRefused
    | ConnectionRenamed
    | CredentialRefreshStarted
    | CredentialRefreshed
    | ConnectionInterrupted
    | ConnectionRecovered
    | ConnectionClosed
)
CallEvent = CallStarted | CallSucceeded | CallFailed | CallUncertain


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    connector: str
    label: str
    settings: dict[str, str]
    method: Method
    status: Literal["requested", "authorizing", "connected", "refused", "interrupted", "closed"]
    created_at: datetime
    updated_at: datetime
    reason: str = ""
    """Why it is refused or interrupted."""
    detail: str = ""
    reconnect: bool = False
    """A person has to connect again."""
    account: str = ""
    """Whom the vendor says we are."""
    scopes: list[str] = []
    fingerprint: str = ""
    """Which credential is in use."""
    credential_version: int = 0
    credential_expires_at: datetime | None = None
    operations: list[str] = []
    """`<port>.<operation>`: what can be asked of it."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    connection_id: str
    connector: str
    operation: str
    effect: Effect
    actor: str
    fingerprint: str
    status: Literal["started", "succeeded", "failed", "uncertain"]
    started_at: datetime
    detail: str = ""
    resource_type: str = ""
    resource_id: str = ""
    count: int = 0
    duration_ms: int = 0


def evolve_connection(view: Connection | None, event: ConnectionEvent, envelope: Envelope) -> Connection | None:
    if isinstance(event, ConnectionRequested):
        return Connection(
            id=event.connection_id, tenant_id=envelope.tenantid, connector=event.connector, label=event.label,
            settings=event.settings, method=event.method, status="requested",
            created_at=view.created_at if view else envelope.time, updated_at=envelope.time,
        )  # fmt: skip
    if view is None:
        return None
    changes: dict[str, Any]
    match event:
        case AuthorizationStarted():
            changes = {"status": "authorizing"}
        case ConnectionEstablished():
            changes = {
                "status": "connected", "reason": "", "detail": "", "reconnect": False, "account": event.account,
                "scopes": event.scopes, "fingerprint": event.fingerprint, "credential_version": event.secret_version,
                "credential_expires_at": event.credential_expires_at, "operations": event.operations,
            }  # fmt: skip
        case ConnectionRefused():
            changes = {"status": "refused", "reason": event.reason, "detail": event.detail}
        case ConnectionRenamed():
            changes = {"label": event.label}
        case CredentialRefreshStarted():
            changes = {}
        case CredentialRefreshed():
            changes = {
                "fingerprint": event.fingerprint, "credential_version": event.secret_version,
                "credential_expires_at": event.credential_expires_at,
            }  # fmt: skip
        case ConnectionInterrupted():
            changes = {
                "status": "interrupted", "reason": event.reason, "detail": event.detail, "reconnect": event.reconnect,
            }  # fmt: skip
        case ConnectionRecovered():
            changes = {"status": "connected", "reason": "", "detail": "", "reconnect": False}
        case ConnectionClosed():
            changes = {"status": "closed"}
        case _:
            assert_never(event)
    return msgspec.structs.replace(view, updated_at=envelope.time, **changes)


def evolve_call(view: Call | None, event: CallEvent, envelope: Envelope) -> Call | None:
    if isinstance(event, CallStarted):
        return Call(
            id=event.call_id, tenant_id=envelope.tenantid, connection_id=event.connection_id,
            connector=event.connector, operation=event.operation, effect=event.effect, actor=envelope.actorid,
            fingerprint=event.fingerprint, status="started", started_at=view.started_at if view else envelope.time,
        )  # fmt: skip
    if view is None:
        return None
    match event:
        case CallSucceeded():
            return msgspec.structs.replace(
                view, status="succeeded", detail="", resource_type=event.resource_type, resource_id=event.resource_id,
                count=event.count, duration_ms=event.duration_ms,
            )  # fmt: skip
        case CallFailed():
            return msgspec.structs.replace(view, status="failed", detail=event.detail, duration_ms=event.duration_ms)
        case CallUncertain():
            return msgspec.structs.replace(view, status="uncertain", detail=event.detail)
        case _:
            assert_never(event)


VIEWS = {"connection": View(Connection, evolve_connection), "call": View(Call, evolve_call)}
