"""The journal in PostgreSQL: entries are copied in, and a trigger refuses to change or delete one."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from bizosaas_events import Envelope
from bizosaas_events.chain import GENESIS, Link
from bizosaas_events.exported import Exported, envelope_of
from bizosaas_events.messages import log_of
from bizosaas_events.store.links import columns, read_links

from ..domain.chain import MIRRORED, by_chain, extend
from ..domain.entry import Entry, Head
from ..domain.ports import Cursor, Filters

_COLUMNS = (
    "category", "part", "position", "id", "type", "subject", "version", "tenant", "at", "actor", "correlation", "data",
    "meta", "hash",
)  # fmt: skip
_SELECT = f"select {', '.join(_COLUMNS)} from entry"
_FIND_HEADS = """select category, part, position, hash from chain_head
                 where (category, part) in (select * from unnest($1::text[], $2::int[]))"""
_MOVE_HEADS = """insert into chain_head (category, part, position, hash)
                 select * from unnest($1::text[], $2::int[], $3::bigint[], $4::bytea[])
                 on conflict (category, part) do update set position = excluded.position, hash = excluded.hash"""

# A walk over the primary key, one step per chain: `select distinct` would read the whole journal.
_HEADS = """
with recursive chain as (
    (select category, part from entry order by category, part limit 1)
    union all
    select next.category, next.part from chain cross join lateral (
        select category, part from entry where (category, part) > (chain.category, chain.part)
        order by category, part limit 1
    ) next
)
select category, part, coalesce(head.position, 0) as position, head.hash
from chain full join chain_head head using (category, part) order by category, part
"""

_LINKS = f"""select {columns("subject", MIRRORED)} from entry
             where category = $1 and part = $2 and position > 0 order by position"""
_HASHES = """select hash from unnest($1::text[], $2::int[], $3::bigint[]) with ordinality
                 as wanted (category, part, position, n)
             left join entry using (category, part, position) order by n"""
_EXPORT = f"""
select {", ".join(f"e.{name}" for name in _COLUMNS)}, before.hash as previous
from entry e left join entry before
    on before.category = e.category and before.part = e.part and before.position = e.position - 1
where e.tenant = $1 and e.at >= $2 and e.at < $3 and (e.at, e.id) > ($4, $5) order by e.at, e.id limit $6
"""


class PostgresLedger:
    """See `Ledger`."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def record(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        chains = by_chain(envelopes)
        # The consumer's checkpoints, updated before us in this transaction, keep anybody else out of these chains.
        found = await connection.fetch(_FIND_HEADS, *map(list, zip(*chains, strict=True)))
        heads = {(row["category"], row["part"]): Head(*row) for row in found}
        entries = [
            entry for key, events in chains.items() for entry in extend(heads.get(key, Head(*key, 0, GENESIS)), events)
        ]
        if entries:
            rows = [_row(entry) for entry in entries]
            await connection.copy_records_to_table("entry", records=rows, columns=_COLUMNS)
            moved = {row[:2]: (*row[:3], row[-1]) for row in rows}
            await connection.execute(_MOVE_HEADS, *map(list, zip(*moved.values(), strict=True)))

    async def page(self, tenant: str, filters: Filters, before: Cursor | None, limit: int) -> list[Envelope]:
        conditions, values = ["tenant = $1"], [tenant]  # type: tuple[list[str], list[Any]]
        for column, value in (("subject", filters.subject), ("actor", filters.actor),
                              ("correlation", filters.correlation_id)):  # fmt: skip
            if value:
                values.append(value)
                conditions.append(f"{column} = ${len(values)}")
        if before is not None:
            values += before
            conditions.append(f"(at, id) < (${len(values) - 1}, ${len(values)})")
        query = f"{_SELECT} where {' and '.join(conditions)} order by at desc, id desc limit {limit:d}"
        return [_envelope(row) for row in await self._pool.fetch(query, *values)]

    async def stream(self, category: str, subject: str, after_version: int, limit: int) -> list[Envelope]:
        query = f"{_SELECT} where subject = $1 and version > $2 and category = $3 order by version limit $4"
        return [_envelope(row) for row in await self._pool.fetch(query, subject, after_version, category, limit)]

    async def of_types(self, subjects: Sequence[str], types: Sequence[str]) -> list[Envelope]:
        query = f"{_SELECT} where subject = any($1) and type = any($2) order by subject, version"
        return [_envelope(row) for row in await self._pool.fetch(query, subjects, types)]

    async def heads(self) -> list[Head]:
        rows = await self._pool.fetch(_HEADS)
        return [Head(row["category"], row["part"], row["position"], row["hash"] or GENESIS) for row in rows]

    async def entries(self, category: str, partition: int, after: int, limit: int) -> list[Entry]:
        query = f"{_SELECT} where category = $1 and part = $2 and position > $3 order by position limit $4"
        rows = await self._pool.fetch(query, category, partition, after, limit)
        return [Entry(_envelope(row), row["meta"], row["hash"]) for row in rows]

    async def links(self, category: str, partition: int, take: Callable[[list[Link]], None]) -> None:
        async with self._pool.acquire() as connection:
            await read_links(connection, _LINKS, category, partition, take=take)

    async def hashes(self, positions: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        wanted = [list(column) for column in zip(*positions, strict=True)] or [[], [], []]
        return [row["hash"] for row in await self._pool.fetch(_HASHES, *wanted)]

    async def export(
        self, tenant: str, since: datetime | None, until: datetime, after: Cursor | None, limit: int
    ) -> list[Exported]:
        begin = after or Cursor.before_all()
        rows = await self._pool.fetch(_EXPORT, tenant, since or begin.at, until, begin.at, begin.id, limit)
        return [
            Exported(
                row["category"], _envelope(row), row["meta"],
                GENESIS if row["position"] == 1 else row["previous"] or b"", row["hash"],
            )
            for row in rows
        ]  # fmt: skip


def _row(entry: Entry) -> tuple[Any, ...]:
    e = entry.envelope
    return (
        log_of(e), e.partition, e.sequence, e.id, e.type, e.subject, e.streamversion, e.tenantid, e.time, e.actorid,
        e.correlationid, e.data, entry.meta, entry.hash,
    )  # fmt: skip


def _envelope(row: asyncpg.Record) -> Envelope:
    return envelope_of(
        row["meta"], id=str(row["id"]), type=row["type"], subject=row["subject"], time=row["at"],
        tenantid=row["tenant"], partition=row["part"], sequence=row["position"], streamversion=row["version"],
        data=row["data"],
    )  # fmt: skip
