"""Any process, Redis included, may be killed at any moment: nothing is lost, nothing happens twice, order holds."""

import asyncio
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from redis.asyncio import Redis

from bizosaas_events.bus.base import Names, command_envelope
from bizosaas_events.dead_letters import DeadLetters, Filter
from bizosaas_events.envelope import new_id, to_fields
from bizosaas_events.outages import OUTAGES
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposit, Deposited, a_context
from bizosaas_events.testing.children import Children, dice
from bizosaas_events.testing.waiting import until
from bizosaas_events.versions import Versions
from bizosaas_sandbox.servers.postgres import Postgres
from bizosaas_sandbox.servers.redis import Redis as RedisServer

pytestmark = pytest.mark.kill

PARTITIONS = 8
TTL = 1.0
STREAMS = 40
PROGRAM = Path(__file__).with_name("program.py")
TABLES = """
create table projection (stream text primary key, n int not null, bad int not null);
create table effect (account text not null, n int not null)
"""


class Scene:
    """A log that is written to while the others die."""

    def __init__(self, url: str, redis_url: str, env: str, children: Children) -> None:
        self.url = url
        self.redis_url = redis_url
        self.names = Names(env)
        self.children = children
        self.appended = 0

    @property
    def _where(self) -> tuple[str, str, str]:
        return self.url, self.redis_url, self.names.env

    async def start(self, role: str) -> None:
        await self.children.start(role, *self._where, secrets.token_hex(3))

    async def replace(self, role: str) -> None:
        await self.children.replace(role, *self._where, secrets.token_hex(3))

    async def append(self, rounds: int, events: int = 5, pause: float = 0.0) -> None:
        """Write so many rounds of events to every stream."""
        async with asyncpg.create_pool(self.url, min_size=1, max_size=4) as pool:
            store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)
            for n in range(rounds):
                for stream in range(STREAMS):
                    write = Write(f"account-{stream}", n * events, [Deposited(cents=c) for c in range(events)])
                    await store.append([write], a_context())
                    self.appended += events
                    await asyncio.sleep(pause)

    async def streams(self, redis: Redis) -> dict[int, list[bytes]]:
        """The entry ids of every partition's stream."""
        found: dict[int, list[bytes]] = {}
        for part in range(PARTITIONS):
            entries: Any = await redis.xrange(self.names.partition("account", part))
            found[part] = [entry_id for entry_id, _ in entries]
        return found

    async def everything_is_relayed(self, redis: Redis, seconds: float = 20) -> None:
        """Every partition's stream is, without a gap or a repeat, the partition."""
        connection = await asyncpg.connect(self.url)
        rows = await connection.fetch("select part, count(*) as n from event group by part")
        await connection.close()
        expected = dict.fromkeys(range(PARTITIONS), 0) | {row["part"]: row["n"] for row in rows}
        assert sum(expected.values()) == self.appended

        async def relayed() -> bool:
            lengths = [int(await redis.xlen(self.names.partition("account", part))) for part in range(PARTITIONS)]
            return sum(lengths) >= self.appended

        await until(relayed, seconds, what=f"{self.appended} events in Redis")
        for part, ids in (await self.streams(redis)).items():
            assert ids == [f"{n}-0".encode() for n in range(1, expected[part] + 1)]

    async def projected(self) -> tuple[int, int]:
        """How many events the projection counts, and how many of them came out of order."""
        try:
            connection = await asyncpg.connect(self.url)
        except OUTAGES:
            return 0, 0
        (row,) = await connection.fetch("select coalesce(sum(n), 0) as n, coalesce(sum(bad), 0) as bad from projection")
        await connection.close()
        return row["n"], row["bad"]

    async def everything_is_projected(self, seconds: float = 25) -> None:
        async def counted() -> bool:
            return (await self.projected())[0] >= self.appended

        await until(counted, seconds, what=f"{self.appended} events in the projection")
        assert await self.projected() == (self.appended, 0)


@pytest.fixture
async def children(tmp_path: Path) -> AsyncIterator[Children]:
    async with Children(PROGRAM, tmp_path / "children.log") as children:
        yield children


@pytest.fixture
async def scene(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
    private_redis: RedisServer, env_name: str, children: Children,
) -> Scene:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    await _make_tables(url)
    return Scene(url, private_redis.url, env_name, children)


@pytest.fixture
async def redis(private_redis: RedisServer) -> AsyncIterator[Redis]:
    redis = Redis.from_url(private_redis.url, retry_on_error=[ConnectionError])
    yield redis
    await redis.aclose()


async def test_two_relays_of_which_one_is_killed_again_and_again(scene: Scene, redis: Redis) -> None:
    random = dice()
    await scene.start("relay")
    await scene.start("relay")
    writing = asyncio.create_task(scene.append(20, pause=0.004))
    while not writing.done():
        await scene.replace("relay")
        await asyncio.sleep(random.uniform(0, 0.4))
    await writing
    await scene.everything_is_relayed(redis)
    assert scene.children.killed >= 2


