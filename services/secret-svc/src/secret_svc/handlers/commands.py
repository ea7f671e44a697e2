"""The commands of secret-svc.

A value is in the store before the event that tells of it, so no event tells
of what is not there; and it is destroyed after the event that says so, again
by `handlers.reactions` should this process end in between.
"""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

import msgspec
import structlog

from bizosaas_events import AlreadyHandledError, Context, Envelope, execute
from bizosaas_events.bus import Answer
from bizosaas_events.handling import load_state
from bizosaas_events.messages.secret import (
    ConfirmSecret,
    Leased,
    LeaseSecret,
    RevokeSecret,
    SecretLeased,
    SecretStored,
    Stored,
    StoreSecret,
)
from bizosaas_events.store import EventStore
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_ports.clock import Clock, NewId
from bizosaas_ports.sealing import SealError, SealingKey, seal
from bizosaas_ports.secret import SecretMissingError, SecretPort, SecretStoreUnavailableError

from ..domain.errors import (
    RecipientInvalidError,
    SealInvalidError,
    SecretLostError,
    SecretRevokedError,
    SecretStoreAwayError,
    ValueSizeError,
    VersionTakenError,
)
from ..domain.ports import Configuration, Fingerprint
from ..domain.secret import SECRET, Lend, NoteStored, decide, path_of, version_to_lend
from .destruction import destroy_all, destroy_older

LEASE = timedelta(minutes=5)
"""For how long a leaser may hold on to what it was lent."""
LARGEST = 64 * 1024
ATTEMPTS = 8

_log = structlog.get_logger(__name__)


async def store_secret(
    command: StoreSecret, envelope: Envelope, *, store: EventStore, vault: SecretPort, key: SealingKey,
    fingerprint: Fingerprint, now: Clock,
) -> Answer:  # fmt: skip
    """Keep a credential, or a new version of one."""
    context = msgspec.structs.replace(envelope.context(), time=now())
    path = path_of(context.tenant, command.secret_id)
    value = _open(key, command.sealed)
    note = NoteStored(
        secret_id=command.secret_id, kind=command.kind, version=0, fingerprint=fingerprint(value),
        purpose=command.purpose,
    )  # fmt: skip
    try:
        with _outage_is_a_refusal():
            recorded = await _keep(store, vault, path, value, note, context, envelope.id)
    except AlreadyHandledError:
        recorded = cast(Envelope, await store.handled(envelope.id))
    event = cast(SecretStored, store.codec.decode(recorded))
    return Answer(recorded, Stored(secret_id=event.secret_id, version=event.version, fingerprint=event.fingerprint))


async def lease_secret(
    command: LeaseSecret, envelope: Envelope, *, store: EventStore, vault: SecretPort, fingerprint: Fingerprint,
    configuration: Configuration, now: Clock, new_id: NewId,
) -> Answer:  # fmt: skip
    """Lend a credential, sealed to the leaser's one-time key. Delivered again it is the same lease, sealed anew."""
    context = msgspec.structs.replace(envelope.context(), time=now())
    path = path_of(context.tenant, command.secret_id)
    _seal(command.recipient, b"a key that cannot be sealed to must not leave a lease behind")
    with _outage_is_a_refusal():
        if context.tenant == PLATFORM_TENANT:
            await _adopt(store, vault, path, command.secret_id, fingerprint, configuration, context)
        state, _ = await load_state(store, SECRET, command.secret_id, context.tenant)
        version = version_to_lend(state, command.secret_id, command.version)
        value = await _read(vault, path, version)
        lend = Lend(
            secret_id=command.secret_id, lease_id=new_id(), version=version, purpose=command.purpose,
            expires_at=context.time + LEASE,
        )  # fmt: skip
        try:
            handled = await execute(store, SECRET, command.secret_id, lend, context, command_id=envelope.id)
            recorded = handled.recorded[-1]
        except AlreadyHandledError:
            recorded = cast(Envelope, await store.handled(envelope.id))
        event = cast(SecretLeased, store.codec.decode(recorded))
        if event.version != version:
            value = await _read(vault, path, event.version)
    leased = Leased(
        lease_id=event.lease_id, version=event.version, fingerprint=event.fingerprint,
        sealed=_seal(command.recipient, value), expires_at=event.expires_at,
    )  # fmt: skip
    return Answer(recorded, leased)


