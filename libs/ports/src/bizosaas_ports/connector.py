"""ConnectorPort: calls an operation of an external system; and the typed ways in which that fails."""

from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol

import msgspec

Trouble = Literal["revoked", "expired", "scope-missing", "provider-down", "rate-limited", "misconfigured"]


class ConnectorError(Exception):
    """A call failed; whether it had an effect is certain: it had none."""

    reason: ClassVar[str] = "failed"

    def __init__(
        self, message: str, *, status: int = 0, retry_after: float | None = None, vendor_says: str = ""
    ) -> None:
        """`message` is our own sentence and may become part of an event; `vendor_says` is the vendor's, and may not."""
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.vendor_says = vendor_says


class CredentialRevokedError(ConnectorError):
    """The vendor no longer takes the credential: a person has to connect again."""

    reason = "revoked"


class CredentialExpiredError(ConnectorError):
    """The access token's time is over; a refresh may help, else a person."""

    reason = "expired"


class ScopeMissingError(ConnectorError):
    """The credential is good and does not allow this."""

    reason = "scope-missing"


class ProviderDownError(ConnectorError):
    """No answer, or a 5xx: the connection is not at fault."""

    reason = "provider-down"


class RateLimitedError(ConnectorError):
    """The vendor asks to wait; `retry_after` says how long."""

    reason = "rate-limited"


class MisconfiguredError(ConnectorError):
    """The settings of the connection point to something else, such as a wrong address."""

    reason = "misconfigured"


class RequestRefusedError(ConnectorError):
    """The vendor understood and refused the request itself: a 400, 409 or 422."""

    reason = "refused"


class ResourceNotFoundError(ConnectorError):
    """The vendor has no such object."""

    reason = "not-found"


class MaybeAppliedError(Exception):
    """A request with an effect broke off: it may or may not have been applied.

    `answered`: the vendor did answer, so it is not still at work on it.
    """

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the vendor says we are, from the cheap check call."""

    name: str
    scopes: list[str] = []


class CallResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation gave, and the facts about it that may become an event."""

    data: Any
    """The port's result type."""
    resource_type: str
    resource_id: str = ""
    count: int = 1
    status: int = 200
    bytes: int = 0


class ConnectorPort(Protocol):
    """One connection to one external system, ready to be called."""

    async def check(self) -> Account:
        """The connector's cheap check call. Raises ConnectorError."""

    async def call(self, operation: str, arguments: dict[str, Any], idempotency_key: str) -> CallResult:
        """Do one operation. Raises ConnectorError (no effect), MaybeAppliedError (nobody knows)."""

    async def find(self, operation: str, arguments: dict[str, Any], idempotency_key: str) -> CallResult | None:
        """Look up whether an earlier try of this call was applied; None: it was not.

        Raises MaybeAppliedError where the vendor offers no way to find out.
        """


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """An OAuth 2.0 token response, as sealed into secret-svc."""

    access_token: str
    refresh_token: str = ""
    expires_at: datetime | None = None
    scopes: list[str] = []
    issued_at: datetime | None = None

    def __repr__(self) -> str:
        return "Tokens(…)"
