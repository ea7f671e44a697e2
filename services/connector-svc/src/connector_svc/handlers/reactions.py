"""What connector-svc does about its own events: secrets that nothing uses any more are revoked.

In a reaction and not in the command's handler, so that a crash in between
leaves no credential behind.
"""

from collections.abc import Sequence
from typing import Any

from bizosaas_events import Envelope
from bizosaas_events.codec import type_of
from bizosaas_events.handling import load_state
from bizosaas_events.messages.connector import ConnectionClosed, ConnectionEstablished
from bizosaas_events.store import EventStore

from ..domain.connection import CONNECTION
from ..domain.ports import Secrets

_ENDS_SECRETS = {type_of(ConnectionClosed), type_of(ConnectionEstablished)}


class SecretCleanup:
    """An ordered consumer's `apply`. Said twice, a revocation is the same command."""

    def __init__(self, store: EventStore, secrets: Secrets) -> None:
        self._store = store
        self._secrets = secrets

    async def apply(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            if envelope.type in _ENDS_SECRETS:
                await self._revoke(envelope)

    async def _revoke(self, envelope: Envelope) -> None:
        context = envelope.context()
        id = envelope.subject.removeprefix(f"{CONNECTION.category}-")
        state, _ = await load_state(self._store, CONNECTION, id, context.tenant)
        for secret_id in state.superseded:
            await self._secrets.revoke(context, secret_id, "replaced by a new connection")
        if state.status == "closed" and state.secret_id:
            await self._secrets.revoke(context, state.secret_id, "the connection was closed")