async def confirm_secret(
    command: ConfirmSecret, envelope: Envelope, *, store: EventStore, vault: SecretPort, now: Clock
) -> Answer:
    """This version has worked: the ones before are destroyed."""
    context = msgspec.structs.replace(envelope.context(), time=now())
    path = path_of(context.tenant, command.secret_id)
    handled = await execute(store, SECRET, command.secret_id, command, context, command_id=envelope.id)
    await _now_or_later(destroy_older(vault, path, command.version))
    return Answer(handled.recorded[-1] if handled.recorded else None)


async def revoke_secret(
    command: RevokeSecret, envelope: Envelope, *, store: EventStore, vault: SecretPort, now: Clock
) -> Answer:
    """Destroy every version, and take no further one."""
    context = msgspec.structs.replace(envelope.context(), time=now())
    path = path_of(context.tenant, command.secret_id)
    handled = await execute(store, SECRET, command.secret_id, command, context, command_id=envelope.id)
    await _now_or_later(destroy_all(vault, path, handled.state.newest))
    return Answer(handled.recorded[-1] if handled.recorded else None)


async def _keep(
    store: EventStore, vault: SecretPort, path: str, value: bytes, note: NoteStored, context: Context,
    command_id: str | None,
) -> Envelope:  # fmt: skip
    """Put the value into the store and record it under the number it got.

    A command that broke off in between finds its own value there when it is
    delivered again, and records the same number. Another command that meets
    such a value leaves it alone, because it may still be recorded, and takes
    the next number. Raises AlreadyHandledError.
    """
    skip = 0
    for _ in range(ATTEMPTS):
        state, _version = await load_state(store, SECRET, note.secret_id, context.tenant)
        # Asked after loading: whoever records this command later than that finds its number taken, see VersionTakenError.
        if command_id is not None and await store.handled(command_id) is not None:
            raise AlreadyHandledError(command_id)
        expected = state.newest + skip
        note = msgspec.structs.replace(note, version=expected + 1)
        try:
            decide(note, state)
            note = msgspec.structs.replace(note, version=await vault.put(path, value, expected=expected))
            handled = await execute(store, SECRET, note.secret_id, note, context, command_id=command_id)
            return handled.recorded[-1]
        except ValueError:
            skip += 1
        except VersionTakenError:
            skip = 0
        except SecretRevokedError:
            # It may have been revoked after our value came in, now or on an earlier try.
            await _now_or_later(destroy_all(vault, path, state.newest))
            raise
    raise SecretLostError


async def _adopt(
    store: EventStore, vault: SecretPort, path: str, secret_id: str, fingerprint: Fingerprint,
    configuration: Configuration, context: Context,
) -> None:  # fmt: skip
    """Keep what the configuration says about a secret of the platform's, when it is not the newest version already."""
    value = configuration.value(secret_id)
    if value is None:
        return
    state, _ = await load_state(store, SECRET, secret_id, context.tenant)
    found = fingerprint(value)
    if state.revoked or state.readable.get(state.newest) == found:
        return
    note = NoteStored(
        secret_id=secret_id, kind="oauth_client", version=0, fingerprint=found, purpose="from configuration"
    )
    by_us = msgspec.structs.replace(context, actor="service:secret-svc", role="service")
    await _keep(store, vault, path, value, note, by_us, None)


async def _read(vault: SecretPort, path: str, version: int) -> bytes:
    try:
        value, _ = await vault.get(path, version)
    except SecretMissingError as error:
        raise SecretLostError from error
    return value


def _open(key: SealingKey, sealed: bytes) -> bytes:
    try:
        value = key.open(sealed)
    except SealError as error:
        raise SealInvalidError from error
    if not 0 < len(value) <= LARGEST:
        raise ValueSizeError(len(value), LARGEST)
    return value


def _seal(recipient: bytes, value: bytes) -> bytes:
    try:
        return seal(recipient, value)
    except SealError as error:
        raise RecipientInvalidError from error


@contextmanager
def _outage_is_a_refusal() -> Iterator[None]:
    try:
        yield
    except SecretStoreUnavailableError as error:
        _log.warning("the secret store is away", reason=str(error))
        raise SecretStoreAwayError from error


async def _now_or_later(destruction: Awaitable[None]) -> None:
    """The event is recorded: what an outage keeps us from destroying now, `reactions` destroys when it is over."""
    try:
        await destruction
    except SecretStoreUnavailableError as error:
        _log.warning("values are destroyed when the secret store is back", reason=str(error))


HANDLERS = (store_secret, lease_secret, confirm_secret, revoke_secret)
