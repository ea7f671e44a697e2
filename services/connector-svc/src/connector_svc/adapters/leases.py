"""Leases in our own PostgreSQL: one row while held, renewed by the holder, free again when the holder is silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import structlog

from bizosaas_events import new_id
from bizosaas_events.stopping import stop

from ..domain.ports import Lease, LeaseLostError, LeaseTakenError

TTL_SECONDS = 6.0
POLL_SECONDS = 0.05

_TAKE = """
insert into lease (name, owner, until) values ($1, $2, now() + $3 * interval '1 second')
on conflict (name) do update set owner = excluded.owner, fence = nextval('lease_fence'), until = excluded.until
    where lease.until < now()
returning fence
"""
_RENEW = "update lease set until = now() + $3 * interval '1 second' where name = $1 and owner = $2 and until > now()"
_FREE = "delete from lease where name = $1 and owner = $2"

_log = structlog.get_logger(__name__)


class PostgresLease:
    """See `Lease`."""

    def __init__(self, pool: "asyncpg.Pool[Any]", name: str, owner: str, fence: int, ttl: float) -> None:
        self.fence = fence
        self._pool = pool
        self._key = (name, owner)
        self._ttl = ttl

    async def check(self) -> None:
        if await self._pool.execute(_RENEW, *self._key, self._ttl) != "UPDATE 1":
            raise LeaseLostError(self._key[0])

    async def keep(self) -> None:
        """Renew until cancelled; an outage of the database may cost us the lease, which `check` then says."""
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                await self.check()
            except LeaseLostError:
                _log.warning("lease lost", lease=self._key[0])
                return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.warning("lease not renewed", lease=self._key[0], reason=type(error).__name__)


class PostgresLeases:
    """See `Leases`."""

    def __init__(self, pool: "asyncpg.Pool[Any]", *, ttl: float = TTL_SECONDS) -> None:
        self._pool = pool
        self._ttl = ttl

    @contextlib.asynccontextmanager
    async def hold(self, name: str, *, wait: float) -> AsyncIterator[Lease]:
        owner = new_id()
        lease = PostgresLease(self._pool, name, owner, await self._take(name, owner, wait), self._ttl)
        keeping = asyncio.create_task(lease.keep())
        try:
            yield lease
        finally:
            await stop([keeping])
            # Not given back, it ends by itself.
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._pool.execute(_FREE, name, owner)

    async def _take(self, name: str, owner: str, wait: float) -> int:
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + wait, POLL_SECONDS
        while True:
            fence = await self._pool.fetchval(_TAKE, name, owner, self._ttl)
            if fence is not None:
                return int(fence)
            if loop.time() >= until:
                raise LeaseTakenError(name)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.5)
