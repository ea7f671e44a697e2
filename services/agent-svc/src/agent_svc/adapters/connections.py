"""The read model of connections in PostgreSQL; `handlers/projections.py` writes it."""

from typing import Any

import asyncpg
import msgspec

from ..domain.gate import Connection


class PostgresConnections:
    """See `Connections`."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def of(self, tenant: str) -> list[Connection]:
        rows = await self._pool.fetch(
            "select view from connection where tenant = $1 and status <> 'closed' order by id", tenant
        )
        return [msgspec.json.decode(row["view"], type=Connection) for row in rows]
