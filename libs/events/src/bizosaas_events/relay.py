"""The relay: events from the store of record to Redis Streams, in order, without gaps or repeats, from any state.

It keeps no checkpoint and needs no leader: an entry's id is its position, so
Redis itself refuses a repeat, and a Lua script refuses a gap and says where
it stands. Two may run at once; either may be killed at any time; Redis may
lose everything and is refilled from where its slowest consumer stands.
"""

import asyncio
import contextlib
import logging
import time
from typing import Any, cast

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from .bus.base import Names
from .bus.packing import exchange, pack
from .envelope import CONTENT_TYPE, FIELDS, SPECVERSION
from .outages import STORAGE_ERRORS
from .stopping import stop
from .store.postgres import PostgresEventStore, decode_meta

BATCH = 500
IDLE_SECONDS = 0.25
"""How often to look for events that another process appended; one's own appends wake the relay at once."""
SYNC_SECONDS = 0.5
"""How often to ask Redis where it stands: notices a flushed or rolled-back Redis, and consumers that lag."""

# What the script knows by itself, so that it need not be sent with every event.
_KNOWN = {
    "specversion": f"'{SPECVERSION}'",
    "datacontenttype": f"'{CONTENT_TYPE}'",
    "partitionkey": "tenantid .. '/' .. subject",
    "sequence": "position",
}
_SENT = [name for name in FIELDS if name not in _KNOWN]

_APPEND = f"""
local last, info = 0, redis.pcall('XINFO', 'STREAM', KEYS[1])
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^(%d+)')) end
  end
end
local first = tonumber(ARGV[1])
-- An empty stream may start anywhere: below its first entry lies what every consumer has had.
if last > 0 and first > last + 1 or last == 0 and first > tonumber(ARGV[2]) + 1 then return -last - 1 end
local position = first
for i = 3, #ARGV, {len(_SENT)} do
  if position > last then
    local {", ".join(_SENT)} = unpack(ARGV, i, i + {len(_SENT) - 1})
    redis.call('XADD', KEYS[1], position .. '-0', {", ".join(f"'{name}', {_KNOWN.get(name, name)}" for name in FIELDS)})
  end
  position = position + 1
end
return position - 1
"""

_PENDING = """
select e.part, e.position, e.stream, e.version, e.id, e.type, e.tenant, e.at, e.data, e.meta
from unnest($1::int[], $2::bigint[]) as u(part, last)
join event_partition p on p.part = u.part and p.position > u.last
cross join lateral (
    select * from event where part = u.part and position > u.last order by position limit $3
) e
"""

_log = logging.getLogger(__name__)


