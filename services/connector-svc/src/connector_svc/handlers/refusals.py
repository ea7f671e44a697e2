"""From a vendor's failure, by its reason, to what the caller is told."""

from bizosaas_events import DomainError
from bizosaas_ports.connector import ConnectorError

from ..domain.errors import (
    AuthorizationRefusedError,
    CodeNotSealedError,
    CredentialRefusedError,
    CredentialsInvalidError,
    OAuthIssuerMismatchError,
    ReconnectNeededError,
    VendorAddressError,
    VendorDownError,
    VendorLimitError,
    VendorNotFoundError,
    VendorRefusedError,
    VendorScopeError,
)

RETRY_AFTER = 5.0
"""Seconds, for an outage of which nobody says how long it lasts."""


def refusal_of(error: ConnectorError) -> DomainError:
    """The refusal for a failed call; the vendor's own words go to the caller and nowhere else."""
    return refusal(error.reason, f"{error} {error.vendor_says}".strip(), error.retry_after)


def refusal(reason: str, detail: str, retry_after: float | None = None) -> DomainError:
    """The refusal for a reason, now or as it was recorded."""
    match reason:
        case "revoked" | "expired":
            return ReconnectNeededError(detail)
        case "scope-missing":
            return VendorScopeError(detail, remedy="Connect with an account, or with scopes, that may do this.")
        case "provider-down":
            return VendorDownError(
                detail, remedy="Try again later; the connection stays as it is.", retry_after=retry_after or RETRY_AFTER
            )
        case "rate-limited":
            return VendorLimitError(
                detail, remedy="Wait for as long as is said.", retry_after=retry_after or RETRY_AFTER
            )
        case "misconfigured":
            return VendorAddressError(detail, field="settings", remedy="Check the connection's settings.")
        case "not-found":
            return VendorNotFoundError(detail, field="arguments", remedy="Check the id; list what there is.")
        case _:
            return VendorRefusedError(
                detail, field="arguments", remedy="Change the arguments to what the vendor accepts."
            )


def not_made(reason: str, detail: str, retry_after: float | None = None) -> DomainError:
    """The refusal of a connection that was not made, now or as it was recorded: there is nothing to reconnect yet.

    A reason that is none of ours is the error code that the vendor's page sent back.
    """
    match reason:
        case "revoked" | "expired" | "refused" | "not-found":
            return CredentialRefusedError(
                detail, field="credentials", remedy="Check them at the vendor, then connect again."
            )
        case "provider-down":
            return VendorDownError(
                detail, remedy="Nothing was connected: connect again later, under a new Idempotency-Key if you use one.",
                retry_after=retry_after or RETRY_AFTER,
            )  # fmt: skip
        case "scope-missing" | "rate-limited" | "misconfigured":
            return refusal(reason, detail, retry_after)
        case CredentialsInvalidError.slug:
            return CredentialsInvalidError(detail)
        case OAuthIssuerMismatchError.slug:
            return OAuthIssuerMismatchError()
        case CodeNotSealedError.slug:
            return CodeNotSealedError()
        case _:
            return AuthorizationRefusedError(detail)
