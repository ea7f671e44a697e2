"""How fast a log is read back: into decoded events, as envelopes, and checked against its hash chain.

(a) replay: batches of a partition, the next one on its way while this one is decoded; and without that
(b) read: whole envelopes, as a consumer gets them that catches up from the store
(c) verify: every event hashed again and compared, read from the bytes that PostgreSQL sends; and over envelopes
(d) `eventsourcing` from PyPI: notifications in batches of the same size, mapped to domain events

python bench/replay.py [--rounds 5] [--events 60000]
"""

import argparse
import asyncio
import secrets
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from measuring import Bar, Measure, interleave, servers, table

from bizosaas_events.chain import GENESIS, content_of, verify_links
from bizosaas_events.store.base import Write
from bizosaas_events.store.links import verify_partition
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore, envelope_of, open_pool
from bizosaas_events.store.replaying import replay
from bizosaas_events.testing.account import CODEC, Deposited, a_context

PARTITIONS = 4
BATCH = 2000


class Account(Aggregate):
    @event("Opened")
    def __init__(self, cents: int) -> None:
        self.cents = cents

    @event("Deposited")
    def deposit(self, cents: int) -> None:
        self.cents += cents


async def fill(store: PostgresEventStore, events: int) -> None:
    for n in range(events // 100):
        await store.append([Write(f"account-{n}", 0, [Deposited(cents=c) for c in range(100)])], a_context())


def fill_eventsourcing(url: str, events: int) -> Any:
    parts = urlsplit(url)
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres", "POSTGRES_DBNAME": parts.path[1:],
        "POSTGRES_HOST": str(parts.hostname), "POSTGRES_PORT": str(parts.port), "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": str(parts.password),
    }  # fmt: skip
    application = type("Bench", (Application,), {"name": f"b{secrets.token_hex(4)}"})(env=environment)
    for n in range(events // 100):
        account = Account(n)
        for c in range(99):
            account.deposit(c)
        application.save(account)
    return application


def replay_eventsourcing(application: Any, events: int) -> float:
    seen, began, start = 0, time.perf_counter(), 1
    while notifications := application.recorder.select_notifications(start=start, limit=BATCH):
        for notification in notifications:
            application.mapper.to_domain_event(notification)
            seen += 1
        start = notifications[-1].id + 1
    assert seen == events
    return seen / (time.perf_counter() - began)


async def replayed(pool: "asyncpg.Pool[Any]", events: int, prefetch: bool) -> float:
    seen, began = 0, time.perf_counter()
    for part in range(PARTITIONS):
        async for batch in replay(pool, CODEC, part, batch=BATCH, prefetch=prefetch):
            seen += len(batch)
    assert seen == events
    return seen / (time.perf_counter() - began)


async def read(store: PostgresEventStore, events: int) -> float:
    seen, began = 0, time.perf_counter()
    for part in range(PARTITIONS):
        after = 0
        while envelopes := await store.read(part, after, BATCH):
            for envelope in envelopes:
                store.codec.decode(envelope)
            seen, after = seen + len(envelopes), envelopes[-1].sequence
    assert seen == events
    return seen / (time.perf_counter() - began)


async def verified(pool: "asyncpg.Pool[Any]", events: int) -> float:
    """As a verification does it: reading is part of it."""
    began = time.perf_counter()
    for part in range(PARTITIONS):
        assert await verify_partition(pool, part) == []
    return events / (time.perf_counter() - began)


ROWS = """select part, position, stream, version, id, type, tenant, at, data, meta, hash from event
          where part = $1 and position > $2 order by position limit $3"""


async def verified_envelopes(pool: "asyncpg.Pool[Any]", events: int) -> float:
    began = time.perf_counter()
    for part in range(PARTITIONS):
        after, head = 0, GENESIS
        while rows := await pool.fetch(ROWS, part, after, BATCH):
            envelopes = [(envelope_of(row), row["hash"]) for row in rows]
            links = ((e.sequence, content_of(e), stored, True) for e, stored in envelopes)
            assert verify_links(part, links, after, head) == []
            after, head = rows[-1]["position"], rows[-1]["hash"]
    return events / (time.perf_counter() - began)


async def main(rounds: int, events: int) -> None:
    began = time.perf_counter()
    events = events // 100 * 100
    async with servers() as started:
        url = started.database("log")
        migrate(url)
        async with open_pool(url, min_size=2, max_size=4) as pool:
            store = PostgresEventStore(pool, CODEC, category="account", source="account-svc", partitions=PARTITIONS)
            await fill(store, events)
            application = await asyncio.to_thread(fill_eventsourcing, started.database("other"), events)
            await pool.execute("analyze event")
            variants: dict[str, Measure] = {
                "replay, prefetching": partial(replayed, pool, events, True),
                "replay, one batch after another": partial(replayed, pool, events, False),
                "read and decode envelopes": partial(read, store, events),
                "eventsourcing": partial(asyncio.to_thread, replay_eventsourcing, application, events),
                "verify": partial(verified, pool, events),
                "verify over envelopes": partial(verified_envelopes, pool, events),
            }
            measured = await interleave(variants, rounds)
            application.close()
    bars = [
        Bar("replay, prefetching", "eventsourcing", 4),
        Bar("replay, prefetching", "replay, one batch after another", 1),
        Bar("verify", "verify over envelopes", 2),
    ]
    table(f"Replay of {events:,} events", measured, bars, began=began)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=60_000)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.events))
