"""A secret: which versions there are, which of them can be read, and whether it is revoked. Never a value."""

import re
from datetime import datetime
from typing import ClassVar, assert_never

import msgspec

from bizosaas_events import Command, Decider, StreamNotFoundError
from bizosaas_events.messages.secret import (
    SERVICE,
    ConfirmSecret,
    RevokeSecret,
    SecretConfirmed,
    SecretEvent,
    SecretKind,
    SecretLeased,
    SecretRevoked,
    SecretStored,
)
from bizosaas_ports.access import PLATFORM_TENANT

from .errors import (
    SecretIdInvalidError,
    SecretIdReservedError,
    SecretRevokedError,
    VersionNotReadableError,
    VersionTakenError,
)

PLATFORM_OWNED = "oauth-"
"""Ids that begin so are the platform's: the client secret of its OAuth application at one vendor."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class NoteStored(Command, frozen=True, kw_only=True, tag="secret.internal.note-stored"):
    """The value is in the store under this version number."""

    service: ClassVar[str] = SERVICE

    secret_id: str
    kind: SecretKind
    version: int
    fingerprint: str
    purpose: str


class Lend(Command, frozen=True, kw_only=True, tag="secret.internal.lend"):
    """LeaseSecret with the version that was read, and the id and end of the lease."""

    service: ClassVar[str] = SERVICE

    secret_id: str
    lease_id: str
    version: int
    purpose: str
    expires_at: datetime


SecretCommand = NoteStored | Lend | ConfirmSecret | RevokeSecret


class State(msgspec.Struct, frozen=True, kw_only=True):
    readable: dict[int, str] = {}
    """Fingerprints of the versions that can be read, by version."""
    newest: int = 0
    confirmed: int = 0
    revoked: bool = False


def path_of(tenant: str, secret_id: str) -> str:
    """Where the store keeps a secret. Refuses names that would lead elsewhere, and the platform's to anyone else."""
    if not _NAME.fullmatch(secret_id) or not _NAME.fullmatch(tenant):
        raise SecretIdInvalidError(secret_id)
    if secret_id.startswith(PLATFORM_OWNED) and tenant != PLATFORM_TENANT:
        raise SecretIdReservedError(PLATFORM_OWNED)
    return f"{tenant}/{secret_id}"


def version_to_lend(state: State, secret_id: str, wanted: int | None) -> int:
    """The version that a lease reads: the one wanted, or the newest."""
    _check_alive(state, secret_id)
    version = state.newest if wanted is None else wanted
    _check_readable(state, version)
    return version


def decide(command: SecretCommand, state: State) -> list[SecretEvent]:
    match command:
        case NoteStored():
            if state.revoked:
                raise SecretRevokedError
            if command.version <= state.newest:
                raise VersionTakenError(command.version)
            return [
                SecretStored(
                    secret_id=command.secret_id, kind=command.kind, version=command.version,
                    fingerprint=command.fingerprint, purpose=command.purpose,
                )
            ]  # fmt: skip
        case Lend():
            version = version_to_lend(state, command.secret_id, command.version)
            return [
                SecretLeased(
                    secret_id=command.secret_id, lease_id=command.lease_id, version=version,
                    fingerprint=state.readable[version], purpose=command.purpose, expires_at=command.expires_at,
                )
            ]  # fmt: skip
        case ConfirmSecret():
            _check_alive(state, command.secret_id)
            if command.version == state.confirmed:
                return []
            _check_readable(state, command.version)
            return [SecretConfirmed(secret_id=command.secret_id, version=command.version)]
        case RevokeSecret():
            if state.newest == 0:
                raise StreamNotFoundError(SECRET.stream(command.secret_id))
            return [] if state.revoked else [SecretRevoked(secret_id=command.secret_id, reason=command.reason)]
        case _:
            assert_never(command)


def evolve(state: State, event: SecretEvent) -> State:
    match event:
        case SecretStored():
            readable = {**state.readable, event.version: event.fingerprint}
            return msgspec.structs.replace(state, readable=readable, newest=event.version)
        case SecretLeased():
            return state
        case SecretConfirmed():
            readable = {version: found for version, found in state.readable.items() if version >= event.version}
            return msgspec.structs.replace(state, readable=readable, confirmed=event.version)
        case SecretRevoked():
            return msgspec.structs.replace(state, readable={}, revoked=True)
        case _:
            assert_never(event)


def _check_alive(state: State, secret_id: str) -> None:
    if state.newest == 0:
        raise StreamNotFoundError(SECRET.stream(secret_id))
    if state.revoked:
        raise SecretRevokedError


def _check_readable(state: State, version: int) -> None:
    if version not in state.readable:
        raise VersionNotReadableError(version, sorted(state.readable))


SECRET: Decider[SecretCommand, State, SecretEvent] = Decider(
    category="secret", initial=State, decide=decide, evolve=evolve
)
