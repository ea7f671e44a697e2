"""Catch-up streams: what a consumer that is far behind reads, while the partition's stream goes on for all others.

A consumer that sees a hole in a partition's stream says where it stands in the
hash `Names.behind`, and again with each step it makes; the relay of the log's
owner keeps the next `AHEAD` events in a stream of that consumer alone, and
trims what it has had. When the consumer meets the partition's stream, or is
forgotten, both go. Like the relay itself this needs no leader and no memory.
"""

from collections.abc import Mapping
from typing import Any

import asyncpg

from .bus.base import Names
from .bus.connecting import Client
from .bus.packing import exchange, pack
from .entries import ADD, LAST, sent
from .store.postgres import PostgresEventStore

AHEAD = 2000
"""Events laid ahead of a consumer, in each partition: about a megabyte of Redis."""
BATCH = 500

_LAY = f"""
local asked = tonumber(redis.call('HGET', KEYS[2], ARGV[1]))
if not asked then
  redis.call('DEL', KEYS[1])
  return {{-1, -1}}
end
{LAST}
if last > 0 then redis.call('XTRIM', KEYS[1], 'MINID', (asked + 1) .. '-0') end
if last ~= asked then
  local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
  -- It does not go on where the consumer stands, such as after a loss: begin again.
  if not entries[1] or entries[1][1] ~= (asked + 1) .. '-0' then
    redis.call('DEL', KEYS[1])
    last = asked
  end
end
if #ARGV == 1 then return {{last, asked}} end
local first = tonumber(ARGV[2])
if first > last + 1 then return {{last, asked}} end
{ADD.format(events=3)}
return {{position - 1, asked}}
"""
_WANTED = """
select u.n, e.part, e.position, e.stream, e.version, e.id, e.type, e.tenant, e.at, e.data, e.meta
from unnest($1::int[], $2::bigint[], $3::bigint[]) with ordinality as u(part, last, until, n)
cross join lateral (
    select * from event where part = u.part and position > u.last and position <= u.until order by position
) e
"""

Behind = Mapping[int, Mapping[str, int]]
"""By partition: who is behind its stream, and where each stands."""


class CatchUp:
    """Lays the catch-up streams of one log."""

    def __init__(self, store: PostgresEventStore, pool: "asyncpg.Pool[Any]", redis: Client, names: Names) -> None:
        self._store = store
        self._pool = pool
        self._redis = redis
        self._names = names

    async def step(self, behind: Behind) -> int:
        """Give each who is behind its next events, at most `BATCH`; how many that were, 0 when all have enough."""
        asking = [(part, consumer) for part, consumers in behind.items() for consumer in consumers]
        stands = await exchange(self._redis, [self._lay(*who) for who in asking])
        needy = [
            (n, last, min(last + BATCH, asked + AHEAD))
            for n, (last, asked) in enumerate(stands)
            if 0 <= last < asked + AHEAD
        ]
        if not needy:
            return 0
        numbers, lasts, untils = (list(column) for column in zip(*needy, strict=True))
        parts = [asking[n][0] for n in numbers]
        batches: dict[int, list[Any]] = {}
        for row in await self._pool.fetch(_WANTED, parts, lasts, untils):
            batches.setdefault(numbers[row["n"] - 1], []).append(row[1:])
        lay = [self._lay(*asking[n], rows[0][1], sent(rows)) for n, rows in batches.items()]
        await exchange(self._redis, lay)
        return sum(map(len, batches.values()))

    def _lay(self, part: int, consumer: str, *events: bytes | int) -> tuple[str, bytes]:
        names, category = self._names, self._store.category
        keys = names.again(category, part, consumer), names.behind(category, part)
        return keys[0], pack(("EVAL", _LAY, 2, *keys, consumer, *events))
