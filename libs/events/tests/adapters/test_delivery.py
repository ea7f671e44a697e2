"""Relay and ordered consumers on a real PostgreSQL and a real Redis: everything arrives, in order, once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import asyncpg
import pytest

from bizosaas_events.bus.base import Names
from bizosaas_events.bus.connecting import Client
from bizosaas_events.bus.packing import exchange
from bizosaas_events.bus.reading import Entry
from bizosaas_events.catching_up import AHEAD
from bizosaas_events.consumer import Feed, OrderedConsumer
from bizosaas_events.envelope import Envelope, to_fields
from bizosaas_events.errors import DomainError, UnavailableError
from bizosaas_events.relay import SYNC_SECONDS, Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposited, a_context
from bizosaas_events.testing.waiting import until
from bizosaas_sandbox.testing import one_redis

PARTITIONS = 8
TTL = 1.0


class Deployment:
    """One service's log, its relay and its consumers, all in this process."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Client, env: str) -> None:
        self.pool = pool
        self.redis = redis
        self.env = env
        self.names = Names(env)
        self.store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)
        self._tasks: list[asyncio.Task[None]] = []

    async def fill(self, events: int, streams: int = 40) -> None:
        """Append so many events, spread over so many streams."""
        for n in range(streams):
            version = len(await self.store.load(f"account-{n}"))
            share = [Deposited(cents=c) for c in range(events // streams)]
            await self.store.append([Write(f"account-{n}", version, share)], a_context())

    def start(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work())
        self._tasks.append(task)
        return task

    def relay(self) -> Relay:
        relay = Relay(self.store, self.pool, self.redis, env=self.env)
        self.start(relay.run)
        return relay

    def consumer(
        self, apply: Any, name: str = "counter", instance: str = "a", *, own: bool = True, **options: Any
    ) -> OrderedConsumer:
        feed = Feed("account", PARTITIONS, self.store if own else None)
        return OrderedConsumer(
            name, [feed], apply, pool=self.pool, redis=self.redis, env=self.env, instance=instance, ttl=TTL, batch=50,
            **options,
        )  # fmt: skip

    async def close(self) -> None:
        await stop(self._tasks)
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error


class Seen:
    """Remembers what it was given, and how often an event came out of order."""

    def __init__(self) -> None:
        self.positions: dict[int, int] = {}
        self.count = 0
        self.violations = 0

    async def __call__(self, connection: object, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            if envelope.sequence != self.positions.get(envelope.partition, 0) + 1:
                self.violations += 1
            self.positions[envelope.partition] = envelope.sequence
            self.count += 1


@pytest.fixture
async def deployment(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
    redis: Client, env_name: str,
) -> AsyncIterator[Deployment]:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    async with asyncpg.create_pool(url, min_size=2, max_size=10) as pool:
        deployment = Deployment(pool, redis, env_name)
        try:
            yield deployment
        finally:
            await deployment.close()


async def test_every_event_is_applied_once_and_in_order(deployment: Deployment) -> None:
    seen = Seen()
    await deployment.fill(2000)
    deployment.relay()
    deployment.start(deployment.consumer(seen).run)
    await until(lambda: seen.count >= 2000)
    await deployment.fill(400)
    await until(lambda: seen.count >= 2400)
    assert (seen.count, seen.violations) == (2400, 0)


@one_redis
async def test_a_slow_partition_holds_up_no_other_and_is_told_when_it_is_committed(deployment: Deployment) -> None:
    await deployment.fill(4, streams=4)
    slow, go_on = "account-0", asyncio.Event()
    told: list[str] = []

    async def apply(connection: object, envelopes: Sequence[Envelope]) -> None:
        if envelopes[0].subject == slow:
            await go_on.wait()

    relay = deployment.relay()
    await until(lambda: relay.sent == 4)
    consumer = deployment.consumer(apply)
    consumer.committed = lambda events: told.extend(event.subject for event in events)
    deployment.start(consumer.run)
    await until(lambda: len(told) == 3)
    assert sorted(told) == ["account-1", "account-2", "account-3"]
    go_on.set()
    await until(lambda: told[3:] == [slow])


@one_redis
async def test_what_comes_from_several_partitions_shares_a_transaction_and_what_fails_has_its_own(
    deployment: Deployment,
) -> None:
    await deployment.fill(30, streams=30)
    (bad, *_) = await deployment.store.load("account-0")
    well, badly = Seen(), Seen()
    shared: list[set[int]] = []

    async def note(connection: object, envelopes: Sequence[Envelope]) -> None:
        await well(connection, envelopes)
        shared.append({event.partition for event in envelopes})

    async def refuse(connection: object, envelopes: Sequence[Envelope]) -> None:
        if bad.id in {event.id for event in envelopes}:
            raise DomainError("7")
        await badly(connection, envelopes)

    relay = deployment.relay()
    await until(lambda: relay.sent == 30)
    deployment.start(deployment.consumer(note, together=True).run)
    await until(lambda: well.count == 30)
    assert max(map(len, shared)) > 1
    refusing = deployment.consumer(refuse, "refusing", together=True)
    deployment.start(refusing.run)
    await until(lambda: sum(refusing.held.values()) == 30)
    assert (well.violations, badly.count) == (0, 29)
    assert await deployment.pool.fetchval("select array_agg(key) from dead_letter") == ["account-0"]


@one_redis
async def test_a_consumer_that_nobody_waits_for_reads_seldom(deployment: Deployment) -> None:
    calls: list[int] = []

    async def apply(connection: object, envelopes: Sequence[Envelope]) -> None:
        calls.append(len(envelopes))

    deployment.relay()
    pace, began = 0.3, time.monotonic()
    deployment.start(deployment.consumer(apply, together=True, pace=pace).run)
    for _ in range(40):
        await deployment.fill(1, streams=1)
        await asyncio.sleep(0.02)
    await until(lambda: sum(calls) == 40)
    assert len(calls) <= (time.monotonic() - began) / pace + 2


async def test_what_is_appended_within_a_moment_is_relayed_together(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bizosaas_events.relay.PACE", 1.0)
    looks = 0
    relay = Relay(deployment.store, deployment.pool, deployment.redis, env=deployment.env)
    step = relay.step

    async def counted() -> bool:
        nonlocal looks
        looks += 1
        return await step()

    monkeypatch.setattr(relay, "step", counted)
    deployment.start(relay.run)
    await deployment.fill(1, streams=1)
    await until(lambda: relay.sent == 1)
    before = looks

    await deployment.fill(12, streams=12)
    await until(lambda: relay.sent == 13)

    assert looks - before <= 3


async def test_a_consumer_that_starts_late_gets_what_the_relay_had_trimmed(deployment: Deployment) -> None:
    early, late, foreign = Seen(), Seen(), Seen()
    await deployment.fill(2000)
    deployment.relay()
    deployment.start(deployment.consumer(early).run)
    await until(lambda: early.count == 2000)
    streams = [deployment.names.partition("account", part) for part in range(PARTITIONS)]

    async def trimmed() -> bool:
        return [await deployment.redis.xlen(stream) for stream in streams] == [1] * PARTITIONS

    await until(trimmed, what="all that everybody has had is trimmed, but for the last entry")
    deployment.start(deployment.consumer(late, "late").run)
    deployment.start(deployment.consumer(foreign, "foreign", own=False).run)
    await until(lambda: late.count >= 2000 and foreign.count >= 2000)
    await deployment.fill(400)
    await until(lambda: early.count + late.count + foreign.count >= 7200)
    assert [(s.count, s.violations) for s in (early, late, foreign)] == [(2400, 0)] * 3


async def test_all_streams_are_trimmed_in_one_round_trip_since_nothing_is_relayed_meanwhile(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployment.fill(2000)
    relay = Relay(deployment.store, deployment.pool, deployment.redis, env=deployment.env)
    while await relay.step():
        pass
    had: dict[Any, Any] = {f"counter|{head.partition}": head.position for head in await deployment.store.heads()}
    await deployment.redis.hset(deployment.names.checkpoints("account"), mapping=had)
    asked: list[list[str]] = []

    async def counted(redis: Client, commands: Sequence[tuple[str, bytes]]) -> list[Any]:
        asked.append([key for key, packed in commands if b"XTRIM" in packed])
        return await exchange(redis, commands)

    monkeypatch.setattr("bizosaas_events.relay.exchange", counted)
    await asyncio.sleep(SYNC_SECONDS)
    await relay.step()
    streams = [deployment.names.partition("account", part) for part in range(PARTITIONS)]
    assert [keys for keys in asked if keys] == [streams]
    assert [await deployment.redis.xlen(stream) for stream in streams] == [1] * PARTITIONS


async def test_nobody_waits_for_a_consumer_that_is_far_behind(deployment: Deployment) -> None:
    early, late, later = Seen(), Seen(), Seen()
    going = asyncio.Event()

    async def slowly(connection: object, envelopes: Sequence[Envelope]) -> None:
        await late(connection, envelopes)
        await going.wait()

    await deployment.fill(3 * AHEAD, streams=1)
    part = (await deployment.store.heads())[0].partition
    own, again = deployment.names.partition("account", part), deployment.names.again("account", part, "late")
    deployment.relay()
    deployment.start(deployment.consumer(early).run)
    await until(lambda: early.count == 3 * AHEAD)

    async def trimmed() -> bool:
        return int(await deployment.redis.xlen(own)) == 1

    await until(trimmed, what="all that everybody has had is trimmed, but for the last entry")
    deployment.start(deployment.consumer(slowly, "late", own=False).run)

    async def laid() -> bool:
        return int(await deployment.redis.xlen(again)) == AHEAD

    await until(laid, what="as much as may be is laid for the late one")
    await deployment.fill(40, streams=1)
    await until(lambda: early.count == 3 * AHEAD + 40)
    assert late.count <= 50
    # Another one that is far behind, elsewhere: it does not wait for the first.
    deployment.start(deployment.consumer(later, "later", own=False).run)
    await until(lambda: later.count == 3 * AHEAD + 40)
    assert int(await deployment.redis.xlen(own)) <= 100
    assert int(await deployment.redis.xlen(again)) == AHEAD
    going.set()
    await until(lambda: late.count == 3 * AHEAD + 40)

    async def gone() -> bool:
        left = [
            key
            async for key in deployment.redis.scan_iter(f"*{deployment.env}*")
            if key.endswith((b"behind", b"late", b"later"))
        ]
        return not left

    await until(gone, what="nobody is behind, and nothing is left of it")
    assert [seen.violations for seen in (early, late, later)] == [0, 0, 0]
    await deployment.fill(40, streams=1)
    await until(lambda: [s.count for s in (early, late, later)] == [3 * AHEAD + 80] * 3)


@one_redis
async def test_a_flush_does_not_stop_a_consumer_that_is_far_behind(deployment: Deployment) -> None:
    early, late = Seen(), Seen()
    await deployment.fill(8_000)
    deployment.relay()
    deployment.start(deployment.consumer(early).run)
    await until(lambda: early.count == 8_000)

    async def slowly(connection: object, envelopes: Sequence[Envelope]) -> None:
        await late(connection, envelopes)
        await asyncio.sleep(0.01)

    deployment.start(deployment.consumer(slowly, "late", own=False).run)
    await until(lambda: late.count > 1_000)
    await deployment.redis.delete(*[key async for key in deployment.redis.scan_iter(f"*{deployment.env}*")])
    await until(lambda: late.count > 3_000)
    await deployment.redis.delete(*[key async for key in deployment.redis.scan_iter(f"*{deployment.env}*")])
    await deployment.fill(400)
    await until(lambda: early.count == 8_400)
    await until(lambda: late.count == 8_400, 30)
    assert (early.violations, late.violations) == (0, 0)


async def test_a_flushed_redis_is_refilled_while_everybody_works(deployment: Deployment) -> None:
    seen = Seen()
    deployment.relay()
    deployment.start(deployment.consumer(seen).run)
    for _ in range(4):
        await deployment.fill(400)
        keys = [key async for key in deployment.redis.scan_iter(f"*{deployment.env}*")]
        if keys:
            await deployment.redis.delete(*keys)
    await until(lambda: seen.count >= 1600)
    await asyncio.sleep(1)
    assert (seen.count, seen.violations) == (1600, 0)


@one_redis
async def test_instances_share_the_partitions_fairly_and_give_them_back(deployment: Deployment) -> None:
    seen = Seen()
    first, second = deployment.consumer(seen), deployment.consumer(seen, instance="b")
    one = deployment.start(first.run)
    await until(lambda: len(first.held) == PARTITIONS)
    deployment.start(second.run)
    await until(lambda: len(first.held) == len(second.held) == PARTITIONS // 2, 5 * TTL)
    assert not set(first.held) & set(second.held)
    one.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await one
    await until(lambda: len(second.held) == PARTITIONS, TTL)


@one_redis
async def test_a_partition_goes_on_soon_after_its_process_died(deployment: Deployment) -> None:
    seen = Seen()
    dead, survivor = deployment.consumer(seen), deployment.consumer(seen, instance="b")
    consuming = [deployment.start(dead.run), deployment.start(survivor.run)]
    deployment.relay()
    await until(lambda: len(dead.held) == len(survivor.held) == PARTITIONS // 2, 5 * TTL)
    await deployment.pool.execute(
        "create function stuck() returns trigger language plpgsql as $$ begin return null; end $$;"
        "create trigger stuck before update or delete on consumer_instance for each row "
        "when (old.instance = 'a') execute function stuck();"
        "create trigger stuck before update on consumer_partition for each row "
        "when (old.owner = 'a' and new.owner is null) execute function stuck()"
    )  # from here on the first instance can neither renew nor give back: it is as good as dead
    consuming[0].cancel()
    began = time.monotonic()
    await deployment.fill(400)
    await until(lambda: seen.count == 400)
    assert time.monotonic() - began < TTL + 1
    assert seen.violations == 0


@one_redis
async def test_an_event_waits_for_what_is_away_and_holds_up_only_its_partition(deployment: Deployment) -> None:
    seen, away = Seen(), True

    async def apply(connection: object, envelopes: Sequence[Envelope]) -> None:
        if away and any(e.subject == "account-7" and e.streamversion == 3 for e in envelopes):
            raise UnavailableError("The vault is sealed.")
        await seen(connection, envelopes)

    consumer = deployment.consumer(apply, attempts=1)
    deployment.start(consumer.run)
    deployment.relay()
    await deployment.fill(400)
    part = (await deployment.store.load("account-7"))[0].partition
    position = (await deployment.store.load("account-7"))[2].sequence
    rest = 400 - len(await deployment.store.read(part, position - 1, 1000))
    await until(lambda: consumer.retried > 2 and consumer.applied >= rest)
    assert list(consumer.failing) == [("account", part)]
    assert "account.account.deposited.v1" in consumer.failing["account", part]
    assert "The vault is sealed." in consumer.failing["account", part]
    assert consumer.held["account", part] == position - 1
    assert seen.count == rest
    away = False
    await until(lambda: seen.count == 400 and not consumer.failing)
    assert seen.violations == 0
    assert await deployment.pool.fetchval("select count(*) from dead_letter") == 0


@one_redis
@pytest.mark.parametrize("own", [True, False])
async def test_an_entry_that_is_no_event_is_laid_anew_from_the_log(deployment: Deployment, own: bool) -> None:
    seen = Seen()
    await deployment.fill(400)
    relay = Relay(deployment.store, deployment.pool, deployment.redis, env=deployment.env)
    while await relay.step():
        pass
    part = (await deployment.store.load("account-7"))[0].partition
    stream = deployment.names.partition("account", part)
    entries = cast("list[Any]", await deployment.redis.xrange(stream))
    await deployment.redis.delete(stream)
    for n, (entry_id, fields) in enumerate(entries):
        spoilt = {2: {"garbage": b"\xff"}, 4: {**fields, b"sequence": b"1"}, 6: {**fields, b"id": b"none"}}
        if n != 8:
            await deployment.redis.xadd(stream, spoilt.get(n, fields), id=entry_id)
    deployment.start(deployment.consumer(seen, own=own).run)
    deployment.start(relay.run)
    await until(lambda: seen.count >= 400)
    assert (seen.count, seen.violations) == (400, 0)
    assert await deployment.pool.fetchval("select count(*) from dead_letter") == 0


async def test_the_relay_takes_an_entry_out_of_turn_for_what_it_is(deployment: Deployment) -> None:
    """Whatever stands in a stream, the relay neither repeats a position nor leaves one out."""
    await deployment.fill(400)
    relay = Relay(deployment.store, deployment.pool, deployment.redis, env=deployment.env)
    while await relay.step():
        pass
    for head in await deployment.store.heads():
        stream = deployment.names.partition("account", head.partition)
        entries = cast("list[Entry]", await deployment.redis.xrange(stream))
        assert [entry_id for entry_id, _ in entries] == [f"{n}-0".encode() for n in range(1, head.position + 1)]
        stored = await deployment.store.read(head.partition, 0, 1000)
        encoded = [{k: v if isinstance(v, bytes) else v.encode() for k, v in to_fields(e).items()} for e in stored]
        assert [{k.decode(): v for k, v in fields.items()} for _, fields in entries] == encoded


async def test_a_redis_that_lost_its_tail_gets_it_again(deployment: Deployment) -> None:
    """As after a power cut with `appendfsync everysec`: the stream ends earlier than the relay remembers."""
    await deployment.fill(400)
    relay = Relay(deployment.store, deployment.pool, deployment.redis, env=deployment.env)
    while await relay.step():
        pass
    for head in await deployment.store.heads():
        stream = deployment.names.partition("account", head.partition)
        entries = cast("list[Any]", await deployment.redis.xrange(stream))
        await deployment.redis.delete(stream)
        for entry_id, fields in entries[:-3]:
            await deployment.redis.xadd(stream, fields, id=entry_id)
    await deployment.fill(80)
    while await relay.step():
        pass
    for head in await deployment.store.heads():
        entries = cast(
            "list[Any]", await deployment.redis.xrange(deployment.names.partition("account", head.partition))
        )
        assert [entry_id for entry_id, _ in entries] == [f"{n}-0".encode() for n in range(1, head.position + 1)]


async def test_the_relay_sends_bytes_as_they_are_recorded(deployment: Deployment) -> None:
    (event,) = await deployment.store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context())
    tampered = b'{"type":"account.account.deposited.v1","cents":1,"\xff\x00":"\xc3"}' * 9000
    await deployment.pool.execute("update event set data = $1", tampered)
    relay = Relay(deployment.store, deployment.pool, deployment.redis, env=deployment.env)
    while await relay.step():
        pass
    ((_, fields),) = cast(
        "list[Entry]", await deployment.redis.xrange(deployment.names.partition("account", event.partition))
    )
    assert fields[b"data"] == tampered