async def test_relays_refill_a_redis_that_is_killed_and_flushed(
    scene: Scene, redis: Redis, private_redis: RedisServer
) -> None:
    random, events = dice(), Counter[str]()
    await scene.start("relay")
    await scene.start("relay")
    writing = asyncio.create_task(scene.append(20, pause=0.005))
    while not writing.done():
        await asyncio.sleep(random.uniform(0.2, 0.8))
        what = random.choice(["flush", "kill"])
        events[what] += 1
        if what == "flush":
            await asyncio.to_thread(private_redis.flushall)
        else:
            await asyncio.to_thread(private_redis.kill)
            await asyncio.sleep(random.uniform(0, 0.3))
            await asyncio.to_thread(private_redis.start)
    await writing
    await _awake(redis)
    await scene.everything_is_relayed(redis)
    assert events.total() >= 3


async def test_relays_refill_a_redis_that_kept_nothing(scene: Scene, run_folder: Path) -> None:
    forgetful = RedisServer(run_folder / f"redis-{secrets.token_hex(4)}", settings={"appendonly": "no"})
    with forgetful:
        scene.redis_url = forgetful.url
        await scene.start("relay")
        await scene.append(4)
        async with Redis.from_url(forgetful.url) as redis:
            await scene.everything_is_relayed(redis)
        forgetful.kill()
        forgetful.start()
        async with Redis.from_url(forgetful.url) as redis:
            await scene.everything_is_relayed(redis)


async def test_ordered_consumers_of_which_one_is_killed_again_and_again(
    scene: Scene, private_redis: RedisServer
) -> None:
    random = dice()
    await scene.start("relay")
    relay = scene.children.alive.pop()
    for _ in range(3):
        await scene.start("ordered")
    writing = asyncio.create_task(scene.append(20, events=10, pause=0.005))
    flushed = False
    while not writing.done() and scene.children.killed < 8:
        await asyncio.sleep(random.uniform(0.1, 0.6))
        await scene.replace("ordered")
        if not flushed and scene.children.killed > 1:
            await asyncio.to_thread(private_redis.flushall)
            flushed = True
    await writing
    scene.children.alive.append(relay)
    await scene.everything_is_projected()
    assert scene.children.killed >= 2
    assert flushed


async def test_dead_letters_that_are_parked_and_tried_again_while_consumers_are_killed(
    scene: Scene, redis: Redis, private_redis: RedisServer
) -> None:
    random = dice()
    refused = {(f"account-{n}", version) for n in range(0, STREAMS, 3) for version in (2 + n % 5, 20 + n % 7)}
    async with asyncpg.create_pool(scene.url, min_size=1, max_size=4) as pool:
        letters = DeadLetters(pool, redis)
        await pool.execute("create table refused (stream text, version int)")
        await pool.executemany("insert into refused values ($1, $2)", sorted(refused))

        async def put_aside() -> dict[str, int]:
            found = dict.fromkeys(("waiting", "retrying", "parked"), 0)
            return found | {each.state: each.letters for each in await letters.counts()}

        async def all_seen() -> bool:
            return (await scene.projected())[0] + sum((await put_aside()).values()) == scene.appended

        await scene.start("relay")
        relay = scene.children.alive.pop()
        for _ in range(2):
            await scene.start("refusing")
        writing = asyncio.create_task(scene.append(6, events=5, pause=0.004))
        for flush in (False, True, False):
            await asyncio.sleep(random.uniform(0.1, 0.5))
            await scene.children.kill()
            if flush:
                await asyncio.to_thread(private_redis.flushall)
            await scene.start("refusing")
        await writing
        await until(all_seen, 25, what="every event applied or put aside")
        aside = await put_aside()
        assert aside["waiting"] == len(range(0, STREAMS, 3))
        assert aside["parked"] > aside["waiting"]

        async def try_all_again() -> None:
            _, confirmation = await letters.select(Filter(), 100)
            for id in await letters.confirmed(Filter(), 100, confirmation):
                await letters.retry(id)

        await pool.execute("delete from refused where version < 10")
        for _ in range(3):
            await try_all_again()
            await asyncio.sleep(random.uniform(0.05, 0.6))
            assert sum((await put_aside()).values())  # it finds them at work
            await scene.children.kill()
            await scene.start("refusing")
        await pool.execute("delete from refused")

        async def nothing_is_left() -> bool:
            await try_all_again()
            return not sum((await put_aside()).values())

        await until(nothing_is_left, 25, what="every dead letter handled after all")
        scene.children.alive.append(relay)
        await scene.everything_is_projected()
        assert not sum((await put_aside()).values())


