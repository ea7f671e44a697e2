"""Versions of a projection side by side, on a real PostgreSQL and a real Redis."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from bizosaas_events import projecting
from bizosaas_events.consumer import Feed, OrderedConsumer
from bizosaas_events.envelope import Envelope
from bizosaas_events.errors import Kind
from bizosaas_events.projecting import Projector
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposited, a_context
from bizosaas_events.testing.waiting import until
from bizosaas_events.versions import (
    BuildingError,
    InUseError,
    NotArrivingError,
    Projection,
    TooFarBehindError,
    VersionNotFoundError,
    Versions,
)

PARTITIONS = 4
TTL = 1.0
DDL = "create table balance (stream text primary key, tenant text not null, cents int not null, version int not null)"
_ADD = """insert into balance values ($1, $2, $3, $4)
          on conflict (stream) do update set cents = balance.cents + excluded.cents, version = excluded.version
          where balance.version = excluded.version - 1"""


async def add_up(connection: Any, envelopes: Sequence[Envelope]) -> None:
    rows = [(e.subject, e.tenantid, json.loads(e.data)["cents"], e.streamversion) for e in envelopes]
    await connection.executemany(_ADD, rows)


async def add_up_wrongly(connection: Any, envelopes: Sequence[Envelope]) -> None:
    await add_up(connection, envelopes)
    await connection.execute("update balance set cents = cents + 1 where stream = 'account-3' and cents % 2 = 0")
    await connection.execute("delete from balance where stream = 'account-5'")


RIGHT = Projection("balances", 1, DDL, add_up)


class Process:
    """What one process runs: the log's relay and the projection in the definitions that its code has."""

    def __init__(self, scene: "Scene", *definitions: Projection, instance: str = "a") -> None:
        self.scene = scene
        self.projector = Projector(definitions, scene.versions, self._consumer, scene.pool)
        self._instance = instance
        self._tasks: list[asyncio.Task[None]] = []

    def _consumer(self, name: str, apply: Any, *, enter: Any) -> OrderedConsumer:
        return OrderedConsumer(
            name, [Feed("account", PARTITIONS)], apply, pool=self.scene.pool, redis=self.scene.redis,
            env=self.scene.env, instance=self._instance, ttl=TTL, batch=20, enter=enter,
        )  # fmt: skip

    async def __aenter__(self) -> Projector:
        await self.projector.open()
        relay = Relay(self.scene.store, self.scene.pool, self.scene.redis, env=self.scene.env)
        self._tasks = [asyncio.create_task(work()) for work in (relay.run, self.projector.run)]
        return self.projector

    async def __aexit__(self, *_: object) -> None:
        await stop(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.result()


class Scene:
    """A log, and the versions of a projection of it."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis, env: str) -> None:
        self.pool = pool
        self.redis = redis
        self.env = env
        self.store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)
        self.versions = Versions("balances", {"account": PARTITIONS}, pool=pool, redis=redis, env=env)
        self.appended: dict[str, int] = {}

    def process(self, *definitions: Projection, instance: str = "a") -> Process:
        return Process(self, *(definitions or (RIGHT,)), instance=instance)

    async def append(self, *streams: int, events: int = 10) -> None:
        for n in streams:
            stream = f"account-{n}"
            before = self.appended.get(stream, 0)
            await self.store.append([Write(stream, before, [Deposited(cents=1)] * events)], a_context())
            self.appended[stream] = before + events

    async def balances(self, number: int) -> dict[str, int]:
        return {
            row["stream"]: row["cents"]
            for row in await self.pool.fetch(f"select stream, cents from balances_{number}.balance")
        }

    async def arrived(self, *numbers: int) -> None:
        async def equal() -> bool:
            with contextlib.suppress(asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                return all([await self.balances(number) == self.appended for number in numbers])
            return False

        await until(equal, what=f"versions {numbers} show every event once")

    async def states(self) -> dict[int, str]:
        return {version.number: version.state for version in await self.versions.all()}


@pytest.fixture
async def scene(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
    redis_url: str, env_name: str,
) -> AsyncIterator[Scene]:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    async with asyncpg.create_pool(url, min_size=2, max_size=12) as pool, Redis.from_url(redis_url) as redis:
        yield Scene(pool, redis, env_name)


async def test_a_version_is_built_beside_the_one_that_is_read_and_swapped_to_and_back(scene: Scene) -> None:
    await scene.append(*range(12))
    async with scene.process() as projector:
        await scene.arrived(1)
        assert await scene.states() == {1: "live"}
        built = await scene.versions.build(RIGHT)
        assert (built.consumer, built.schema) == ("balances@2", "balances_2")
        await scene.append(*range(6))
        await scene.arrived(1, 2)
        assert projector.reading.number == 1

        await scene.versions.swap(2)
        assert await scene.states() == {1: "kept", 2: "live"}
        await until(lambda: projector.reading.number == 2)
        await scene.append(*range(12))
        await scene.arrived(1, 2)

        await scene.versions.swap(1)
        assert await scene.states() == {1: "live", 2: "kept"}
        await scene.append(*range(12))
        await scene.arrived(1, 2)


async def test_a_swap_waits_until_nothing_is_missing_while_events_come(scene: Scene) -> None:
    async with scene.process() as projector:
        await scene.versions.build(RIGHT)
        writing = asyncio.create_task(_write(scene, rounds=60))
        await until(lambda: projector.consumers.keys() == {1, 2})
        for number in (2, 1, 2):
            before = await scene.balances(3 - number)
            await scene.versions.swap(number)
            after = await scene.balances(number)
            assert {stream: n for stream, n in before.items() if after.get(stream, 0) < n} == {}
        await writing
        await scene.arrived(1, 2)


async def _write(scene: Scene, rounds: int) -> None:
    for n in range(rounds):
        await scene.append(n % 12, events=3)


async def test_no_version_goes_beyond_the_live_one(scene: Scene) -> None:
    going, waiting = asyncio.Event(), asyncio.Event()

    async def wait(connection: Any, envelopes: Sequence[Envelope]) -> None:
        waiting.set()
        await going.wait()
        await add_up(connection, envelopes)

    slow = Projection("balances", 1, DDL, wait)
    await scene.versions.ensure(slow)
    async with scene.process(slow, Projection("balances", 2, DDL, add_up)) as projector:
        await scene.append(*range(12))
        await waiting.wait()
        await until(lambda: len(projector.consumers[2].held) == PARTITIONS)
        await asyncio.sleep(0.3)  # in which it would have applied them
        assert await scene.balances(2) == {}
        going.set()
        await scene.arrived(1, 2)


async def test_the_rows_that_differ_are_counted_and_shown(scene: Scene) -> None:
    wrong = Projection("balances", 2, DDL, add_up_wrongly)
    await scene.versions.ensure(RIGHT)
    async with scene.process(RIGHT, wrong):
        await scene.append(*range(8))
        await scene.arrived(1)
        await scene.versions.swap(2)  # it was built on the start of a process whose code has it
        found = await scene.versions.compare(1, 2, by=["tenant"], first=1)
        assert found.events == 80
        (table,) = found.tables
        assert (table.table, table.old_rows, table.new_rows, table.differing) == ("balance", 8, 7, 2)
        assert table.differing_by == {"acme": 2}
        (difference,) = found.differences
        assert difference.key == {"stream": "account-3"}
        assert (difference.old or {})["cents"] == 10
        assert (difference.new or {}).keys() == {"cents"}

        whole = await scene.versions.compare(1, 2)
        assert [(d.key["stream"], d.old is None, d.new is None) for d in whole.differences] == [
            ("account-3", False, False), ("account-5", False, True),
        ]  # fmt: skip
        same = await scene.versions.compare(1, 1)
        assert (same.tables[0].differing, same.differences) == (0, [])


async def test_what_cannot_be_done_is_refused_with_a_remedy(scene: Scene) -> None:
    async with scene.process():
        await scene.append(*range(8))
        await scene.arrived(1)
        for attempt in (scene.versions.swap(7), scene.versions.drop(7), scene.versions.compare(1, 7)):
            with pytest.raises(VersionNotFoundError) as unknown:
                await attempt
            assert unknown.value.kind == Kind.NOT_FOUND
        with pytest.raises(InUseError, match="is the one that is read"):
            await scene.versions.drop(1)
        await scene.versions.build(RIGHT)
        with pytest.raises(BuildingError):
            await scene.versions.build(RIGHT)
        await scene.arrived(2)
        await scene.versions.swap(2)
        with pytest.raises(InUseError, match="until a moment ago"):
            await scene.versions.drop(1)


async def test_a_version_without_its_code_is_not_swapped_to_unless_forced(scene: Scene) -> None:
    async with scene.process():
        await scene.append(*range(8))
        await scene.arrived(1)
        await scene.versions.build(Projection("balances", 9, DDL, add_up))
        with pytest.raises(TooFarBehindError):
            await scene.versions.swap(2, limit=10)
        with pytest.raises(NotArrivingError) as refused:
            await scene.versions.swap(2, patience=0.1)
        assert "its code" in refused.value.remedy
        await scene.append(*range(8))
        await scene.arrived(1)
        assert (await scene.versions.swap(2, force=True)).state == "live"


async def test_a_dropped_version_leaves_nothing_behind_and_its_number_is_not_given_again(scene: Scene) -> None:
    async with scene.process() as projector:
        await scene.append(*range(8))
        await scene.versions.build(RIGHT)
        await scene.arrived(1, 2)
        await scene.versions.drop(2)
        await until(lambda: projector.consumers.keys() == {1})
        assert (await scene.versions.build(RIGHT)).number == 3
        await scene.append(*range(8))
        await scene.arrived(1, 3)

        async def reported() -> bool:
            return await scene.versions.reported() == {"balances@1", "balances@3"}

        await until(reported, what="relays keep something for the two versions there are")
    left = await scene.pool.fetchval("select count(*) from consumer_partition where consumer = 'balances@2'")
    schemas = await scene.pool.fetch("select nspname from pg_namespace where nspname like 'balances%' order by 1")
    assert (left, [row["nspname"] for row in schemas]) == (0, ["balances_1", "balances_3"])


async def test_a_deployment_without_the_old_code_takes_over_when_the_last_old_process_is_gone(scene: Scene) -> None:
    await scene.append(*range(8))
    async with contextlib.AsyncExitStack() as older, contextlib.AsyncExitStack() as newer:
        old = await older.enter_async_context(scene.process(RIGHT, instance="old"))
        await scene.arrived(1)
        new = await newer.enter_async_context(scene.process(Projection("balances", 2, DDL, add_up), instance="new"))
        await scene.arrived(1, 2)
        assert (old.reading.number, new.reading.number) == (1, 2)
        assert await scene.states() == {1: "live", 2: "building"}
        assert new.problem() == ""
        await scene.append(*range(8))
        await scene.arrived(1, 2)
        await older.aclose()

        async def taken_over() -> bool:
            return await scene.states() == {1: "kept", 2: "live"}

        await until(taken_over)
        await scene.append(*range(8))
        await scene.arrived(2)


async def test_progress_says_how_far_each_version_is(scene: Scene) -> None:
    async with scene.process():
        await scene.append(*range(8))
        await scene.arrived(1)
        await scene.versions.build(Projection("balances", 9, DDL, add_up))
        live, building = await scene.versions.progress()

    assert (live.events_done, live.events_behind, live.seconds_left) == (80, 0, 0.0)
    assert (building.events_done, building.events_behind, building.seconds_left) == (0, 80, None)
    assert (live.instances, building.instances) == (["a"], [])
    assert sum(place.end for place in building.places) == 80


async def test_postgresql_learns_of_leases_and_of_tables_that_grow(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks by itself once a minute; until then kept plans are those for empty tables."""
    monkeypatch.setattr(projecting, "ANALYZE_AT", 20)
    async with scene.process():
        await scene.append(*range(5))
        await scene.arrived(1)

        async def learnt() -> bool:
            return bool(
                await scene.pool.fetchval(
                    "select reltuples > 0 from pg_class where oid = 'balances_1.balance'::regclass"
                )
            )

        await until(learnt)
        unowned = "select null_frac from pg_stats where tablename = 'consumer_partition' and attname = 'owner'"
        assert await scene.pool.fetchval(unowned) == 0


async def test_an_effect_runs_by_plans_that_are_kept(scene: Scene) -> None:
    """The values of a small batch make a plan of their own look cheaper, and planning takes longer than it saves."""
    modes = set()

    async def note(connection: Any, envelopes: Sequence[Envelope]) -> None:
        modes.add(await connection.fetchval("show plan_cache_mode"))
        await add_up(connection, envelopes)

    async with scene.process(Projection("balances", 1, DDL, note)):
        await scene.append(1)
        await scene.arrived(1)

    assert modes == {"force_generic_plan"}


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=8))
async def test_a_projection_is_what_comes_of_its_rebuild(scene: Scene, batches: list[list[int]]) -> None:
    for streams in batches:
        await scene.append(*dict.fromkeys(streams), events=3)
    async with scene.process():
        await scene.arrived(max(await scene.states(), default=1))
        built = await scene.versions.build(RIGHT)
        await scene.arrived(built.number)
        live = await scene.versions.swap(built.number)
        others = [number for number, state in (await scene.states()).items() if state == "kept"]
        found = await scene.versions.compare(others[-1], live.number)

    assert (found.tables[0].differing, found.events) == (0, sum(scene.appended.values()))
