"""secret-svc: references and fingerprints of credentials, never their values.

`sealed` is always an X25519 sealed box (libsodium `crypto_box_seal`): to
secret-svc's public key on the way in, to the leaser's one-time key on the way out.
"""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

import msgspec

from ..envelope import Command, Envelope, Event, Result
from ..projection import View

SERVICE = "secret"

SecretKind = Literal["password", "api_key", "oauth_tokens", "oauth_client", "webhook_secret"]


class SecretCommand(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = "service"
    """Only services handle credentials; a person never names one by value."""


class StoreSecret(SecretCommand, frozen=True, kw_only=True, tag="secret.store.v1"):
    """Keep a credential, or a new version of one; answers Stored.

    The versions before stay readable until this one is confirmed.
    """

    secret_id: str
    kind: SecretKind
    sealed: bytes
    purpose: str

    def __repr__(self) -> str:
        return f"StoreSecret(secret_id={self.secret_id!r}, kind={self.kind!r}, purpose={self.purpose!r}, sealed=…)"


class Stored(Result, frozen=True, kw_only=True, tag="secret.stored.v1"):
    secret_id: str
    version: int
    fingerprint: str


class LeaseSecret(SecretCommand, frozen=True, kw_only=True, tag="secret.lease.v1"):
    """Read a credential for one purpose, sealed to the caller's one-time key; answers Leased.

    `version` None: the newest.
    """

    secret_id: str
    recipient: bytes
    purpose: str
    version: int | None = None


class Leased(Result, frozen=True, kw_only=True, tag="secret.leased.v1"):
    lease_id: str
    version: int
    fingerprint: str
    sealed: bytes
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Leased(lease_id={self.lease_id!r}, version={self.version}, fingerprint={self.fingerprint!r}, sealed=…)"


class ConfirmSecret(SecretCommand, frozen=True, kw_only=True, tag="secret.confirm.v1"):
    """This version has worked once: the ones before are destroyed."""

    secret_id: str
    version: int


class RevokeSecret(SecretCommand, frozen=True, kw_only=True, tag="secret.revoke.v1"):
    """Destroy every version; it takes no further one."""

    secret_id: str
    reason: str


class SecretStored(Event, frozen=True, kw_only=True, tag="secret.secret.stored.v1"):
    says: ClassVar[str] = (
        "{actor} stored version {version} of a credential ({kind}, fingerprint {fingerprint}) for {purpose}"
    )

    secret_id: str
    kind: SecretKind
    version: int
    fingerprint: str
    purpose: str


class SecretLeased(Event, frozen=True, kw_only=True, tag="secret.secret.leased.v1"):
    says: ClassVar[str] = "{actor} was lent the credential {fingerprint} for {purpose}"

    secret_id: str
    lease_id: str
    version: int
    fingerprint: str
    purpose: str
    expires_at: datetime


class SecretConfirmed(Event, frozen=True, kw_only=True, tag="secret.secret.confirmed.v1"):
    says: ClassVar[str] = "{actor} confirmed version {version} of a credential; older ones are destroyed"

    secret_id: str
    version: int


class SecretRevoked(Event, frozen=True, kw_only=True, tag="secret.secret.revoked.v1"):
    says: ClassVar[str] = "{actor} revoked a credential: {reason}"

    secret_id: str
    reason: str


SecretEvent = SecretStored | SecretLeased | SecretConfirmed | SecretRevoked


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    kind: SecretKind
    version: int
    fingerprint: str
    status: Literal["current", "revoked"]
    stored_at: datetime
    leased_at: datetime | None = None
    leased_for: str = ""


def evolve_secret(view: Secret | None, event: SecretEvent, envelope: Envelope) -> Secret | None:
    if isinstance(event, SecretStored):
        return Secret(
            id=event.secret_id, tenant_id=envelope.tenantid, kind=event.kind, version=event.version,
            fingerprint=event.fingerprint, status="current", stored_at=envelope.time,
        )  # fmt: skip
    if view is None:
        return None
    match event:
        case SecretLeased():
            return msgspec.structs.replace(view, leased_at=envelope.time, leased_for=event.purpose)
        case SecretConfirmed():
            return view
        case SecretRevoked():
            return msgspec.structs.replace(view, status="revoked")
        case _:
            assert_never(event)


VIEWS = {"secret": View(Secret, evolve_secret)}
