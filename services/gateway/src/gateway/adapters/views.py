"""The read model in PostgreSQL, read as one tenant: what row-level security lets that tenant see."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from bizosaas_events.projecting import Projector

ALL_TENANTS = "*"
TIMEOUT_SECONDS = 5.0
"""A read that takes longer is given up: the caller is told to try again."""

TABLES = """
-- Every kind of view in one table: a new kind is new rows.
create table view (
    kind text not null,
    id text not null,
    tenant text not null,
    version int not null,
    state jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (kind, id)
);
create index view_page on view (kind, tenant, created_at desc, id desc);

-- Nothing is visible before `app.tenant` is set for the transaction; '*' is the projection, and whoever the
-- gateway let see all tenants. FORCE, because the gateway's role owns the table.
alter table view enable row level security;
alter table view force row level security;
create policy view_read on view for select using (
    tenant = current_setting('app.tenant', true)
    or current_setting('app.tenant', true) = '*'
    or (kind = 'agent' and tenant = 'platform' and coalesce(current_setting('app.tenant', true), '') <> '')
);
create policy view_write on view for all
    using (current_setting('app.tenant', true) = '*') with check (current_setting('app.tenant', true) = '*');
"""
"""Of each version of the read model, in a schema of its own; of the first one, in the migrations."""
UNLOCK = f"select set_config('app.tenant', '{ALL_TENANTS}', true)"

# A condition that names no row is met before any row is looked at, so a read is one statement. A transaction with
# three more round trips around it took twice as long.
_AS = "(select set_config('app.tenant', $1, true)) is not null"
_ONE = f"select version, state::text, updated_at from {{schema}}.view where {_AS} and kind = $2 and id = $3"
_PAGE = f"""select id, created_at, state::text from {{schema}}.view
           where {_AS} and kind = $2 and ($1 = '*' or tenant = $1 or (kind = 'agent' and tenant = 'platform'))
           and ($3::timestamptz is null or (created_at, id) < ($3, $4))"""
_FEED = f"""select number, event_id, type, subject, version, at, actor, words, position, correlation_id, causation_id
           from feed where {_AS} and tenant = $1 and number > $2 order by number limit $3"""
_FEED_END = f"select number from feed_counter where {_AS} and tenant = $1"
_CAUSED = f"""select subject, version, position from feed
             where {_AS} and ($1 = '*' or tenant = $1) and causation_id = $2 order by tenant, number desc limit 1"""
_CHECKPOINT = "select position from consumer_partition where consumer = $1 and category = $2 and part = $3"


class Found(NamedTuple):
    """One object: the version of its stream, its state as JSON text."""

    version: int
    state: str
    updated_at: datetime


class Item(NamedTuple):
    """One object in a page, with what a cursor is made of."""

    id: str
    created_at: datetime
    state: str


class Caused(NamedTuple):
    """The last event that a command recorded."""

    subject: str
    version: int
    position: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the tenant's feed, as the stream sends it."""

    number: int
    id: str
    type: str
    subject: str
    version: int
    time: datetime
    actor: str
    words: str
    position: str
    correlation_id: str
    causation_id: str


class PostgresViews:
    """Reads the version of the read model that is to be read when it is asked. Raises asyncpg's or OS errors when
    PostgreSQL is away."""

    def __init__(self, pool: "asyncpg.Pool[Any]", read_model: Projector) -> None:
        self._pool = pool
        self._read_model = read_model

    async def one(self, tenant: str, kind: str, id: str) -> Found | None:
        """One object, if this tenant may see it."""
        rows = await self._rows(_ONE.format(schema=self._read_model.reading.schema), tenant, kind, id)
        return Found(*rows[0]) if rows else None

    async def page(
        self, tenant: str, kind: str, *, filters: Mapping[str, str], after: tuple[datetime, str] | None, limit: int
    ) -> list[Item]:
        """The next objects of a kind, newest first, whose fields have these values."""
        query, values = _PAGE.format(schema=self._read_model.reading.schema), [tenant, kind, *(after or (None, None))]
        for field, value in filters.items():
            query += f" and state->>${len(values) + 1} = ${len(values) + 2}"
            values += [field, value]
        query += f" order by created_at desc, id desc limit ${len(values) + 1}"
        return [Item(*row) for row in await self._rows(query, *values, limit)]

    async def feed(self, tenant: str, after: int, limit: int) -> Sequence[Told]:
        """The tenant's next events behind a number."""
        return [
            Told(
                number=row[0], id=str(row[1]), type=row[2], subject=row[3], version=row[4], time=row[5], actor=row[6],
                words=row[7], position=row[8], correlation_id=row[9], causation_id=row[10],
            )
            for row in await self._rows(_FEED, tenant, after, limit)
        ]  # fmt: skip

    async def feed_end(self, tenant: str) -> int:
        """The number of the tenant's newest event, 0 when there is none."""
        rows = await self._rows(_FEED_END, tenant)
        return int(rows[0][0]) if rows else 0

    async def caused(self, tenant: str, command_id: str) -> Caused | None:
        """What a command recorded, if the read model has heard of it."""
        rows = await self._rows(_CAUSED, tenant, command_id)
        return Caused(*rows[0]) if rows else None

    async def checkpoint(self, consumer: str, category: str, partition: int) -> int:
        """How far a version of the read model has come in one partition, whichever instance holds it."""
        position = await self._pool.fetchval(_CHECKPOINT, consumer, category, partition, timeout=TIMEOUT_SECONDS)
        return position or 0

    async def _rows(self, query: str, *values: Any) -> list[Any]:
        """What a query finds that begins with `_AS`; the first value is the tenant who reads."""
        async with self._pool.acquire(timeout=TIMEOUT_SECONDS) as connection:
            return await connection.fetch(query, *values, timeout=TIMEOUT_SECONDS)
