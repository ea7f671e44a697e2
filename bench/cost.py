"""What one event costs at each stage: microseconds of processor time of our process, of PostgreSQL and of Redis.

Processor time and not a rate, so that it says the same on a busy machine, and adds up to machines: docs/scale.md does
that. Every stage works off the same log; with it, the bytes that an event takes on disk and in Redis.

    python bench/cost.py [--rounds 3] [--events 20000]
"""

import argparse
import asyncio
import os
import resource
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

import asyncpg
from measuring import processor_seconds, servers

from audit_svc.adapters import migrations as journal_tables
from audit_svc.adapters.ledger import PostgresLedger
from audit_svc.handlers.reactions import Journal
from bizosaas_events.bus import Names, bind
from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.consumer import Apply, Feed, OrderedConsumer
from bizosaas_events.envelope import Envelope, new_id
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import Write
from bizosaas_events.store.links import verify_partition
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.store.replaying import replay
from bizosaas_events.testing.account import CODEC, Deposit, Deposited, a_context, deposit
from bizosaas_events.testing.waiting import until
from bizosaas_runtime.commands import CommandHost
from bizosaas_runtime.worker import collect_seldom

PARTITIONS = 64
WRITERS = 8
TABLES = """
create table balance (stream text primary key, cents bigint not null default 0);
insert into balance (stream) select 'account-' || n from generate_series(0, 199) n
"""
PROJECT = """update balance b set cents = b.cents + u.cents from (
               select stream, sum(cents) as cents from unnest($1::text[], $2::bigint[]) as e(stream, cents) group by stream
             ) u where b.stream = u.stream"""
BALANCES = 200


class Cost(NamedTuple):
    """Processor time in seconds."""

    python: float
    postgres: float
    redis: float