async def test_a_rebuild_whose_processes_relays_and_redis_are_killed_and_flushed(
    scene: Scene, redis: Redis, private_redis: RedisServer
) -> None:
    random = dice()
    await scene.append(6, events=25)
    for role in ("relay", "counts"):
        await scene.start(role)
    async with asyncpg.create_pool(scene.url, min_size=1, max_size=4) as pool:
        versions = Versions("counts", {"account": PARTITIONS}, pool=pool, redis=redis, env=scene.names.env)

        async def trimmed() -> bool:
            return sum(map(len, (await scene.streams(redis)).values())) == PARTITIONS

        async def counted() -> int:
            return cast(int, await pool.fetchval("select coalesce(sum(n), 0)::int from counts_2.count"))

        async def all_counted() -> bool:
            return await counted() == scene.appended

        await until(trimmed, 40, what="the streams have no more than their last entries")
        await scene.start("recounts")  # a new deployment: it builds what it has the definition of
        for role in ("relay", "recounts", "recounts"):
            await scene.replace(role)
            await asyncio.sleep(random.uniform(0.1, 0.4))
            assert await counted() < scene.appended  # it finds the rebuild at work
            await asyncio.to_thread(private_redis.flushall)
        await until(all_counted, 40, what=f"{scene.appended} events in the new version")
        await versions.swap(2, patience=20)
        found = await versions.compare(1, 2, patience=20)
        assert (found.events, found.tables[0].differing) == (scene.appended, 0)
        assert await pool.fetchval("select sum(bad) from counts_2.count") == 0
        scene.children.all_alive()


async def test_an_ordered_consumer_that_was_asleep_writes_nothing_any_more(scene: Scene) -> None:
    random = dice()
    await scene.append(20, events=6)
    await scene.start("relay")
    await scene.start("ordered")
    await scene.start("ordered")
    for sleeper in scene.children.alive[1:]:
        await asyncio.sleep(random.uniform(0.1, 0.3))
        sleeper.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.7 * TTL)  # the other one has its partitions by then
        sleeper.send_signal(signal.SIGCONT)
    await scene.everything_is_projected()
    scene.children.all_alive()


async def test_ordered_consumers_outlive_their_database(
    private_postgres: Postgres, private_redis: RedisServer, env_name: str, children: Children
) -> None:
    random = dice()
    url = private_postgres.create_database("log", "tester", "tester")
    await asyncio.to_thread(migrate, url)
    await _make_tables(url)
    scene = Scene(url, private_redis.url, env_name, children)
    await scene.append(20, events=6)
    await scene.start("relay")
    await scene.start("ordered")
    await scene.start("ordered")
    for _ in range(2):
        await asyncio.sleep(random.uniform(0.2, 0.6))
        assert (await scene.projected())[0] < scene.appended  # it finds them at work
        await asyncio.to_thread(private_postgres.kill)
        await asyncio.sleep(random.uniform(0, 0.5))
        await asyncio.to_thread(private_postgres.start)
    await scene.everything_is_projected()
    assert children.killed == 0
    children.all_alive()


async def test_queue_workers_killed_in_the_middle_of_a_batch(
    scene: Scene, redis: Redis, private_redis: RedisServer
) -> None:
    random, messages = dice(), 2400
    stream = scene.names.queue("mail")
    pipeline = redis.pipeline(transaction=False)
    for n in range(messages):
        command = command_envelope(Deposit(account_id="1", cents=n), a_context(), CODEC, id=new_id(), source="test")
        fields: dict[Any, Any] = {**to_fields(command)}
        pipeline.xadd(stream, fields)
    await pipeline.execute()
    connection = await asyncpg.connect(scene.url)

    async def effects() -> list[int]:
        return [row["n"] for row in await connection.fetch("select n from effect order by n")]

    await scene.start("queue")
    await scene.start("queue")
    while len(await effects()) < messages * 0.9 and scene.children.killed < 6:
        await asyncio.sleep(random.uniform(0, 0.3))
        pending: Any = await redis.xpending(stream, "mail")
        assert pending["pending"] > 0  # it finds them at work
        # While Redis takes no acknowledgements, effects are committed that it will deliver again.
        await redis.client_pause(300, all=False)
        await asyncio.sleep(0.25)
        await scene.children.kill()
        await scene.start("queue")

    async def done() -> bool:
        found: Any = await redis.xpending(stream, "mail")
        return len(await effects()) >= messages and found["pending"] == 0

    await until(done, 20, what="every effect, and nothing pending")
    assert await effects() == list(range(messages))
    assert scene.children.killed >= 2
    await connection.close()


async def _make_tables(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(TABLES)
    await connection.close()


async def _awake(redis: Redis) -> None:
    """Use up the connections that died with the server."""
    for _ in range(10):
        try:
            await redis.ping()
            return
        except OUTAGES:
            await asyncio.sleep(0.1)