class Relay:
    """Relays one store's log. `run` goes on until cancelled."""

    def __init__(self, store: PostgresEventStore, pool: "asyncpg.Pool[Any]", redis: Redis, *, env: str) -> None:
        self._store = store
        self._pool = pool
        self._redis = redis
        self._names = Names(env)
        self._last: dict[int, int] = {}
        self._floor: dict[int, int] = {}
        self._synced = float("-inf")
        self._sending: asyncio.Task[list[Any]] | None = None
        self._counts: dict[int, int] = {}
        self.sent = 0
        self.failing_since: float | None = None

    async def run(self) -> None:
        """Relay for ever; while Redis or PostgreSQL is away, try again with growing pauses."""
        pause = 0.1
        try:
            while True:
                try:
                    self._store.appended.clear()
                    idle = await self.step() == 0
                    self.failing_since, pause = None, 0.1
                    if idle:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._store.appended.wait(), IDLE_SECONDS)
                except STORAGE_ERRORS as error:
                    self.failing_since = self.failing_since or time.monotonic()
                    self._synced = float("-inf")
                    _log.warning("relay paused: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 2.0)
        finally:
            if self._sending is not None:
                await stop([self._sending])

    async def step(self) -> int:
        """Take what is there, at most `BATCH` events a partition, and send it; how many it took, 0 when all is sent.

        While Redis works on a batch, PostgreSQL is asked for the next: neither waits for the other.
        """
        if time.monotonic() - self._synced > SYNC_SECONDS:
            await self._settle()
            await self._sync()
        rows = await self._pool.fetch(_PENDING, list(self._last), list(self._last.values()), BATCH)
        batches: dict[int, list[Any]] = {}
        for row in rows:
            batches.setdefault(row["part"], []).append(row)
        commands = []
        for part, batch in batches.items():
            key = self._names.partition(self._store.category, part)
            arguments: list[str | bytes | int] = [batch[0]["position"], self._floor.get(part, 0)]
            for row in batch:
                arguments += _sent(row)
            commands.append(pack(("EVAL", _APPEND, 1, key, *arguments)))
        rewound = await self._settle()
        if commands:
            self._sending = asyncio.create_task(exchange(self._redis, commands))
            self._counts = {part: len(batch) for part, batch in batches.items()}
            # Until Redis says otherwise. What is sent behind a gap is refused as well, and sent again.
            self._last |= {p: batch[-1]["position"] for p, batch in batches.items() if p not in rewound}
        return len(rows) + len(rewound)

    async def _settle(self) -> set[int]:
        """Hear what Redis made of the batch before: the partitions where it stands elsewhere than we thought."""
        if self._sending is None:
            return set()
        sending, self._sending = self._sending, None
        rewound = set()
        for (part, count), reached in zip(self._counts.items(), await sending, strict=True):
            if reached < 0:
                self._last[part] = max(-reached - 1, self._floor.get(part, 0))
                rewound.add(part)
            else:
                self.sent += count
        return rewound

    async def _sync(self) -> None:
        """Learn where each stream ends and where its consumers stand; rewind or trim accordingly."""
        floors = await self._floors()
        pipeline = self._redis.pipeline(transaction=False)
        for part in range(self._store.partitions):
            pipeline.xinfo_stream(self._names.partition(self._store.category, part))
        for part, info in enumerate(await pipeline.execute(raise_on_error=False)):
            floor = floors.get(part, 0)
            if isinstance(info, ResponseError):  # no such stream
                self._last[part] = floor
            elif isinstance(info, Exception):
                raise info
            else:
                await self._place(part, floor, info)
        self._floor = floors
        self._synced = time.monotonic()

    async def _place(self, part: int, floor: int, info: dict[str, Any]) -> None:
        key = self._names.partition(self._store.category, part)
        end = int(info["last-generated-id"].split(b"-")[0])
        entry = info["first-entry"]
        first = int(entry[0].split(b"-")[0]) if entry else end + 1
        if floor + 1 < first:  # a consumer needs what was trimmed: lay the stream anew from there
            _log.info("partition %s of %s is laid anew from %s", part, self._store.category, floor)
            await self._redis.delete(key)
            self._last[part] = floor
            return
        self._last[part] = end
        if floor >= first:
            await self._redis.xtrim(key, minid=f"{floor + 1}-0", approximate=False)

    async def _floors(self) -> dict[int, int]:
        """The position of the slowest consumer of each partition; 0 where none has been heard of.

        Kept in the store too, because Redis may forget; a floor that is too
        low only costs a few entries sent again.
        """
        said = cast("dict[bytes, bytes]", await self._redis.hgetall(self._names.checkpoints(self._store.category)))
        floors: dict[int, int] = {}
        for field, position in said.items():
            part = int(field.rpartition(b"|")[2])
            floors[part] = min(floors.get(part, 1 << 62), int(position))
        if not floors:
            rows = await self._pool.fetch("select part, position from relay_floor")
            return {row["part"]: row["position"] for row in rows}
        if floors != self._floor:
            parts = sorted(floors)  # two relays that lock the rows in different orders would wait for each other
            await self._pool.execute(
                "insert into relay_floor select * from unnest($1::int[], $2::bigint[]) "
                "on conflict (part) do update set position = excluded.position",
                parts, [floors[part] for part in parts],
            )  # fmt: skip
        return floors


def _sent(row: asyncpg.Record) -> tuple[str | bytes, ...]:
    """The values of `_SENT`, without an Envelope in between: it would take half of the relay's time."""
    _, _, stream, version, id, type_, tenant, at, data, meta = row
    m = decode_meta(meta)
    return (
        str(id), m.source, type_, stream, at.isoformat(), str(version), tenant, m.actorid, m.actorrole,
        m.correlationid, m.causationid, m.traceparent, data,
    )  # fmt: skip
