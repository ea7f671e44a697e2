"""Everything at once, under load, for as long as one likes: `make crash SECONDS=60`."""

import asyncio
import contextlib
import functools
import os
import random
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from bizosaas_events.store.migrating import migrate
from bizosaas_events.testing.children import Children, dice
from bizosaas_events.testing.waiting import until
from bizosaas_sandbox.servers.postgres import Postgres
from bizosaas_sandbox.servers.redis import Redis as RedisServer

pytestmark = pytest.mark.kill

SECONDS = float(os.environ.get("BIZOS_CRASH_SECONDS", "10"))
DRAIN_SECONDS = 60
PROGRAM = Path(__file__).with_name("program.py")
ENV = "crash"
MESSAGE_EVERY = 5  # as in program.py
PROJECTIONS = ("projection", "following")
CONSUMERS = ("relay", "ordered", "follower", "queue")
ROLES = ("producer", *CONSUMERS)
TABLES = """
create table projection (stream text primary key, n int not null, bad int not null);
create table following (stream text primary key, n int not null, bad int not null);
create table effect (account text not null, n int not null)
"""


class Told(NamedTuple):
    """The highest number by account that a producer was told is done: appended to the log, sent to the queue."""

    log: Counter[str]
    queue: Counter[str]


class Crash:
    """A log, its producers and consumers and a queue, each of which is killed at random moments.

    The queue has a Redis of its own, which is killed as well, but not flushed: a
    queue is nowhere else, while the log's streams may be lost at any time.
    """

    def __init__(
        self, folder: Path, postgres: Postgres, redis: RedisServer, queue_redis: RedisServer, dice: random.Random
    ) -> None:
        self.struck = Counter[str]()
        self.found = ""
        self._folder = folder
        self._random = dice
        self._postgres = postgres
        self._redis = redis
        self._queue_redis = queue_redis
        self._database = postgres.create_database("log", "tester", "tester")
        self._children = {role: Children(PROGRAM, folder / f"{role}.log") for role in ROLES}
        self._names = map(str, count())
        self._at_work: dict[str, dict[str, Process]] = {role: {} for role in ROLES}
        self._starting: list[asyncio.Task[None]] = []

    async def start(self, stack: AsyncExitStack) -> None:
        await asyncio.to_thread(migrate, self._database)
        connection = await asyncpg.connect(self._database)
        await connection.execute(TABLES)
        await connection.close()
        for children in self._children.values():
            await stack.enter_async_context(children)
        await asyncio.gather(*(self._start(role, next(self._names)) for role in CONSUMERS for _ in range(2)))
        await asyncio.gather(*(self._start("producer", next(self._names)) for _ in range(2)))

    async def strike(self, seconds: float) -> None:
        """Kill at random moments for so long, and say now and then how far it is."""
        begun = said = time.monotonic()
        for what, blow in self._blows():
            await asyncio.sleep(self._random.uniform(0, 0.3))
            now = time.monotonic()
            if now - begun > seconds:
                break
            await blow()
            self.struck[what] += 1
            if now - said > 5:
                said, done = now, self._told().log.total()
                print(f"{now - begun:5.0f} s: {done:,} events acknowledged, {self.struck.total()} blows", flush=True)
        await self._all_started()

    async def settle(self) -> dict[str, int]:
        """Let the producers end and everybody else finish; then say in one line what came of it, and return what is wrong."""
        for producer in list(self._children["producer"].alive):
            await self._children["producer"].stop(producer)
        async with asyncpg.create_pool(self._database, min_size=1, max_size=1) as pool:

            async def nothing_is_missing() -> bool:
                return not (await self._count(pool))[1]["lost"]

            with contextlib.suppress(AssertionError):  # what is missing in the end is counted
                await until(nothing_is_missing, DRAIN_SECONDS)
            await asyncio.sleep(1)  # what is done twice may be done a moment later
            line, wrong = await self._count(pool)
        print(line, self.found if any(wrong.values()) else "")
        return wrong

    async def _count(self, pool: "asyncpg.Pool[Any]") -> tuple[str, dict[str, int]]:
        """Compare what there is with what the producers were told."""
        events = await pool.fetch(
            "select stream, version, (convert_from(data, 'UTF8')::json->>'cents')::int as n from event"
        )
        effects = Counter((row["account"], row["n"]) for row in await pool.fetch("select account, n from effect"))
        projected = [
            Counter({row["stream"]: row["n"] for row in await pool.fetch(f"select stream, n from {table}")})
            for table in PROJECTIONS
        ]
        bad = [await pool.fetchval(f"select coalesce(sum(bad), 0) from {table}") for table in PROJECTIONS]
        told, recorded = self._told(), Counter(row["stream"] for row in events)
        messages = {(a, n) for a, last in told.queue.items() for n in range(MESSAGE_EVERY, last + 1, MESSAGE_EVERY)}
        forgotten = Counter({f"account-{account}": n for account, n in told.log.items()}) - recorded
        missing = [recorded - found for found in projected]
        unsent = Counter(messages - effects.keys())
        twice = [Counter(row["stream"] for row in events if row["n"] != row["version"])]
        twice += [found - recorded for found in projected]
        twice.append(effects - Counter(effects.keys()))
        wrong = {
            "lost": sum(part.total() for part in (forgotten, *missing, unsent)),
            "doubled": sum(part.total() for part in twice),
            "out of order": sum(bad),
        }
        if any(wrong.values()):
            dead = await pool.fetch("select consumer, id, reason, attempts from dead_letter")
            self.found = f"dead {dead}, not in the log {forgotten}, not projected {missing}, without effect {unsent}, twice {twice}"
        struck = ", ".join(f"{n} {what}" for what, n in sorted(self.struck.items()))
        line = (
            f"{len(events):,} events, {len(effects):,} messages; {self.struck.total()} blows ({struck}): "
            + ", ".join(f"{what} {n}" for what, n in wrong.items())
        )  # fmt: skip
        return line, wrong

    def _told(self) -> Told:
        told = Told(Counter(), Counter())
        for file in self._folder.glob("*.acknowledged"):
            for what, number in (line.split() for line in file.read_text().splitlines()):
                kind, _, account = what.rpartition(":")
                counter = told.queue if kind else told.log
                counter[account] = max(counter[account], int(number))
        return told

    def _blows(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
        """Each once, as far as time goes, and then whichever chance names."""
        blows: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            *((role, functools.partial(self._replace, role)) for role in ROLES),
            ("FLUSHALL", functools.partial(asyncio.to_thread, self._redis.flushall)),
            ("Redis", functools.partial(self._restart, self._redis)),
            ("Redis of the queue", functools.partial(self._restart, self._queue_redis)),
            ("PostgreSQL", functools.partial(self._restart, self._postgres)),
        ]
        self._random.shuffle(blows)
        yield from blows
        while True:
            yield self._random.choice(blows)

    async def _start(self, role: str, name: str) -> None:
        redis = self._queue_redis if role in ("producer", "queue") else self._redis
        self._at_work[role][name] = await self._children[role].start(
            role, self._database, redis.url, ENV, name, str(self._folder / f"{name}.acknowledged")
        )

    async def _replace(self, role: str) -> None:
        if not self._at_work[role]:
            await self._all_started()
        name = self._random.choice(list(self._at_work[role]))
        await self._children[role].kill(self._at_work[role].pop(name))
        # A producer goes on with its own accounts, whereas any other process is a new instance.
        successor = self._start(role, name if role == "producer" else next(self._names))
        self._starting.append(asyncio.create_task(successor))

    async def _all_started(self) -> None:
        starting, self._starting = self._starting, []
        await asyncio.gather(*starting)

    async def _restart(self, server: Postgres | RedisServer) -> None:
        await self._all_started()  # a process that finds no server when it starts gives up, as it should
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self._random.uniform(0, 0.5))
        await asyncio.to_thread(server.start)


@pytest.mark.timeout(SECONDS + DRAIN_SECONDS + 120)
async def test_nothing_is_lost_doubled_or_out_of_order(
    private_postgres: Postgres, private_redis: RedisServer, tmp_path: Path
) -> None:
    with RedisServer(tmp_path / "queue-redis") as queue_redis:
        crash = Crash(tmp_path, private_postgres, private_redis, queue_redis, dice())
        async with AsyncExitStack() as stack:
            await crash.start(stack)
            await crash.strike(SECONDS)
            wrong = await crash.settle()
    assert wrong == {"lost": 0, "doubled": 0, "out of order": 0}
    assert crash.struck.total() >= 2
