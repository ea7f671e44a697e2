"""The signed statements in PostgreSQL, beside the journal they speak of: the copy that the export is refilled from."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg

from bizosaas_events.heads import Line

LOCK = 0x68656164
"""One number for everybody who signs for this database."""

_AFTER = "select line from signed_heads where number > $1 order by number limit $2"
_ADD = "insert into signed_heads (number, at, whole, line) values ($1, $2, $3, $4)"
_AT = """select line from signed_heads
         where number <= (select max(number) from signed_heads where at <= coalesce($1::timestamptz, 'infinity'))
         and number >= (select max(number) from signed_heads where at <= coalesce($1::timestamptz, 'infinity') and whole)
         order by number"""


class PostgresStatements:
    """See `Statements`."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[bool]:
        async with self._pool.acquire() as connection, connection.transaction():
            yield await connection.fetchval("select pg_try_advisory_xact_lock($1)", LOCK)

    async def after(self, number: int, limit: int) -> list[bytes]:
        return [row["line"] for row in await self._pool.fetch(_AFTER, number, limit)]

    async def add(self, line: Line, raw: bytes) -> None:
        said = line.statement
        try:
            await self._pool.execute(_ADD, said.number, said.time, said.whole, raw)
        except asyncpg.UniqueViolationError as error:
            raise ValueError(f"statement {said.number} was signed already") from error

    async def at(self, moment: datetime | None = None) -> list[bytes]:
        return [row["line"] for row in await self._pool.fetch(_AT, moment)]
