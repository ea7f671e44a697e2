"""The journal in memory, for tests of handlers."""

from collections.abc import Sequence
from typing import Any

from bizosaas_events import Envelope
from bizosaas_events.chain import GENESIS

from ..domain.chain import extend
from ..domain.entry import Entry, Head, category_of
from ..domain.ports import Cursor, Filters


class MemoryLedger:
    """See `Ledger`. `chains` may be tampered with."""

    def __init__(self) -> None:
        self.chains: dict[tuple[str, int], list[Entry]] = {}
        self._heads: dict[tuple[str, int], Head] = {}

    async def record(self, connection: Any, category: str, envelopes: Sequence[Envelope]) -> None:
        key = (category, envelopes[0].partition)
        entries = extend(self._heads.get(key, Head(*key, 0, GENESIS)), envelopes)
        self.chains.setdefault(key, []).extend(entries)
        if entries:
            self._heads[key] = Head(*key, entries[-1].envelope.sequence, entries[-1].hash)

    async def page(self, tenant: str, filters: Filters, before: Cursor | None, limit: int) -> list[Envelope]:
        found = [
            e
            for e in self._all()
            if e.tenantid == tenant
            and filters.subject in ("", e.subject)
            and filters.actor in ("", e.actorid)
            and filters.correlation_id in ("", e.correlationid)
            and (before is None or (e.time, e.id) < before)
        ]
        return sorted(found, key=lambda e: (e.time, e.id), reverse=True)[:limit]

    async def stream(self, category: str, subject: str, after_version: int, limit: int) -> list[Envelope]:
        found = [
            e
            for e in self._all()
            if category_of(e) == category and e.subject == subject and e.streamversion > after_version
        ]
        return sorted(found, key=lambda e: e.streamversion)[:limit]

    async def of_types(self, subjects: Sequence[str], types: Sequence[str]) -> list[Envelope]:
        found = [e for e in self._all() if e.subject in subjects and e.type in types]
        return sorted(found, key=lambda e: (e.subject, e.streamversion))

    async def heads(self) -> list[Head]:
        keys = self.chains.keys() | self._heads.keys()
        return [self._heads.get(key, Head(*key, 0, GENESIS)) for key in sorted(keys)]

    async def entries(self, category: str, partition: int, after: int, limit: int) -> list[Entry]:
        found = [e for e in self.chains.get((category, partition), ()) if e.envelope.sequence > after]
        return sorted(found, key=lambda e: e.envelope.sequence)[:limit]

    def _all(self) -> list[Envelope]:
        return [entry.envelope for chain in self.chains.values() for entry in chain]
