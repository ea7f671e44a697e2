"""How fast messages reach whoever they are for.

(a) a work queue: the direct consumer, without and with its inbox; the same entries through FastStream as CommandHost
    configures it; and XREADGROUP with XACK and nothing else
(b) an ordered projection: 200 events in a transaction, and one; one partition after another, as the ratio is about
    batches, and beside it the four at once that a consumer does
(c) the relay: draining a log into an empty Redis
(d) milliseconds from the return of `append` to the consumer's transaction, at 300 events a second

python bench/dispatch.py [--rounds 3] [--messages 20000]
"""

import argparse
import asyncio
import logging
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

import asyncpg
from measuring import Bar, Measure, interleave, servers, table
from redis.asyncio import Redis

from bizosaas_events.bus import Answer, bind
from bizosaas_events.bus.base import Names, command_envelope
from bizosaas_events.consumer import Feed, OrderedConsumer
from bizosaas_events.envelope import Envelope, from_fields, new_id, to_fields
from bizosaas_events.queue import QueueConsumer
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.testing.account import CODEC, Deposit, Deposited, a_context
from bizosaas_events.testing.waiting import until
from bizosaas_runtime.commands import CommandHost

PARTITIONS = 16
PER_SECOND = 300
PROJECT = """insert into balance as b (stream, cents) select s, sum(c) from unnest($1::text[], $2::bigint[]) u(s, c)
             group by s on conflict (stream) do update set cents = b.cents + excluded.cents"""


