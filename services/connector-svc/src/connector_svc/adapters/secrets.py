"""secret-svc over the command bus.

A leased credential is in this process's memory only, for a minute at most,
and travels sealed to a key that is made for the one lease.
"""

import time
from collections.abc import Awaitable
from typing import TypeVar
from uuid import NAMESPACE_OID, uuid5

import msgspec
import structlog

from bizosaas_events import Context, DomainError, Kind, ReplyTimeoutError, UnavailableError, new_id
from bizosaas_events.bus import CommandBus
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages.secret import (
    ConfirmSecret,
    Leased,
    LeaseSecret,
    RevokeSecret,
    SecretKind,
    Stored,
    StoreSecret,
)
from bizosaas_ports.access import Role
from bizosaas_ports.sealing import SealingKey, seal

from ..domain.ports import Credential, SecretsUnavailableError

TIMEOUT = 10.0
KEPT_SECONDS = 60.0

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class SecretService:
    """See `Secrets`."""

    def __init__(self, bus: CommandBus, *, public_key: bytes) -> None:
        self._bus = bus
        self._public_key = public_key
        self._kept: dict[tuple[str, str, int], tuple[Credential, float]] = {}
        self._confirmed: set[tuple[str, int]] = set()

    async def store(
        self, context: Context, secret_id: str, kind: SecretKind, sealed: bytes, purpose: str, *, id: str
    ) -> None:
        await self._store(context, StoreSecret(secret_id=secret_id, kind=kind, sealed=sealed, purpose=purpose), id)

    async def store_value(
        self, context: Context, secret_id: str, kind: SecretKind, value: bytes, purpose: str, *, id: str
    ) -> Credential:
        sealed = seal(self._public_key, value)
        stored = await self._store(
            context, StoreSecret(secret_id=secret_id, kind=kind, sealed=sealed, purpose=purpose), id
        )
        return self._keep(context, Credential(secret_id, stored.version, stored.fingerprint, value))

    async def lease(self, context: Context, secret_id: str, version: int | None, purpose: str) -> Credential:
        kept = self._kept.get((context.tenant, secret_id, version)) if version is not None else None
        if kept and kept[1] > time.monotonic():
            return kept[0]
        key = SealingKey.generate()
        command = LeaseSecret(secret_id=secret_id, recipient=key.public, purpose=purpose, version=version)
        leased = await _outage(self._bus.call(command, Leased, _ours(context), id=new_id(), timeout=TIMEOUT))
        return self._keep(context, Credential(secret_id, leased.version, leased.fingerprint, key.open(leased.sealed)))

    async def confirm(self, context: Context, credential: Credential) -> None:
        version = (credential.secret_id, credential.version)
        if credential.version == 1 or version in self._confirmed:
            return
        command = ConfirmSecret(secret_id=credential.secret_id, version=credential.version)
        try:
            await self._bus.send(command, _ours(context), id=_id("confirm", *version))
            self._confirmed.add(version)
        except DomainError as error:
            # The next call of this connection says it; until then an older version stays readable.
            _log.warning("credential not confirmed", secret_id=credential.secret_id, reason=str(error))

    async def revoke(self, context: Context, secret_id: str, reason: str) -> None:
        self._kept = {key: kept for key, kept in self._kept.items() if key[1] != secret_id}
        command = RevokeSecret(secret_id=secret_id, reason=reason)
        await _outage(self._bus.send(command, _ours(context), id=_id("revoke", secret_id)))

    async def _store(self, context: Context, command: StoreSecret, id: str) -> Stored:
        return await _outage(self._bus.call(command, Stored, _ours(context), id=id, timeout=TIMEOUT))

    def _keep(self, context: Context, credential: Credential) -> Credential:
        now = time.monotonic()
        self._kept = {key: kept for key, kept in self._kept.items() if kept[1] > now}
        key = (context.tenant, credential.secret_id, credential.version)
        self._kept[key] = (credential, now + KEPT_SECONDS)
        return credential


def _ours(context: Context) -> Context:
    """The same person, cause and tenant, with the right that only services have."""
    return msgspec.structs.replace(context, role=Role.SERVICE)


def _id(purpose: str, *parts: object) -> str:
    return str(uuid5(NAMESPACE_OID, f"bizosaas:connector-svc:{purpose}:{':'.join(map(str, parts))}"))


async def _outage(attempt: Awaitable[T]) -> T:
    """An outage is told apart from a refusal: the first is waited out, the second is final."""
    try:
        return await attempt
    except (ReplyTimeoutError, UnavailableError) as error:
        raise SecretsUnavailableError(str(error)) from error
    except RefusedError as error:
        if error.problem.kind == Kind.UNAVAILABLE:
            raise SecretsUnavailableError(str(error)) from error
        raise
