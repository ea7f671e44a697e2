"""The event store of record: PostgreSQL 14+, one round trip per append.

The event table is its own outbox: a relay reads `(part, position)` behind its
last, and because positions are drawn from a counter row that stays locked
until commit, it can neither overtake nor miss a slow transaction. Appends to
one partition therefore commit one after another: keep transactions short.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from ..chain import Meta, meta_of
from ..codec import Codec, type_of
from ..envelope import Context, Envelope, Event, new_id, partition_of
from ..errors import AlreadyHandledError, ConcurrencyError
from ..personal import PersonKey, closed, person_in
from .base import Head, Write
from .person_keys import PersonKeys

# Raised by event_append (store/migrations) when the stream is not at the expected version.
VERSION_CONFLICT = "BZ001"

_APPEND = "select event_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_EVENT = "part, position, stream, version, id, type, tenant, at, data, meta"
_LOAD = f"select {_EVENT} from event_load($1, $2, $3)"
_READ = f"select {_EVENT} from event where part = $1 and position > $2 order by position limit $3"
_HANDLED = f"""select {_EVENT} from event where (part, position) in
               (select part, position from handled_command where id = $1)"""

decode_meta = msgspec.json.Decoder(Meta).decode


def open_pool(url: str, **options: Any) -> "asyncpg.Pool[Any]":
    """A pool as asyncpg makes it, whose connections are handed back as they are: 1.5 times as many appends a second.

    asyncpg would ask the server to reset the session after each use, a round
    trip of its own. So leave none: settings local to the transaction, and no
    LISTEN, advisory lock or temporary table. An open transaction is still rolled back.
    """
    return asyncpg.create_pool(url, reset=_as_it_is, **options)


async def _as_it_is(connection: "asyncpg.Connection[Any]") -> None:
    return None


class PostgresEventStore:
    """See `EventStore`. `appended` is set after each append, so that a relay in this process need not poll.

    Events with personal data need `keys`: without them TypeError is raised, since clear text could never be erased.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", codec: Codec, *, category: str, source: str, partitions: int) -> None:
        self.codec = codec
        self.category = category
        self.partitions = partitions
        self.appended = asyncio.Event()
        self.keys: PersonKeys | None = None
        self.recorded = 0
        self.conflicts = 0
        """Appends that were refused because the stream had moved on."""
        self._pool = pool
        self._source = source

    async def append(
        self, writes: Sequence[Write], context: Context, *, command_id: str | None = None
    ) -> list[Envelope]:
        writes = [write for write in writes if write.events]
        if not writes:
            return []
        about_persons = [event for write in writes for event in write.events if event.person]
        together = len(writes) > 1 or bool(about_persons)
        recorded: list[list[Envelope]] = [[] for _ in writes]
        with self._translated(command_id):
            async with self._pool.acquire() as connection, connection.transaction() if together else nullcontext():
                keys = await self._person_keys(connection, about_persons, context.tenant) if about_persons else {}
                batches = [self._envelopes(write, context, keys) for write in writes]
                last = len(batches) - 1
                # Partitions are locked in the order of their numbers, so two appends cannot wait for each other.
                for n in sorted(range(len(batches)), key=lambda n: batches[n][0].partition):
                    recorded[n] = await self._append(connection, batches[n], command_id if n == last else None)
        self.recorded += sum(map(len, recorded))
        self.appended.set()
        return [envelope for batch in recorded for envelope in batch]

    async def _person_keys(self, connection: Any, events: Sequence[Event], tenant: str) -> Mapping[str, bytes]:
        if self.keys is None:
            raise TypeError(f"{type(events[0]).__name__} is about a person: give the store the persons' keys")
        return await self.keys.take(connection, events, tenant)

    async def restore(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Record events as they once were, at the next free positions: `testing.replay.RestorableStore`."""
        placed = [
            msgspec.structs.replace(e, partition=partition_of(e.tenantid, e.subject, self.partitions))
            for e in envelopes
        ]
        restored: dict[int, Envelope] = {}
        with self._translated(None):
            async with self._pool.acquire() as connection, connection.transaction():
                for n in sorted(range(len(placed)), key=lambda n: placed[n].partition):
                    (restored[n],) = await self._append(connection, [placed[n]], None)
        self.appended.set()
        return [restored[n] for n in range(len(placed))]

    @contextmanager
    def _translated(self, command_id: str | None) -> Iterator[None]:
        """PostgreSQL's refusals of an append, as the port names them."""
        try:
            yield
        except asyncpg.UniqueViolationError as error:
            if command_id is not None and error.constraint_name == "handled_command_pkey":
                raise AlreadyHandledError(command_id) from error
            raise
        except asyncpg.PostgresError as error:
            if error.sqlstate == VERSION_CONFLICT:
                stream, _, expected = str(error).rpartition("@")
                self.conflicts += 1
                raise ConcurrencyError(stream, int(expected)) from error
            raise

    async def _append(
        self, connection: "asyncpg.pool.PoolConnectionProxy[Any]", batch: list[Envelope], command_id: str | None
    ) -> list[Envelope]:
        first = batch[0]
        base = await connection.fetchval(
            _APPEND, first.partition, first.subject, first.streamversion - 1, first.tenantid, first.time,
            [e.id for e in batch], [e.type for e in batch], [e.data for e in batch], [meta_of(e) for e in batch],
            command_id,
        )  # fmt: skip
        return [msgspec.structs.replace(e, sequence=base + n) for n, e in enumerate(batch, 1)]

    def _envelopes(self, write: Write, context: Context, keys: Mapping[str, bytes]) -> list[Envelope]:
        partition = partition_of(context.tenant, write.stream, self.partitions)
        return [
            Envelope(
                id=id, source=self._source, type=type_of(event), subject=write.stream, time=context.time,
                tenantid=context.tenant, actorid=context.actor, actorrole=context.role,
                correlationid=context.correlation_id, causationid=context.causation_id,
                traceparent=context.traceparent, partition=partition, streamversion=write.expected + n,
                data=self.codec.encode(closed(event, id, keys[person_in(event)]) if event.personal else event),
            )
            for n, event in enumerate(write.events, 1)
            for id in [new_id()]
        ]  # fmt: skip

    async def load(
        self, stream: str, *, until_version: int | None = None, until_time: datetime | None = None
    ) -> list[Envelope]:
        until = 2**31 - 1 if until_version is None else until_version
        rows = await self._pool.fetch(_LOAD, stream, until, until_time)
        return [envelope_of(row) for row in rows]

    async def read(self, partition: int, after: int, limit: int) -> list[Envelope]:
        return [envelope_of(row) for row in await self._pool.fetch(_READ, partition, after, limit)]

    async def heads(self) -> list[Head]:
        rows = await self._pool.fetch("select part, position, head from event_partition where position > 0 order by 1")
        return [Head(*row) for row in rows]

    async def person_keys(self, persons: Sequence[str]) -> dict[str, PersonKey]:
        return await self.keys.find(persons) if self.keys is not None else {}

    async def handled(self, command_id: str) -> Envelope | None:
        row = await self._pool.fetchrow(_HANDLED, UUID(command_id))
        return envelope_of(row) if row else None


def envelope_of(row: asyncpg.Record) -> Envelope:
    """The envelope of a row of the event table."""
    part, position, stream, version, id, type_, tenant, at, data, meta = row[:10]
    m = decode_meta(meta)
    return Envelope(
        id=str(id), source=m.source, type=type_, subject=stream, time=at, tenantid=tenant, actorid=m.actorid,
        actorrole=m.actorrole, correlationid=m.correlationid, causationid=m.causationid, traceparent=m.traceparent,
        partition=part, sequence=position, streamversion=version, data=data,
    )  # fmt: skip
