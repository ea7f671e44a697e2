"""Why connector-svc refuses."""

from collections.abc import Iterable

from bizosaas_events import DomainError, Kind


class UnknownConnectorError(DomainError):
    slug = "unknown-connector"

    def __init__(self, key: str, known: Iterable[str]) -> None:
        super().__init__(
            f"There is no connector {key!r}.", field="connector", remedy=f"Use one of: {', '.join(sorted(known))}."
        )


class WrongMethodError(DomainError):
    slug = "wrong-connection-method"

    def __init__(self, connector: str, method: str) -> None:
        how = (
            f"by OAuth: POST /v1/oauth/authorize/{connector}"
            if method == "oauth"
            else "with credentials: POST /v1/connections"
        )
        super().__init__(f"{connector} is not connected in this way.", field="connector", remedy=f"Connect it {how}.")


class SettingInvalidError(DomainError):
    slug = "setting-invalid"

    def __init__(self, name: str, message: str, remedy: str) -> None:
        super().__init__(message, field=f"settings.{name}", remedy=remedy)


class CredentialsInvalidError(DomainError):
    """What was sealed lacks something; the message never holds a value."""

    slug = "credentials-invalid"

    def __init__(self, message: str, field: str = "credentials") -> None:
        super().__init__(message, field=field, remedy="Send the fields that GET /v1/connectors names.")


class LabelInvalidError(DomainError):
    slug = "label-invalid"

    def __init__(self) -> None:
        super().__init__(
            "A connection's label has 1 to 100 characters.", field="label", remedy="Give it a name people recognise."
        )


class ConnectorMismatchError(DomainError):
    kind = Kind.CONFLICT
    slug = "connector-mismatch"

    def __init__(self, connector: str) -> None:
        super().__init__(
            f"This connection belongs to {connector}.", field="connector", remedy="Make a new connection instead."
        )


class ConnectionClosedError(DomainError):
    kind = Kind.CONFLICT
    slug = "connection-closed"

    def __init__(self) -> None:
        super().__init__("This connection is closed.", field="connection_id", remedy="Make a new connection.")


class StaleVersionError(DomainError):
    kind = Kind.CONFLICT
    slug = "stale-version"

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(
            f"The connection is at version {found} by now, not {expected}.", field="expected_version",
            remedy="Read it again and decide anew.",
        )  # fmt: skip


class NotConnectedError(DomainError):
    kind = Kind.CONFLICT
    slug = "not-connected"

    def __init__(self) -> None:
        super().__init__(
            "This connection has no working credential yet.", field="connection_id", remedy="Finish connecting first."
        )


class ReconnectNeededError(DomainError):
    """The vendor no longer takes the credential; only a person can change that."""

    kind = Kind.CONFLICT
    slug = "reconnect-needed"

    def __init__(self, message: str) -> None:
        super().__init__(message, field="connection_id", remedy="Connect again.")


class VendorScopeError(DomainError):
    kind = Kind.FORBIDDEN
    slug = "scope-missing"


class VendorDownError(DomainError):
    kind = Kind.UNAVAILABLE
    slug = "provider-down"


class VendorLimitError(DomainError):
    kind = Kind.UNAVAILABLE
    slug = "rate-limited"


class VendorAddressError(DomainError):
    kind = Kind.CONFLICT
    slug = "connection-misconfigured"


class VendorRefusedError(DomainError):
    """The vendor understood and refused the request itself."""

    slug = "vendor-refused"


class VendorNotFoundError(DomainError):
    kind = Kind.NOT_FOUND
    slug = "resource-not-found"


class CredentialRefusedError(DomainError):
    """The vendor did not take the credential a person gave."""

    slug = "credential-refused"


class UnknownOperationError(DomainError):
    slug = "unknown-operation"

    def __init__(self, operation: str, connector: str, known: Iterable[str]) -> None:
        super().__init__(
            f"{connector} has no operation {operation!r}.", field="operation",
            remedy=f"Use one of: {', '.join(sorted(known))}.",
        )  # fmt: skip


class NoWebhooksError(DomainError):
    kind = Kind.NOT_FOUND
    slug = "no-webhooks"

    def __init__(self, connector: str) -> None:
        super().__init__(f"{connector} sends no webhooks here.", remedy="Remove the webhook at the vendor.")


class ArgumentsInvalidError(DomainError):
    slug = "arguments-invalid"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field, remedy="See the operation's request type in the documentation.")