class Stopwatch:
    """Runs from the first message to the last, so that nobody's start is measured."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen = 0
        self._first = 0
        self._began = 0.0
        self._took = 0.0
        self._over = asyncio.Event()

    def count(self, messages: int = 1) -> None:
        self._seen += messages
        if not self._began:
            self._began, self._first = time.perf_counter(), messages
        if self._seen >= self._total and not self._over.is_set():
            self._took = time.perf_counter() - self._began
            self._over.set()

    async def rate(self, *work: Callable[[], Awaitable[None]]) -> float:
        """Run the work until all is seen."""
        tasks = [asyncio.ensure_future(each()) for each in work]
        await asyncio.wait_for(self._over.wait(), 120)
        await stop(tasks)
        return (self._seen - self._first) / self._took


class Bench:
    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis, redis_url: str, messages: int) -> None:
        self.pool = pool
        self.redis = redis
        self.redis_url = redis_url
        self.messages = messages
        self.store = PostgresEventStore(pool, CODEC, category="account", source="bench", partitions=PARTITIONS)
        self.entries = [self._entry(n) for n in range(messages)]

    def _entry(self, n: int) -> dict[Any, Any]:
        envelope = command_envelope(Deposit(account_id="1", cents=n), a_context(), CODEC, id=new_id(), source="bench")
        return {**to_fields(envelope)}

    async def put(self, stream: str, count: int) -> None:
        for start in range(0, count, 2000):
            pipeline = self.redis.pipeline(transaction=False)
            for fields in self.entries[start : start + 2000][: count - start]:
                pipeline.xadd(stream, fields)
            await pipeline.execute()

    async def raw(self) -> float:
        stream = Names("bench").queue(secrets.token_hex(4))
        await self.put(stream, self.messages)
        await self.redis.xgroup_create(stream, "g", id="0")
        began, seen, done = time.perf_counter(), 0, list[bytes]()
        while seen < self.messages:
            pipeline = self.redis.pipeline(transaction=False)
            if done:
                pipeline.xack(stream, "g", *done)
            pipeline.xreadgroup("g", "c", {stream: ">"}, count=500)
            found = cast("list[Any]", (await pipeline.execute())[-1])
            entries = found[0][1]
            for _, fields in entries:
                CODEC.decode(from_fields(fields))
            done = [entry_id for entry_id, _ in entries]
            seen += len(entries)
        took = time.perf_counter() - began
        await self.redis.delete(stream)
        return seen / took

    async def queue(self, share: int, **options: Any) -> float:
        stream = Names("bench").queue(secrets.token_hex(4))
        count = self.messages // share
        await self.put(stream, count)
        watch = Stopwatch(count)

        async def handle(connection: Any, envelope: Envelope) -> None:
            CODEC.decode(envelope)
            watch.count()

        consumer = QueueConsumer(
            secrets.token_hex(4), stream, handle, pool=self.pool, redis=self.redis, instance="bench", **options
        )
        rate = await watch.rate(consumer.run)
        await self.redis.delete(stream)
        return rate

    async def faststream(self, share: int) -> float:
        env = f"bench{secrets.token_hex(4)}"
        count = self.messages // share
        await self.put(Names(env).commands("account"), count)
        watch = Stopwatch(count)

        async def handle(command: Deposit, envelope: Envelope) -> Answer:
            watch.count()
            return Answer()

        host = CommandHost(
            service="account", codec=CODEC, redis=self.redis, redis_url=self.redis_url, pool=self.pool, env=env,
            instance="bench", workers=32, idle_ms=5000, handled=self.store.handled,
        )  # fmt: skip
        await host.start(bind(handle))
        rate = await watch.rate(host.run)
        await host.drain()
        return rate

    async def relay(self) -> float:
        relay = Relay(self.store, self.pool, self.redis, env=f"bench{secrets.token_hex(4)}")
        began = time.perf_counter()
        while await relay.step():
            pass
        rate = relay.sent / (time.perf_counter() - began)
        assert relay.sent == self.messages
        return rate

    async def projection(self, env: str, batch: int, count: int, at_once: int = 1) -> float:
        watch = Stopwatch(count)

        async def apply(connection: Any, envelopes: Sequence[Envelope]) -> None:
            cents = [cast(Deposited, CODEC.decode(envelope)).cents for envelope in envelopes]
            await connection.execute(PROJECT, [envelope.subject for envelope in envelopes], cents)

        feeds = [Feed("account", PARTITIONS, self.store)]
        consumer = OrderedConsumer(
            secrets.token_hex(4), feeds, apply, pool=self.pool, redis=self.redis, env=env, instance="bench", batch=batch,
            at_once=at_once,
        )  # fmt: skip
        consumer.committed = lambda events: watch.count(len(events))
        return await watch.rate(consumer.run)

    async def latency(self, seconds: float) -> list[float]:
        """Milliseconds from commit to consumer, of events written at a steady rate while relay and consumer run."""
        appended: dict[str, float] = {}
        took: list[float] = []

        async def apply(connection: Any, envelopes: Sequence[Envelope]) -> None:
            now = time.perf_counter()
            took.extend((now - appended[e.id]) * 1000 for e in envelopes if e.id in appended)

        env = f"bench{secrets.token_hex(4)}"
        relay = Relay(self.store, self.pool, self.redis, env=env)
        while await relay.step():
            pass
        feeds = [Feed("account", PARTITIONS, self.store)]
        consumer = OrderedConsumer(
            secrets.token_hex(4), feeds, apply, pool=self.pool, redis=self.redis, env=env, instance="bench"
        )
        tasks = [asyncio.create_task(relay.run()), asyncio.create_task(consumer.run())]
        heads = sum(head.position for head in await self.store.heads())
        await until(lambda: consumer.applied == heads, 60)
        writes: set[asyncio.Task[None]] = set()

        async def write() -> None:
            (recorded,) = await self.store.append([Write(f"late-{new_id()}", 0, [Deposited(cents=1)])], a_context())
            appended.setdefault(recorded.id, time.perf_counter())

        began, count = time.perf_counter(), int(seconds * PER_SECOND)
        for n in range(count):
            await asyncio.sleep(max(0.0, began + n / PER_SECOND - time.perf_counter()))
            writes.add(asyncio.create_task(write()))
        await asyncio.gather(*writes)
        await until(lambda: consumer.applied == heads + count)
        await stop(tasks)
        return sorted(took)


async def main(rounds: int, messages: int) -> None:
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    async with servers() as started:
        url = started.database("log")
        migrate(url)
        redis = Redis.from_url(started.redis.url)
        async with open_pool(url, min_size=8, max_size=16) as pool:
            await pool.execute("create table balance (stream text primary key, cents bigint not null)")
            bench = Bench(pool, redis, started.redis.url, messages)
            for n in range(200):
                share = [Deposited(cents=c) for c in range(messages // 200)]
                await bench.store.append([Write(f"account-{n}", 0, share)], a_context())
            relay = Relay(bench.store, pool, redis, env="bench")
            while await relay.step():
                pass
            variants: dict[str, Measure] = {
                "queue: XREADGROUP and XACK": bench.raw,
                "queue: direct consumer": partial(bench.queue, 1, inbox=False, workers=4, count=1000),
                "queue: direct, inbox of 100": partial(bench.queue, 1, transaction=100, workers=4, count=1000),
                "queue: direct, inbox of 1": partial(bench.queue, 10),
                "queue: FastStream": partial(bench.faststream, 10),
                "projection: 200 a transaction": partial(bench.projection, "bench", 200, messages),
                "projection: 1 a transaction": partial(bench.projection, "bench", 1, messages // 20),
                "projection: 1 a transaction, 4 at once": partial(bench.projection, "bench", 1, messages // 20, 4),
                "relay": bench.relay,
            }
            measured = await interleave(variants, rounds)
            latencies = [await bench.latency(3) for _ in range(rounds)]
            for name, share_of in (("p50", 0.5), ("p99", 0.99)):
                values = [each[int(len(each) * share_of)] for each in latencies]
                measured[f"commit to consumer at {PER_SECOND}/s, {name}, ms"] = values
        await redis.aclose()
    bars = [
        Bar("queue: direct consumer", "queue: FastStream", 25),
        Bar("projection: 200 a transaction", "projection: 1 a transaction", 40),
    ]
    table("Dispatch", measured, bars, began=began)
    for name, limit, better in (
        ("relay", 100_000, "at least"),
        (f"commit to consumer at {PER_SECOND}/s, p99, ms", 25, "below"),
    ):
        met = statistics.median(measured[name])
        missed = met < limit if better == "at least" else met >= limit
        print(f"{name}: {met:,.0f}, the bar is {better} {limit:,}{': missed' if missed else ''}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=20_000)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.messages))
