"""The relay: events from the store of record to Redis Streams, in order, without gaps or repeats, from any state.

It keeps no checkpoint and needs no leader: an entry's id is its position, so
Redis itself refuses a repeat, and a Lua script refuses a gap and says where
it stands. Two may run at once; either may be killed at any time; Redis may
lose everything and is refilled from where its slowest consumer stood.

A stream keeps what its slowest consumer has not had, and always its last
entry: whoever is further behind sees that something is missing, says so, and
is served by `catching_up`. The stream itself goes on for everybody else.
"""

import asyncio
import contextlib
import logging
import time
from typing import Any, cast

import asyncpg

from .bus.base import Names
from .bus.connecting import Client
from .bus.packing import exchange, pack
from .bus.stands import Stand, stands
from .catching_up import AHEAD, CatchUp
from .entries import ADD, LAST, sent
from .outages import STORAGE_ERRORS
from .stopping import stop
from .store.postgres import PostgresEventStore

BATCH = 200
IDLE_SECONDS = 0.25
"""How often to look for events that another process appended; one's own appends wake the relay at once."""
PACE = 0.005
"""Seconds from one look for events to the next, while little is appended: what comes meanwhile is sent together."""
LOOK_SECONDS = 0.05
"""How often to look how far those have come who are behind."""
SYNC_SECONDS = 0.5
"""How often to ask Redis where it stands: notices a flushed or rolled-back Redis, and consumers that lag."""

_APPEND = f"""
{LAST}
local first = tonumber(ARGV[1])
-- An empty stream may start anywhere: below its first entry lies what whoever reads it has had.
if last > 0 and first > last + 1 or last == 0 and first > tonumber(ARGV[2]) + 1 then return -last - 1 end
{ADD.format(events=3)}
return position - 1
"""

PENDING = """
select e.part, e.position, e.stream, e.version, e.id, e.type, e.tenant, e.at, e.data, e.meta
from unnest($1::int[], $2::bigint[]) as u(part, last)
join event_partition p on p.part = u.part and p.position > u.last
cross join lateral (
    select * from event where part = u.part and position > u.last order by position limit $3
) e
"""

_BEGINS = """
select p.part, greatest(least(coalesce(f.position, 0), p.position - 1), 0) as begins
from event_partition p left join relay_floor f using (part) where p.part = any($1)
"""
_REMEMBER = """
insert into relay_floor select * from unnest($1::int[], $2::bigint[])
on conflict (part) do update set position = excluded.position
"""

_log = logging.getLogger(__name__)


