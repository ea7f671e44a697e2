"""A consumer group of Redis as a work queue uses it: reading, retries by due time, take-over, hand-over, tidying up.

What must not be torn apart by a death between two commands is Lua; all keys
of a script share the hash tag of the stream, so that they work on Redis Cluster.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, cast

from redis.exceptions import ResponseError

from .bus.connecting import Client

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_TAKE = """
local function take(id)
  local found = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id)
  if #found == 0 or not found[1] then return nil end
  return {id, found[1][2], redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1][4]}
end
"""

_SCHEDULE = f"""{_NOW}
return redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[2])
"""

# From the moment it is taken, the pending list knows whose it is: if that one dies, it is found abandoned.
_TAKE_DUE = f"""{_NOW}{_TAKE}
local taken = {{}}
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
  redis.call('ZREM', KEYS[2], id)
  taken[#taken + 1] = take(id)
end
return taken
"""

_TAKE_ABANDONED = f"""{_TAKE}
local taken, last = {{}}, '-'
local silent = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[4], ARGV[5], '+', ARGV[3])
for _, entry in ipairs(silent) do
  last = '(' .. entry[1]
  if not redis.call('ZSCORE', KEYS[2], entry[1]) then taken[#taken + 1] = take(entry[1]) end
end
if #silent < tonumber(ARGV[3]) then last = '-' end
return {{last, taken}}
"""

# Deleting a consumer throws its pending entries away: only those that have none.
_REAP = """
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #info, 2 do consumer[info[i]] = info[i + 1] end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
  end
end
"""

# Below the oldest entry that some group has not done there is nothing anybody needs.
_TRIM = """
local floor
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #info, 2 do group[info[i]] = info[i + 1] end
  local oldest = redis.call('XPENDING', KEYS[1], group.name)[2] or group['last-delivered-id']
  local ms, n = string.match(oldest, '^(%d+)-(%d+)$')
  ms, n = tonumber(ms), tonumber(n)
  if not floor or ms < floor.ms or ms == floor.ms and n < floor.n then floor = {ms = ms, n = n, id = oldest} end
end
if floor then redis.call('XTRIM', KEYS[1], 'MINID', floor.id) end
"""

LONG_AGO_MS = 1_000_000_000


class Entry(NamedTuple):
    """A stream entry in hand, and how often it has been delivered."""

    id: bytes
    fields: dict[bytes, bytes]
    deliveries: int


class Group:
    """One consumer of a group. Everything raises RedisError when Redis is away, NOGROUP until `provision`."""

    def __init__(self, redis: Client, stream: str, group: str, me: str, *, idle_ms: int) -> None:
        self._redis = redis
        self._stream = stream
        self._group = group
        self._me = me
        self._idle_ms = idle_ms
        self._keys = [stream, f"{stream}:retry:{group}"]
        self._abandoned_from: bytes | str = "-"
        self._schedule = redis.register_script(_SCHEDULE)
        self._take_due = redis.register_script(_TAKE_DUE)
        self._take_abandoned = redis.register_script(_TAKE_ABANDONED)
        self._reap = redis.register_script(_REAP)
        self._trim = redis.register_script(_TRIM)

    async def provision(self) -> None:
        """Make the group where there is none: at the beginning, so that nothing sent before is skipped."""
        try:
            await self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def new(self, count: int, block_ms: int) -> list[Entry]:
        """What nobody has had yet."""
        found = await self._redis.xreadgroup(self._group, self._me, {self._stream: ">"}, count=count, block=block_ms)
        streams = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", found or [])
        return [Entry(entry_id, fields, 1) for _, entries in streams for entry_id, fields in entries]

    async def old(self, count: int) -> list[Entry]:
        """What is due again, and what a silent process left behind."""
        found: list[Any] = await self._take_due(keys=self._keys, args=[self._group, self._me, count])
        if len(found) < count:
            who: list[Any] = [self._group, self._me, count - len(found), self._idle_ms, self._abandoned_from]
            self._abandoned_from, abandoned = await self._take_abandoned(keys=self._keys, args=who)
            found += abandoned
        return [Entry(id, dict(zip(flat[::2], flat[1::2], strict=True)), n) for id, flat, n in found]

    async def done(self, ids: Sequence[bytes]) -> None:
        await self._redis.xack(self._stream, self._group, *ids)

    async def again(self, id: bytes, pause: float) -> None:
        """Let somebody try this entry again after so many seconds."""
        await self._schedule(keys=self._keys, args=[int(pause * 1000), id])

    async def keep(self, ids: Collection[bytes]) -> None:
        """Say that we are alive with these entries."""
        if ids:
            await self._redis.xclaim(self._stream, self._group, self._me, 0, list(ids), idle=0, justid=True)

    async def hand_over(self) -> None:
        """Let others take at once what we have not finished."""
        while pending := await self._redis.xpending_range(self._stream, self._group, "-", "+", 1000, self._me, idle=0):
            ids = [entry["message_id"] for entry in cast("list[dict[str, bytes]]", pending)]
            await self._redis.xclaim(
                self._stream, self._group, self._me, 0, cast(Any, ids), idle=LONG_AGO_MS, justid=True
            )
            if len(pending) < 1000:
                return

    async def tidy(self, gone_ms: int) -> None:
        """Delete what every group has done, and forget consumers that have been away for so long."""
        await self._trim(keys=self._keys[:1])
        await self._reap(keys=self._keys[:1], args=[self._group, gone_ms])
