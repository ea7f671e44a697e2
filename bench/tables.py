"""What it costs to keep the event table in several, by PostgreSQL's own partitioning: one table beside sixteen.

    python bench/tables.py [--rounds 5] [--events 60000] [--appends 800]

Of two logs with the same events: appending to new streams and to old ones, loading a stream of 20, replaying and
verifying a quarter of the log, and what the relay asks.
"""

import argparse
import asyncio
import random
import secrets
import time
from functools import partial
from typing import Any

import asyncpg
from measuring import Bar, Measure, interleave, servers, table

from bizosaas_events.relay import PENDING
from bizosaas_events.store.base import Write
from bizosaas_events.store.links import verify_partition
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.store.replaying import replay
from bizosaas_events.store.splitting import split
from bizosaas_events.testing.account import CODEC, Deposited, a_context

PARTITIONS = 64
QUARTER = range(PARTITIONS // 4)
WRITERS = 8
EACH = 20


def deposits(count: int) -> list[Deposited]:
    return [Deposited(cents=n) for n in range(count)]


async def fill(store: PostgresEventStore, streams: int) -> None:
    async def write(first: int) -> None:
        for n in range(first, streams, WRITERS):
            await store.append([Write(f"account-{n}", 0, deposits(EACH))], a_context())

    await asyncio.gather(*map(write, range(WRITERS)))


async def append(store: PostgresEventStore, appends: int, new: bool) -> float:
    async def write() -> None:
        own = secrets.token_hex(8)
        for n in range(appends // WRITERS):
            stream, version = (secrets.token_hex(8), 0) if new else (own, n)
            await store.append([Write(f"account-{stream}", version, deposits(1))], a_context())

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(WRITERS)))
    return appends / (time.perf_counter() - began)


async def load(store: PostgresEventStore, streams: int, loads: int = 400) -> float:
    wanted = [f"account-{random.randrange(streams)}" for _ in range(loads)]
    began = time.perf_counter()
    for stream in wanted:
        assert len(await store.load(stream)) == EACH
    return loads / (time.perf_counter() - began)


async def replayed(pool: "asyncpg.Pool[Any]") -> float:
    seen, began = 0, time.perf_counter()
    for part in QUARTER:
        async for batch in replay(pool, CODEC, part):
            seen += len(batch)
    return seen / (time.perf_counter() - began)


async def verified(pool: "asyncpg.Pool[Any]") -> float:
    began = time.perf_counter()
    for part in QUARTER:
        assert await verify_partition(pool, part) == []
    took = time.perf_counter() - began
    return int(await pool.fetchval("select sum(position) from event_partition where part < $1", len(QUARTER))) / took


async def asked(pool: "asyncpg.Pool[Any]", times: int = 100) -> float:
    rows = await pool.fetch("select part, position from event_partition where part < $1", PARTITIONS)
    parts, lasts = [row["part"] for row in rows], [max(row["position"] - 1, 0) for row in rows]
    began = time.perf_counter()
    for _ in range(times):
        await pool.fetch(PENDING, parts, lasts, 500)
    return times / (time.perf_counter() - began)


async def main(rounds: int, events: int, appends: int) -> None:
    began, streams = time.perf_counter(), events // EACH
    variants: dict[str, Measure] = {}
    bars: list[Bar] = []
    async with servers() as started:
        urls = started.database("one"), started.database("sixteen")
        for url in urls:
            migrate(url)
        split(urls[1])
        async with (
            open_pool(urls[0], min_size=8, max_size=8) as one,
            open_pool(urls[1], min_size=8, max_size=8) as many,
        ):
            for name, pool in (("one table", one), ("sixteen", many)):
                store = PostgresEventStore(pool, CODEC, category="account", source="bench", partitions=PARTITIONS)
                await fill(store, streams)
                await pool.execute("analyze")
                variants |= {
                    f"append to a new stream, {name}": partial(append, store, appends, True),
                    f"append to an old stream, {name}": partial(append, store, appends, False),
                    f"load a stream of {EACH}, {name}": partial(load, store, streams),
                    f"replay, {name}": partial(replayed, pool),
                    f"verify, {name}": partial(verified, pool),
                    f"relay asks, {name}": partial(asked, pool),
                }
            bars = [Bar(what, what.replace("sixteen", "one table"), 0.5) for what in variants if "sixteen" in what]
            measured = await interleave(variants, rounds)
            sizes = [await pool.fetchval("select pg_database_size(current_database())") for pool in (one, many)]
    table("One event table beside sixteen", measured, bars, began=began)
    print(f"\nSize: {sizes[0] >> 20} MB and {sizes[1] >> 20} MB.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--appends", type=int, default=800)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.events, options.appends))
