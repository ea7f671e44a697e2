"""What the kill tests start as processes: a relay, an ordered consumer or a worker of a queue.

python program.py relay|ordered|queue <database url> <redis url> <env> <instance>
"""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from bizosaas_events.bus.base import Names
from bizosaas_events.bus.connecting import connect
from bizosaas_events.consumer import Feed, OrderedConsumer
from bizosaas_events.envelope import Envelope
from bizosaas_events.queue import QueueConsumer
from bizosaas_events.relay import Relay
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC

PARTITIONS = 8
TTL = 1.0
IDLE_SECONDS = 0.6

# Counts the events of a stream, and how many came out of order: what a lost or repeated batch would show in.
_PROJECT = """
insert into projection as p (stream, n, bad) values ($1, 1, ($2 <> 1)::int)
on conflict (stream) do update set n = p.n + 1, bad = p.bad + ($2 <> p.n + 1)::int
"""


async def project(connection: Any, envelopes: Sequence[Envelope]) -> None:
    await connection.executemany(_PROJECT, [(e.subject, e.streamversion) for e in envelopes])
    await connection.execute("select pg_sleep(0.01)")  # so that a kill finds it at work


async def effect(connection: Any, envelope: Envelope) -> None:
    await connection.execute("insert into effect values ($1)", json.loads(envelope.data)["cents"])
    await asyncio.sleep(0.02)


async def main(role: str, database_url: str, redis_url: str, env: str, instance: str) -> None:
    redis = connect(redis_url)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)
        work: Callable[[], Awaitable[None]]
        match role:
            case "relay":
                work = Relay(store, pool, redis, env=env).run
            case "ordered":
                work = OrderedConsumer(
                    "projection", [Feed("account", PARTITIONS, store)], project, pool=pool, redis=redis, env=env,
                    instance=instance, ttl=TTL, batch=20,
                ).run  # fmt: skip
            case "queue":
                work = QueueConsumer(
                    "mail", Names(env).queue("mail"), effect, pool=pool, redis=redis, instance=instance,
                    transaction=5, workers=6, count=100, idle_seconds=IDLE_SECONDS,
                ).run  # fmt: skip
            case _:
                raise SystemExit(f"no such role: {role}")
        print("at work", flush=True)
        await work()


if __name__ == "__main__":
    logging.basicConfig(level="WARNING", format=f"%(asctime)s {sys.argv[1]} {sys.argv[5]} %(message)s")
    asyncio.run(main(*sys.argv[1:]))