class Bench:
    """One log, and the three kinds of processes that work on it."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Client, postgres_pid: int, redis_pid: int) -> None:
        self.pool = pool
        self.redis = redis
        self.store = PostgresEventStore(pool, CODEC, category="account", source="bench", partitions=PARTITIONS)
        self._postgres = postgres_pid
        self._redis = redis_pid

    def spent(self) -> Cost:
        own = resource.getrusage(resource.RUSAGE_SELF)
        servers = map(processor_seconds, (self._postgres, self._redis))
        return Cost(own.ru_utime + own.ru_stime, *servers)

    async def append(self, events: int, each: int) -> None:
        """To streams of `each` events, or one after another to many that are there."""

        async def write(writer: int) -> None:
            context = a_context()
            for n in range(writer, events // each, WRITERS):
                stream, version = (f"account-{n % BALANCES}", n // BALANCES) if each == 1 else (secrets.token_hex(8), 0)
                await self.store.append([Write(stream, version, [Deposited(cents=1)] * each)], context)

        await asyncio.gather(*map(write, range(WRITERS)))

    async def relay(self, env: str) -> None:
        relay = Relay(self.store, self.pool, self.redis, env=env)
        while await relay.step():
            pass

    async def consume(self, env: str, events: int, apply: Apply) -> None:
        feeds = [Feed("account", PARTITIONS, self.store)]
        consumer = OrderedConsumer(
            secrets.token_hex(4), feeds, apply, pool=self.pool, redis=self.redis, env=env, instance="bench"
        )
        running = asyncio.create_task(consumer.run())
        await until(lambda: consumer.applied >= events, 300)
        running.cancel()
        await asyncio.wait([running])

    async def command(self, env: str, url: str, count: int) -> None:
        """Handled by FastStream: read, load the account, decide, append, answer."""
        bus = RedisCommandBus(self.redis, CODEC, env=env, source="bench", instance="bench")
        host = CommandHost(
            service="account", codec=CODEC, redis=self.redis, redis_url=url, pool=self.pool, env=env, instance="bench",
            workers=32, idle_ms=5000, handled=self.store.handled,
        )  # fmt: skip
        sends = (
            bus.send(Deposit(account_id=f"command-{n % 1000}", cents=1), a_context(), id=new_id(), timeout=1)
            for n in range(count)
        )
        await asyncio.gather(*sends)
        await host.start(bind(deposit, store=self.store))
        running = asyncio.create_task(host.run())

        async def done() -> bool:
            (group,) = await self.redis.xinfo_groups(Names(env).commands("account"))
            return bool(group["pending"] == 0 and group["lag"] == 0)

        await until(done, 120)
        await host.drain()
        await stop([running])

    async def replay(self) -> None:
        for part in range(PARTITIONS):
            async for _ in replay(self.pool, CODEC, part):
                pass

    async def verify(self) -> None:
        for part in range(PARTITIONS):
            assert await verify_partition(self.pool, part) == []


async def nothing(connection: Any, envelopes: Sequence[Envelope]) -> None:
    """The consumer alone."""


async def project(connection: Any, envelopes: Sequence[Envelope]) -> None:
    cents = [cast(Deposited, CODEC.decode(envelope)).cents for envelope in envelopes]
    await connection.execute(PROJECT, [envelope.subject for envelope in envelopes], cents)


async def round_of(events: int) -> tuple[dict[str, Cost], dict[str, float]]:
    """Every stage once, on servers of its own: microseconds an event, and bytes an event."""
    costs: dict[str, Cost] = {}
    async with servers() as started:
        url = started.database("log")
        migrate(url, journal_tables)
        redis = connect(started.redis.url)
        # Connections that stay, so that no backend ends and takes its time with it.
        async with open_pool(url, min_size=10, max_size=10, max_inactive_connection_lifetime=0) as pool:
            await pool.execute(TABLES)
            assert started.postgres.pid is not None
            assert started.redis.pid is not None
            bench = Bench(pool, redis, started.postgres.pid, started.redis.pid)

            async def stage(name: str, work: Callable[[], Awaitable[None]], count: int = events) -> None:
                before = bench.spent()
                await work()
                costs[name] = Cost(*(1e6 * (b - a) / count for a, b in zip(before, bench.spent(), strict=True)))

            await stage("append, 1 in a transaction", lambda: bench.append(events, 1))
            await stage("append, 4 in a transaction", lambda: bench.append(events, 4))
            await pool.execute("vacuum analyze event")
            disk = await pool.fetchval("select pg_total_relation_size('event')") / (2 * events)
            all_ = 2 * events
            await stage("relay", lambda: bench.relay("bench"), all_)
            memory = (await redis.info("memory"))["used_memory"] / all_
            await stage("ordered consumer, doing nothing", lambda: bench.consume("bench", all_, nothing), all_)
            await stage("ordered consumer, projecting", lambda: bench.consume("bench", all_, project), all_)
            journal = Journal(PostgresLedger(pool))
            await stage("audit-svc's journal", lambda: bench.consume("bench", all_, journal.apply), all_)
            entries = await pool.fetchval("select pg_total_relation_size('entry')") / all_
            await stage("replay", bench.replay, all_)
            await stage("verify", bench.verify, all_)
            commands = events // 4
            await stage("command", lambda: bench.command("bench", started.redis.url, commands), commands)
        await redis.aclose()
    return costs, {"event table": disk, "journal": entries, "Redis, while it waits there": memory}


async def main(rounds: int, events: int) -> None:
    began = time.perf_counter()
    collect_seldom()
    measured = [await round_of(events) for _ in range(rounds)]
    print(f"### What one event costs\n\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"{time.perf_counter() - began:.0f} s, median of {rounds} rounds of {events} events\n")
    print("| stage | our process | PostgreSQL | Redis | together, µs of one core |\n|---|---:|---:|---:|---:|")
    for name in measured[0][0]:
        cost = Cost(
            *(statistics.median(values) for values in zip(*(costs[name] for costs, _ in measured), strict=True))
        )
        print(f"| {name} | {cost.python:.1f} | {cost.postgres:.1f} | {cost.redis:.1f} | {sum(cost):.1f} |")
    print("\n| an event takes | bytes |\n|---|---:|")
    for name in measured[0][1]:
        print(f"| {name} | {statistics.median(sizes[name] for _, sizes in measured):.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.events))
