"""The read model of connections in PostgreSQL; `handlers/projections.py` writes it."""

from collections.abc import Callable
from typing import Any

import asyncpg
import msgspec

from ..domain.gate import Connection

TABLES = """
create table connection (
    id text primary key,
    tenant text not null,
    status text not null,
    view bytea not null
);
create index connection_of_tenant on connection (tenant) where status <> 'closed';
"""
"""Of each version, in a schema of its own; of the first one, in the migrations."""


class PostgresConnections:
    """See `Connections`. `schema` says where the version is that is to be read."""

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: Callable[[], str]) -> None:
        self._pool = pool
        self._schema = schema

    async def of(self, tenant: str) -> list[Connection]:
        rows = await self._pool.fetch(
            f"select view from {self._schema()}.connection where tenant = $1 and status <> 'closed' order by id",
            tenant,
        )
        return [msgspec.json.decode(row["view"], type=Connection) for row in rows]
