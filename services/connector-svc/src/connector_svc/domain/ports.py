"""What connector-svc alone needs from outside."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import msgspec

from bizosaas_events import Context
from bizosaas_events.messages.connector import ConnectorInfo
from bizosaas_events.messages.secret import SecretKind
from bizosaas_ports.connector import ConnectorPort, Tokens


class SecretsUnavailableError(TimeoutError):
    """secret-svc or its store is away. An outage: a command that meets it stays pending until it is over."""


@dataclass(frozen=True)
class Credential:
    """A leased credential, for the moment of use. Its value shows in no repr, log or error."""

    secret_id: str
    version: int
    fingerprint: str
    value: bytes = field(repr=False)


class Secrets(Protocol):
    """secret-svc, as connector-svc uses it. All but `discard` raise SecretsUnavailableError.

    RefusedError rises where secret-svc refuses, as for a revoked secret or a box sealed to another key.
    """

    async def store(
        self, context: Context, secret_id: str, kind: SecretKind, sealed: bytes, purpose: str, *, id: str
    ) -> None:
        """Keep a credential sealed by somebody else. The same `id` again is harmless."""

    async def store_value(
        self, context: Context, secret_id: str, kind: SecretKind, value: bytes, purpose: str, *, id: str
    ) -> Credential:
        """Seal and keep a value as the newest version. The same `id` again is harmless."""

    async def lease(self, context: Context, secret_id: str, version: int | None, purpose: str) -> Credential:
        """Read a credential, None: the newest version. One of a given version may come from memory, for a minute."""

    async def confirm(self, context: Context, credential: Credential) -> None:
        """Say that this version has worked, so that older ones are destroyed. Never raises, said once per process."""

    async def revoke(self, context: Context, secret_id: str, reason: str) -> None:
        """Have a secret destroyed. Repeating it is harmless."""


class Connectors(Protocol):
    """The connectors there are, found by themselves. Raises UnknownConnectorError for another key."""

    def all(self) -> list[ConnectorInfo]:
        """Every connector, by key."""

    def describe(self, key: str) -> ConnectorInfo:
        """What people and programs need to know of one connector."""

    def settings(self, key: str, given: Mapping[str, str]) -> dict[str, str]:
        """The settings in their normal form. Raises SettingInvalidError, naming the field."""

    def settle_seconds(self, key: str) -> float:
        """How long after a request broke off the vendor may still be applying it."""

    def open(self, key: str, settings: Mapping[str, str], credential: bytes) -> ConnectorPort:
        """A connection ready to be called. Raises CredentialsInvalidError, naming the field."""


class Authorizer(Protocol):
    """The OAuth 2.0 side of vendors. Raises ConnectorError where the vendor refuses or is away.

    `client_secret` is empty where the vendor wants none. Raises OAuthNotConfiguredError
    for a connector whose application is not registered on this platform.
    """

    def scopes(self, connector: str, wanted: list[str]) -> list[str]:
        """What will be asked for: the connector's own scopes and those wanted. Raises ScopeInvalidError."""

    def missing(self, connector: str, granted: list[str]) -> list[str]:
        """The scopes without which the connector cannot work, and that were not granted."""

    def needs_secret(self, connector: str) -> bool:
        """Whether the vendor wants a client secret."""

    async def authorize_url(
        self, connector: str, settings: Mapping[str, str], *, state: str, verifier: str, redirect_uri: str,
        scopes: list[str],
    ) -> str:  # fmt: skip
        """Where the person has to go; the vendor is told the verifier's S256 challenge only."""

    async def issued_by(self, connector: str, settings: Mapping[str, str], issuer: str) -> bool:
        """RFC 9207: whether an answer with this `iss` is from the vendor; empty is right where it sends none."""

    async def exchange(
        self, connector: str, settings: Mapping[str, str], *, code: str, verifier: str, redirect_uri: str,
        client_secret: str, scopes: list[str],
    ) -> Tokens:  # fmt: skip
        """Redeem a code. CredentialRevokedError: the vendor does not take it."""

    async def refresh(self, connector: str, settings: Mapping[str, str], tokens: Tokens, client_secret: str) -> Tokens:
        """New tokens for a refresh token. CredentialRevokedError: the grant is over; a person must connect again."""

    async def revoke(self, connector: str, settings: Mapping[str, str], tokens: Tokens, client_secret: str) -> None:
        """End the grant at the vendor, where it has a way for that."""


class PendingAuthorization(msgspec.Struct, frozen=True, kw_only=True):
    """A person on the way to the vendor's page. Nothing in it is secret: the state itself is not kept."""

    tenant: str
    actor: str
    role: str
    connection_id: str
    connector: str
    redirect_uri: str
    scopes: list[str]
    expires_at: datetime
    used_by: str = ""


class Authorizations(Protocol):
    """Pending authorizations by the SHA-256 of their state."""

    async def add(self, state_hash: bytes, pending: PendingAuthorization) -> None:
        """Remember one; forgets those that expired more than a day ago."""

    async def take(self, state_hash: bytes, command_id: str) -> PendingAuthorization | None:
        """Use one up, for one command only: `used_by` says which was first. None: never heard of it."""


class LeaseTakenError(Exception):
    """Another process holds the lease, and went on holding it."""


class LeaseLostError(Exception):
    """The lease is not ours any more: whoever holds it now may be at work."""


class Lease(Protocol):
    """Held while inside `Leases.hold`, renewed by itself."""

    fence: int
    """Greater than that of every holder before."""

    async def check(self) -> None:
        """Raises LeaseLostError when it is not ours any more: ask right before what must not happen twice."""


class Leases(Protocol):
    """Who may do something, across all processes. A dead holder's lease ends after some seconds."""

    def hold(self, name: str, *, wait: float) -> AbstractAsyncContextManager[Lease]:
        """Hold the lease, waiting up to `wait` seconds for it. Raises LeaseTakenError."""


class Budget(Protocol):
    """What is left of a vendor's patience, shared by all processes. Advice: without Redis there is none, and calls go on."""

    async def wait_seconds(self, connection_id: str) -> float:
        """How long the vendor asked not to be called on this connection; 0: call."""

    async def pause(self, connection_id: str, seconds: float) -> None:
        """The vendor asked to wait."""


Verifier = Callable[[str], str]
"""The PKCE verifier that belongs to a state: derived from it and a key, so that it need not be stored."""

NewState = Callable[[], str]
"""32 random bytes, URL-safe."""
