"""What audit-svc keeps, in memory, for tests of handlers."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec

from bizosaas_events import Envelope
from bizosaas_events.chain import GENESIS, Link
from bizosaas_events.exported import Exported
from bizosaas_events.heads import Line, read
from bizosaas_events.messages import log_of
from bizosaas_events.messages.audit import Verification, Verified

from ..domain.chain import by_chain, extend, link_of
from ..domain.entry import Entry, Head
from ..domain.ports import Cursor, Filters


class MemoryLedger:
    """See `Ledger`. `chains` may be tampered with."""

    def __init__(self) -> None:
        self.chains: dict[tuple[str, int], list[Entry]] = {}
        self._heads: dict[tuple[str, int], Head] = {}

    async def record(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        for key, events in by_chain(envelopes).items():
            entries = extend(self._heads.get(key, Head(*key, 0, GENESIS)), events)
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
            e for e in self._all() if log_of(e) == category and e.subject == subject and e.streamversion > after_version
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

    async def links(self, category: str, partition: int, take: Callable[[list[Link]], None]) -> None:
        found = [link_of(entry) for entry in self.chains.get((category, partition), ())]
        take(sorted(found, key=lambda link: link[0]))

    async def hashes(self, positions: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        return [self._hash(*position) for position in positions]

    async def export(
        self, tenant: str, since: datetime | None, until: datetime, after: Cursor | None, limit: int
    ) -> list[Exported]:
        begin = after or Cursor.before_all()
        found = [
            Exported(category, e, entry.meta, self._hash(category, part, e.sequence - 1) or b"", entry.hash)
            for (category, part), chain in self.chains.items()
            for entry in chain
            for e in [entry.envelope]
            if e.tenantid == tenant and (since or begin.at) <= e.time < until and (e.time, e.id) > begin
        ]
        return sorted(found, key=lambda each: (each.envelope.time, each.envelope.id))[:limit]

    def _hash(self, category: str, partition: int, position: int) -> bytes | None:
        if position == 0:
            return GENESIS
        chain = self.chains.get((category, partition), ())
        return next((entry.hash for entry in chain if entry.envelope.sequence == position), None)

    def _all(self) -> list[Envelope]:
        return [entry.envelope for chain in self.chains.values() for entry in chain]


class MemoryStatements:
    """See `Statements`."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[bool]:
        yield True

    async def after(self, number: int, limit: int) -> list[bytes]:
        return self.kept[number : number + limit]

    async def add(self, line: Line, raw: bytes) -> None:
        if line.statement.number != len(self.kept) + 1:
            raise ValueError(f"statement {line.statement.number} was signed already")
        self.kept.append(raw)

    async def at(self, moment: datetime | None = None) -> list[bytes]:
        said = [(read(raw).statement, raw) for raw in self.kept]
        told = [(statement, raw) for statement, raw in said if moment is None or statement.time <= moment]
        whole = max((n for n, (statement, _) in enumerate(told) if statement.whole), default=0)
        return [raw for _, raw in told[whole:]]


class MemoryExport:
    """See `Export`. `kept` may be tampered with."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def last(self) -> bytes | None:
        return self.kept[-1] if self.kept else None

    def append(self, last: bytes | None, lines: Iterable[bytes]) -> bool:
        if self.last() != last:
            return False
        self.kept.extend(lines)
        return True

    def lines(self) -> Iterator[bytes]:
        yield from list(self.kept)


class MemoryVerifications:
    """See `Verifications`. `seen` is everything that was told."""

    def __init__(self) -> None:
        self.seen: list[Verification] = []

    async def begin(self, id: str, events: int, partitions: int) -> None:
        self.seen.append(
            Verification(
                id=id, status="running", events=0, of_events=events, partitions=0, of_partitions=partitions
            )
        )  # fmt: skip

    async def advance(self, id: str, events: int, partitions: int) -> None:
        self._tell(id, events=events, partitions=partitions)

    async def end(self, id: str, result: Verified) -> None:
        last = self._last(id)
        self._tell(id, status="done", events=last.of_events, partitions=last.of_partitions, result=result)

    async def find(self, id: str) -> Verification | None:
        return next((each for each in reversed(self.seen) if each.id == id), None)

    def _last(self, id: str) -> Verification:
        return next(each for each in reversed(self.seen) if each.id == id)

    def _tell(self, id: str, **changes: Any) -> None:
        self.seen.append(msgspec.structs.replace(self._last(id), **changes))
