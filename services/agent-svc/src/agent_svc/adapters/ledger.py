"""The ledger of steps in PostgreSQL."""

from typing import Any

import asyncpg
import msgspec

from ..domain.ports import Kept, Step


class PostgresLedger:
    """See `Ledger`."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def steps(self, run_id: str) -> list[Step]:
        rows = await self._pool.fetch(
            "select n, kind, name, digest, payload from run_step where run_id = $1 order by n", run_id
        )
        return [Step(**dict(row)) for row in rows]

    async def record(self, run_id: str, step: Step) -> Step:
        # The update changes nothing; it makes `returning` give the row of whoever was first.
        rows = await self._pool.fetch(
            "insert into run_step (run_id, n, kind, name, digest, payload) values ($1, $2, $3, $4, $5, $6) "
            "on conflict (run_id, n) do update set n = excluded.n returning n, kind, name, digest, payload",
            run_id, step.n, step.kind, step.name, step.digest, step.payload,
        )  # fmt: skip
        return Step(**dict(rows[0]))

    async def keep_output(self, run_id: str, output: Kept) -> Kept:
        kept = await self._pool.fetchval(
            "insert into run_output (run_id, output) values ($1, $2) "
            "on conflict (run_id) do update set run_id = excluded.run_id returning output",
            run_id, msgspec.json.encode(output),
        )  # fmt: skip
        return msgspec.json.decode(kept, type=Kept)

    async def output(self, run_id: str) -> Kept | None:
        found = await self._pool.fetchval("select output from run_output where run_id = $1", run_id)
        return msgspec.json.decode(found, type=Kept) if found else None

    async def scrub(self, run_id: str) -> None:
        await self._pool.execute(
            "update run_step set payload = '', scrubbed_at = now() "
            "where run_id = $1 and kind = 'tool' and scrubbed_at is null",
            run_id,
        )

    async def scrub_abandoned(self, hours: int) -> int:
        done = await self._pool.execute(
            "update run_step set payload = '', scrubbed_at = now() where kind = 'tool' and scrubbed_at is null "
            "and at < now() - $1 * interval '1 hour'",
            hours,
        )
        return int(done.rpartition(" ")[2])
