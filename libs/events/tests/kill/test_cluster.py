"""A master of a Redis Cluster may be killed at any moment, with what its replica does not have yet."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from bizosaas_events.bus.base import Names, command_envelope
from bizosaas_events.bus.connecting import Cluster, connect
from bizosaas_events.bus.packing import exchange, pack
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.envelope import new_id, to_fields
from bizosaas_events.errors import UnavailableError
from bizosaas_events.outages import STORAGE_ERRORS
from bizosaas_events.relay import Relay
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposit, Deposited, a_context
from bizosaas_events.testing.children import Children, dice
from bizosaas_events.testing.waiting import until
from bizosaas_sandbox.servers.redis_cluster import MASTERS, ClusterNode, RedisCluster

pytestmark = [pytest.mark.kill, pytest.mark.xdist_group("killed-redis-cluster")]

PARTITIONS = 8
STREAMS = 40
PROGRAM = Path(__file__).with_name("program.py")
TABLES = """
create table projection (stream text primary key, n int not null, bad int not null);
create table effect (account text not null, n int not null)
"""


@pytest.fixture(scope="module")
def started(run_folder: Path) -> Iterator[RedisCluster]:
    with RedisCluster(run_folder / "killed-redis-cluster", node_timeout_ms=1000) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: RedisCluster) -> RedisCluster:
    """All six processes, whatever the test before did to them."""
    return started.start()


@pytest.fixture
async def redis(cluster: RedisCluster) -> AsyncIterator[Cluster]:
    redis = connect(cluster.url)
    assert isinstance(redis, Cluster)
    yield redis
    await redis.aclose()


@pytest.fixture
async def url(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]
) -> str:
    url = new_database(template=database_template("event_log", migrate))
    connection = await asyncpg.connect(url)
    await connection.execute(TABLES)
    await connection.close()
    return url


async def replaced(cluster: RedisCluster, dead: ClusterNode) -> None:
    """Kill a master and wait until another has taken over."""
    await asyncio.to_thread(dead.kill)

    async def three() -> bool:
        return len(await asyncio.to_thread(cluster.masters)) == MASTERS

    await until(three, 20, what="a replica takes over")
    await asyncio.to_thread(cluster.settle)


async def test_a_connection_closed_under_its_user_is_an_outage(redis: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    await redis.ping()

    async def closed_by_another(self: AbstractConnection) -> None:
        await self.disconnect(nowait=True)

    monkeypatch.setattr(AbstractConnection, "check_health", closed_by_another)
    pipeline = redis.pipeline()
    pipeline.xlen("stream")
    adding = exchange(redis, [("stream", pack(("XADD", "stream", "*", "n", 1)))])
    for attempt in (redis.xadd("stream", {"n": 1}), pipeline.execute(), adding):
        with pytest.raises(exceptions.ConnectionError):
            await attempt


async def test_a_master_killed_while_events_are_relayed_and_applied(
    cluster: RedisCluster, redis: Cluster, url: str, env_name: str, tmp_path: Path
) -> None:
    names, rounds, events = Names(env_name), 0, 3
    async with (
        Children(PROGRAM, tmp_path / "children.log") as children,
        asyncpg.create_pool(url, min_size=1, max_size=4) as pool,
    ):
        for role in ("relay", "relay", "ordered", "ordered"):
            await children.start(role, url, cluster.url, env_name, secrets.token_hex(3))
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)
        part = dice().randrange(PARTITIONS)
        dead = await asyncio.to_thread(cluster.master_of, names.partition("account", part))
        dying = asyncio.create_task(replaced(cluster, dead))
        while not dying.done():  # under load
            for stream in range(STREAMS):
                write = Write(f"account-{stream}", rounds * events, [Deposited(cents=c) for c in range(events)])
                await store.append([write], a_context())
            rounds += 1
            await asyncio.sleep(0.05)  # or most of the time would go into catching up
        await dying
        appended = rounds * events * STREAMS

        async def counted() -> bool:
            return int(await pool.fetchval("select coalesce(sum(n), 0) from projection")) >= appended

        await until(counted, 25, what=f"{appended} events in the projection")
        assert await pool.fetchval("select sum(n) from projection") == appended
        assert await pool.fetchval("select sum(bad) from projection") == 0
        for head in await store.heads():
            info: Any = await redis.xinfo_stream(names.partition("account", head.partition))
            assert info["last-generated-id"] == f"{head.position}-0".encode()
        children.all_alive()


async def test_a_replica_that_had_fallen_behind_is_given_what_it_lacks(
    cluster: RedisCluster, redis: Cluster, url: str, env_name: str
) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)
        relay = Relay(store, pool, redis, env=env_name)
        recorded = await store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context())
        part = recorded[0].partition
        stream = Names(env_name).partition("account", part)
        while await relay.step():
            pass
        await redis.execute_command("WAIT", 1, 5000, target_nodes=redis.get_node_from_key(stream))
        master = cluster.master_of(stream)
        replica = cluster.replica_of(master)
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGSTOP)
        master.ask("CLIENT KILL TYPE replica")  # what was on its way would still arrive
        await store.append([Write("account-1", 1, [Deposited(cents=n) for n in range(100)])], a_context())
        await until(relay_is_done(relay, redis, stream, 101))
        dying = asyncio.create_task(replaced(cluster, master))
        await until(lambda: not master.running)
        os.kill(replica.pid, signal.SIGCONT)
        await dying
        await until(relay_is_done(None, redis, stream, 1), what="an acknowledged hundred is gone")
        running = asyncio.create_task(relay.run())
        await until(relay_is_done(None, redis, stream, 101), 20, what="the rolled-back stream is filled again")
        entries: Any = await redis.xrange(stream)
        assert [id for id, _ in entries] == [f"{n}-0".encode() for n in range(1, 102)]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def relay_is_done(relay: Relay | None, redis: Cluster, stream: str, length: int) -> Callable[[], Any]:
    async def done() -> bool:
        try:
            if relay is not None:
                await relay.step()
            return int(await redis.xlen(stream)) == length
        except STORAGE_ERRORS:
            return False

    return done


async def test_a_command_that_was_accepted_outlives_the_master_that_accepted_it(
    cluster: RedisCluster, redis: Cluster, env_name: str
) -> None:
    stream, accepted, refused = Names(env_name).commands("account"), set[str](), 0
    async with RedisCommandBus(redis, CODEC, env=env_name, source="test", instance="test-1") as bus:

        async def send(count: int) -> None:
            nonlocal refused
            for n in range(count):
                id = new_id()
                try:
                    await bus.send(Deposit(account_id="1", cents=n), a_context(), id=id)
                    accepted.add(id)
                except UnavailableError:
                    refused += 1
                    await asyncio.sleep(0.05)

        await send(10)
        master = cluster.master_of(stream)
        replica = cluster.replica_of(master)
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGSTOP)
        await send(1)
        assert refused == 1  # the master has it, the one that would take over has not
        os.kill(replica.pid, signal.SIGCONT)
        await asyncio.to_thread(cluster.settle)
        dying = asyncio.create_task(replaced(cluster, cluster.master_of(stream)))
        while not dying.done():
            await asyncio.gather(*(send(20) for _ in range(5)))
        await dying
        await send(10)  # by a master without a replica
        entries: Any = await redis.xrange(stream)
        assert accepted <= {fields[b"id"].decode() for _, fields in entries}


async def test_the_master_of_a_queue_killed_while_workers_are_at_it(
    cluster: RedisCluster, redis: Cluster, url: str, env_name: str, tmp_path: Path
) -> None:
    stream, messages, batch = Names(env_name).queue("mail"), 1200, 40
    connection = await asyncpg.connect(url)

    async def effects() -> list[int]:
        return [row["n"] for row in await connection.fetch("select n from effect order by n")]

    async def put(first: int) -> None:
        commands = []
        for n in range(first, first + batch):
            command = command_envelope(Deposit(account_id="1", cents=n), a_context(), CODEC, id=new_id(), source="test")
            fields = [part for pair in to_fields(command).items() for part in pair]
            commands.append((stream, pack(("XADD", stream, "*", *fields))))
        while True:  # the same ids again, until a replica has them
            try:
                *_, replicas = await exchange(redis, [*commands, (stream, pack(("WAIT", 1, 1000)))])
                if replicas:
                    return
            except STORAGE_ERRORS:
                await asyncio.sleep(0.1)

    async def put_all() -> None:
        for first in range(0, messages, batch):
            await put(first)
            await asyncio.sleep(0.1)  # long enough to be killed in between

    async def done() -> bool:
        try:
            found: Any = await redis.xpending(stream, "mail")
        except STORAGE_ERRORS:
            return False
        return len(await effects()) >= messages and found["pending"] == 0

    async with Children(PROGRAM, tmp_path / "children.log") as children:
        dead = await asyncio.to_thread(cluster.master_of, stream)
        for _ in range(2):
            await children.start("queue", url, cluster.url, env_name, secrets.token_hex(3))
        putting = asyncio.create_task(put_all())
        await until(lambda: _some(effects))
        dying = asyncio.create_task(replaced(cluster, dead))
        await until(lambda: not dead.running)
        assert not putting.done()  # it found them at work
        await dying
        await asyncio.to_thread(cluster.start)
        await putting
        await until(done, 25, what="every effect, and nothing pending")
        assert await effects() == list(range(messages))
        children.all_alive()
    await connection.close()


async def _some(effects: Callable[[], Any]) -> bool:
    return bool(await effects())