class IdempotencyKeyMissingError(DomainError):
    slug = "idempotency-key-missing"

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"{operation} has an effect, which needs an idempotency key of 1 to 200 characters.",
            field="idempotency_key", remedy="Send the same key again when you try the same call again.",
        )  # fmt: skip


class IdempotencyKeyReusedError(DomainError):
    kind = Kind.CONFLICT
    slug = "idempotency-key-reused"

    def __init__(self) -> None:
        super().__init__(
            "This idempotency key belongs to another call.", field="idempotency_key",
            remedy="Use a new key for a new call; repeat a call with the same operation and arguments.",
        )  # fmt: skip


class CallUncertainError(DomainError):
    """Never retried by us: a person has to look at the vendor's side."""

    kind = Kind.CONFLICT
    slug = "call-uncertain"

    def __init__(self, message: str) -> None:
        super().__init__(
            message, field="idempotency_key",
            remedy="Look at the vendor whether it was applied; if not, call again with a new idempotency key.",
        )  # fmt: skip


class CallInProgressError(DomainError):
    kind = Kind.UNAVAILABLE
    slug = "call-in-progress"

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            "The same call is being made at this moment.", field="idempotency_key", remedy="Ask again.",
            retry_after=retry_after,
        )  # fmt: skip


class ConnectionBusyError(DomainError):
    """Bounds what one slow vendor can take from all other connections."""

    kind = Kind.UNAVAILABLE
    slug = "connection-busy"

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(
            f"This connection has {limit} call{'s' if limit > 1 else ''} in flight already.", field="connection_id",
            remedy="Try again when some are done.", retry_after=retry_after,
        )  # fmt: skip


class RefreshInProgressError(DomainError):
    kind = Kind.UNAVAILABLE
    slug = "refresh-in-progress"

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            "The connection's credential is being refreshed, and that takes long.", field="connection_id",
            remedy="Try again.", retry_after=retry_after,
        )  # fmt: skip


class OAuthNotConfiguredError(DomainError):
    kind = Kind.CONFLICT
    slug = "oauth-not-configured"

    def __init__(self, connector: str, variables: str) -> None:
        super().__init__(
            f"This platform has no OAuth application for {connector}.", field="connector",
            remedy=f"The operator sets {variables}.",
        )  # fmt: skip


class RedirectUriInvalidError(DomainError):
    slug = "redirect-uri-invalid"

    def __init__(self) -> None:
        super().__init__(
            "The redirect URI is not an absolute http(s) address.", field="redirect_uri",
            remedy="Use the platform's public callback address, without a fragment.",
        )  # fmt: skip


class ScopeInvalidError(DomainError):
    slug = "scope-invalid"

    def __init__(self, scope: str) -> None:
        super().__init__(f"{scope!r} cannot be a scope.", field="scopes", remedy="Use the vendor's scope names.")


class OAuthStateUnknownError(DomainError):
    slug = "oauth-state-unknown"

    def __init__(self) -> None:
        super().__init__(
            "This authorization was not started here.", field="state", remedy="Start the authorization again."
        )


class OAuthStateExpiredError(DomainError):
    slug = "oauth-state-expired"

    def __init__(self) -> None:
        super().__init__(
            "This authorization was started too long ago.", field="state", remedy="Start the authorization again."
        )


class OAuthStateUsedError(DomainError):
    slug = "oauth-state-used"

    def __init__(self) -> None:
        super().__init__(
            "This authorization has been completed already.", field="state",
            remedy="Look at the connection; start again if it is not connected.",
        )  # fmt: skip


class OAuthIssuerMismatchError(DomainError):
    """RFC 9207: the answer came from another server than the person was sent to."""

    slug = "oauth-issuer-mismatch"

    def __init__(self) -> None:
        super().__init__(
            "The answer does not come from the server the person was sent to.", field="issuer",
            remedy="Start the authorization again; if it happens again, tell the operator.",
        )  # fmt: skip


class AuthorizationRefusedError(DomainError):
    """The vendor, or the person at the vendor's page, said no."""

    slug = "authorization-refused"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, field="error", remedy="Start the authorization again and agree at the vendor's page.")


class CodeNotSealedError(DomainError):
    slug = "code-not-sealed"

    def __init__(self) -> None:
        super().__init__(
            "The code was not sealed to connector-svc's public key.", field="sealed_code",
            remedy="Give the gateway BIZOS_CONNECTOR_SVC_PUBLIC_KEY of this connector-svc.",
        )  # fmt: skip
