"""Leases: how the instances of one consumer share its partitions, and how one that was thought dead is kept from writing.

An instance is alive while it says so; its partitions are its own for as long.
Each time a partition changes hands its fence grows, and whoever commits with
an older one is refused. All of it lives in the consumer's own database.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

Key = tuple[str, int]
"""A partition of a log: its category and its number."""

_REGISTER = """insert into consumer_partition (consumer, category, part)
               select $1, $2, generate_series(0, $3::int - 1) on conflict do nothing"""
_ALIVE = """insert into consumer_instance (consumer, instance, until) values ($1, $2, now() + $3 * interval '1 second')
            on conflict (consumer, instance) do update set until = excluded.until"""
_BURY = "delete from consumer_instance where consumer = $1 and until < now() - interval '1 minute'"
_OTHERS = """select count(*) as alive, extract(epoch from min(until) - now())::float as next from consumer_instance
             where consumer = $1 and instance <> $2 and until > now()"""
_MINE = """select category, part, fence, position from consumer_partition
           where consumer = $1 and owner = $2 order by category, part"""
_CLAIM = """
update consumer_partition set owner = $2, fence = fence + 1
where (consumer, category, part) in (
    select consumer, category, part from consumer_partition p
    where consumer = $1 and not exists (
        select from consumer_instance i where i.consumer = $1 and i.instance = p.owner and i.until > now())
    order by random() limit $3 for update skip locked)
"""
_RELEASE = """update consumer_partition set owner = null
              where consumer = $1 and owner = $2
              and (category, part) in (select * from unnest($3::text[], $4::int[]))"""
_LEAVE = "delete from consumer_instance where consumer = $1 and instance = $2"
_CHECKPOINT = """
update consumer_partition p set position = m.reached
from unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[]) as m (category, part, fence, position, reached)
where p.consumer = $1 and p.category = m.category and p.part = m.part
and p.owner = $2 and p.fence = m.fence and p.position = m.position
"""


class FencedError(Exception):
    """The partition went to another instance; nothing was written."""


class Lease(NamedTuple):
    """A partition of ours, under which fence, and how far it has come."""

    fence: int
    position: int


class Leases:
    """What one instance of a consumer holds."""

    def __init__(self, consumer: str, instance: str, pool: "asyncpg.Pool[Any]", *, ttl: float) -> None:
        self._consumer = consumer
        self._instance = instance
        self._pool = pool
        self._ttl = ttl
        self._partitions = 0

    async def register(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Make known which logs are consumed, and how many partitions each has."""
        total = 0
        for category, count in partitions:
            await self._pool.execute(_REGISTER, self._consumer, category, count)
            total += count
        self._partitions = total

    async def renew(self) -> tuple[dict[Key, Lease], float]:
        """Keep what is ours, take a fair share of what is free, give back what is above it.

        Returns what is ours now, and in how many seconds to call again: early
        when another instance's time is about to run out.
        """
        await self._pool.execute(_ALIVE, self._consumer, self._instance, self._ttl)
        await self._pool.execute(_BURY, self._consumer)
        (others,) = await self._pool.fetch(_OTHERS, self._consumer, self._instance)
        share = -(-self._partitions // (others["alive"] + 1))
        mine = await self._pool.fetch(_MINE, self._consumer, self._instance)
        if len(mine) < share:
            await self._pool.execute(_CLAIM, self._consumer, self._instance, share - len(mine))
            # PostgreSQL looks by itself after a minute. Until then it takes it that we hold next to nothing, and goes
            # through all we hold for each partition that moves: 40 ms and not 1.4 where 448 do.
            await self._pool.execute("analyze consumer_partition")
            mine = await self._pool.fetch(_MINE, self._consumer, self._instance)
        elif len(mine) > share:
            await self.release([(row["category"], row["part"]) for row in mine[share:]])
            mine = mine[:share]
        pause = self._ttl / 4 if others["next"] is None else min(self._ttl / 4, others["next"] + 0.05)
        return {(row["category"], row["part"]): Lease(row["fence"], row["position"]) for row in mine}, pause

    async def release(self, keys: Sequence[Key]) -> None:
        """Give partitions back, for another instance to take at once."""
        if keys:
            categories, parts = zip(*keys, strict=True)
            await self._pool.execute(_RELEASE, self._consumer, self._instance, list(categories), list(parts))

    async def leave(self) -> None:
        """Give everything back."""
        await self._pool.execute(_LEAVE, self._consumer, self._instance)

    async def advance(self, connection: Any, moves: Mapping[Key, tuple[Lease, int]]) -> None:
        """Move checkpoints to these positions, within the connection's transaction.

        Raises FencedError when one of them is not ours any more.
        """
        rows = [(*key, *lease, to) for key, (lease, to) in moves.items()]
        columns = map(list, zip(*rows, strict=True))
        done = await connection.execute(_CHECKPOINT, self._consumer, self._instance, *columns)
        if done != f"UPDATE {len(rows)}":
            raise FencedError
