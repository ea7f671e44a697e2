"""How far verifications are, in PostgreSQL: whichever process is asked can tell."""

from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from bizosaas_events.messages.audit import Verification, Verified

KEPT_DAYS = 30

_BEGIN = """insert into verification (id, events, of_events, partitions, of_partitions) values ($1, 0, $2, 0, $3)
            on conflict (id) do update set events = 0, of_events = $2, partitions = 0, of_partitions = $3, result = null"""
_ADVANCE = "update verification set events = $2, partitions = $3 where id = $1"
_END = "update verification set events = of_events, partitions = of_partitions, result = $2 where id = $1"
_FORGET = f"delete from verification where began < now() - interval '{KEPT_DAYS} days'"

_decode = msgspec.json.Decoder(Verified).decode


class PostgresVerifications:
    """See `Verifications`."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def begin(self, id: str, events: int, partitions: int) -> None:
        await self._pool.execute(_FORGET)
        await self._pool.execute(_BEGIN, UUID(id), events, partitions)

    async def advance(self, id: str, events: int, partitions: int) -> None:
        await self._pool.execute(_ADVANCE, UUID(id), events, partitions)

    async def end(self, id: str, result: Verified) -> None:
        await self._pool.execute(_END, UUID(id), msgspec.json.encode(result))

    async def find(self, id: str) -> Verification | None:
        row = await self._pool.fetchrow("select * from verification where id = $1", UUID(id))
        if row is None:
            return None
        return Verification(
            id=id, status="done" if row["result"] else "running", events=row["events"], of_events=row["of_events"],
            partitions=row["partitions"], of_partitions=row["of_partitions"],
            result=_decode(row["result"]) if row["result"] else None,
        )  # fmt: skip
