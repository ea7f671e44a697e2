"""What follows from our own events, for certain: the consumer's checkpoint moves only when the values are destroyed."""

from collections.abc import Sequence
from typing import Any

from bizosaas_events import Envelope
from bizosaas_events.codec import type_of
from bizosaas_events.handling import load_state
from bizosaas_events.messages.secret import SecretConfirmed, SecretRevoked
from bizosaas_events.store import EventStore
from bizosaas_ports.secret import SecretPort, SecretStoreUnavailableError

from ..domain.errors import SecretStoreAwayError
from ..domain.secret import SECRET, path_of
from .destruction import destroy_all, destroy_older

_TYPES = {type_of(SecretConfirmed), type_of(SecretRevoked)}


class Destroyer:
    """Destroys what was confirmed or revoked; mostly it finds that the command's handler has done so."""

    def __init__(self, vault: SecretPort, store: EventStore) -> None:
        self._vault = vault
        self._store = store

    async def apply(self, _: Any, envelopes: Sequence[Envelope]) -> None:
        """The consumer. Raises SecretStoreAwayError, and is then called again later."""
        try:
            for envelope in envelopes:
                if envelope.type in _TYPES:
                    await self._destroy(envelope)
        except SecretStoreUnavailableError as error:
            raise SecretStoreAwayError from error

    async def _destroy(self, envelope: Envelope) -> None:
        match self._store.codec.decode(envelope):
            case SecretConfirmed(secret_id=secret_id, version=version):
                await destroy_older(self._vault, path_of(envelope.tenantid, secret_id), version)
            case SecretRevoked(secret_id=secret_id):
                state, _version = await load_state(self._store, SECRET, secret_id, envelope.tenantid)
                await destroy_all(self._vault, path_of(envelope.tenantid, secret_id), state.newest)
