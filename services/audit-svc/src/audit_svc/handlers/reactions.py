"""Every event of every service becomes an entry of the journal."""

from collections.abc import Sequence
from typing import Any

from bizosaas_events import Envelope

from ..domain.ports import Ledger


class Journal:
    """The consumer of all logs. Entries, chain and checkpoint are written in one transaction: each event once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def apply(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        """Nothing is decoded: an event that this version does not know is journalled like any other."""
        await self._ledger.record(connection, envelopes)