class Relay:
    """Relays one store's log. `run` goes on until cancelled."""

    def __init__(self, store: PostgresEventStore, pool: "asyncpg.Pool[Any]", redis: Client, *, env: str) -> None:
        self._store = store
        self._pool = pool
        self._redis = redis
        self._names = Names(env)
        self._catch_up = CatchUp(store, pool, redis, self._names)
        self._behind: dict[int, dict[str, int]] = {}
        self._someone_is_behind = asyncio.Event()
        self._last: dict[int, int] = {}
        self._begins: dict[int, int] = {}
        self._synced = float("-inf")
        self._sending: asyncio.Task[list[Any]] | None = None
        self._counts: dict[int, int] = {}
        self.sent = 0
        self.failing_since: float | None = None

    async def run(self) -> None:
        """Relay for ever; while Redis or PostgreSQL is away, try again with growing pauses."""
        catching_up = asyncio.create_task(self._serve_who_is_behind())
        pause = 0.1
        try:
            while True:
                began = time.monotonic()
                try:
                    self._store.appended.clear()
                    more = await self.step()
                    self.failing_since, pause = None, 0.1
                    if not more:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._store.appended.wait(), IDLE_SECONDS)
                        await asyncio.sleep(began + PACE - time.monotonic())
                except STORAGE_ERRORS as error:
                    self.failing_since = self.failing_since or time.monotonic()
                    self._synced = float("-inf")
                    _log.warning("relay paused: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 2.0)
        finally:
            await stop([catching_up, *([self._sending] if self._sending else [])])

    async def _serve_who_is_behind(self) -> None:
        """Beside the relay's own steps: neither waits for the other."""
        while True:
            await self._someone_is_behind.wait()
            try:
                if await self._catch_up.step(self._behind) == 0:
                    await asyncio.sleep(LOOK_SECONDS)
            except STORAGE_ERRORS as error:
                _log.warning("catch-up streams paused: %s", error)
                await asyncio.sleep(SYNC_SECONDS)

    async def step(self) -> bool:
        """Take what is there, at most `BATCH` events a partition, and send it. Returns whether there may be more.

        While Redis works on a full batch, PostgreSQL is asked for the next: neither waits for the other.
        """
        if time.monotonic() - self._synced > SYNC_SECONDS:
            await self._settle()
            await self._sync()
        rows = await self._pool.fetch(PENDING, list(self._last), list(self._last.values()), BATCH)
        batches: dict[int, list[Any]] = {}
        for row in rows:
            batches.setdefault(row["part"], []).append(row)
        commands = []
        for part, batch in batches.items():
            key = self._names.partition(self._store.category, part)
            begins = self._begins.get(part, 0)
            commands.append((key, pack(("EVAL", _APPEND, 1, key, batch[0]["position"], begins, sent(batch)))))
        rewound = await self._settle()
        if commands:
            self._sending = asyncio.create_task(exchange(self._redis, commands))
            self._counts = {part: len(batch) for part, batch in batches.items()}
            # Until Redis says otherwise. What is sent behind a gap is refused as well, and sent again.
            self._last |= {p: batch[-1]["position"] for p, batch in batches.items() if p not in rewound}
        if any(len(batch) == BATCH for batch in batches.values()):
            return True
        # What is appended meanwhile waits, and comes together: at a few hundred a second, half as many questions.
        return bool(rewound | await self._settle())

    async def _settle(self) -> set[int]:
        """Hear what Redis made of the batch before: the partitions where it stands elsewhere than we thought."""
        if self._sending is None:
            return set()
        sending, self._sending = self._sending, None
        rewound = set()
        for (part, count), reached in zip(self._counts.items(), await sending, strict=True):
            if reached < 0:
                self._last[part] = max(-reached - 1, self._begins.get(part, 0))
                rewound.add(part)
            else:
                self.sent += count
        return rewound

    async def _sync(self) -> None:
        """Learn where each stream begins and ends, and where its consumers stand; go on or trim accordingly."""
        category, parts = self._store.category, range(self._store.partitions)
        found = await stands(self._redis, self._names, category, parts)
        said = cast("dict[bytes, bytes]", await self._redis.hgetall(self._names.checkpoints(category)))
        self._behind = {part: stand.behind for part, stand in enumerate(found) if stand.behind}
        if self._behind:
            self._someone_is_behind.set()
        else:
            self._someone_is_behind.clear()
        checkpoints: dict[int, dict[str, int]] = {}
        for field, position in said.items():
            consumer, _, number = field.decode().rpartition("|")
            checkpoints.setdefault(int(number), {})[consumer] = int(position)
        begins, lost = dict(self._begins), list[int]()
        trims: list[tuple[str, bytes]] = []
        for part, stand in enumerate(found):
            if stand.last == 0:
                lost.append(part)
                continue
            key = self._names.partition(category, part)
            begins[part], command = self._trim(key, part, stand, checkpoints.get(part, {}))
            if command:
                trims.append((key, pack(command)))
        # Meanwhile nothing is relayed: one round trip for all, not one each.
        await exchange(self._redis, trims)
        if lost:
            begins |= await self._begin(lost)
        await self._remember(begins)
        self._synced = time.monotonic()

    def _trim(
        self, key: str, part: int, stand: Stand, checkpoints: dict[str, int]
    ) -> tuple[int, tuple[str, ...] | None]:
        """Drop what all have had who read this stream: behind which position it begins then, and the command for it."""
        end = stand.last
        if stand.first == 0:  # whoever is behind would not see it: lay the last entry again
            self._last[part] = end - 1
            return end - 1, ("DEL", key)
        self._last[part] = end
        begins = stand.first - 1
        floor = min(
            # Who has nearly met the stream must find it where it is.
            (at for who, at in checkpoints.items() if who not in stand.behind or stand.behind[who] + AHEAD >= begins),
            default=0,
        )
        floor = min(floor, end - 1)
        if floor <= begins:
            return begins, None
        return floor, ("XTRIM", key, "MINID", f"{floor + 1}-0")

    async def _begin(self, lost: list[int]) -> dict[int, int]:
        """Where streams that are not there have to begin: where they did, and never behind the last event."""
        rows = await self._pool.fetch(_BEGINS, lost)
        begins = {row["part"]: row["begins"] for row in rows}
        self._last |= begins
        return begins

    async def _remember(self, begins: dict[int, int]) -> None:
        """Keep in the store where each stream begins, because Redis may forget."""
        if changed := {part: at for part, at in begins.items() if self._begins.get(part) != at}:
            parts = sorted(changed)  # two relays that lock the rows in different orders would wait for each other
            await self._pool.execute(_REMEMBER, parts, [changed[part] for part in parts])
        self._begins = begins
