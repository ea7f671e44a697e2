"""What the kill test starts as a process: a host of the service `account`.

python program.py host <database url> <redis url> <env> <instance>
"""

import asyncio
import signal
import sys

import asyncpg
import uvloop

from bizosaas_events import Envelope
from bizosaas_events.bus import Answer, bind
from bizosaas_events.bus.connecting import connect
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import EventStore
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposit, deposit
from bizosaas_runtime.commands import CommandHost

IDLE_MS = 600


async def slow_deposit(command: Deposit, envelope: Envelope, *, store: EventStore) -> Answer:
    """Takes its time on both sides of the append, so that a kill finds it there."""
    await asyncio.sleep(0.02)
    answer = await deposit(command, envelope, store=store)
    await asyncio.sleep(0.02)
    return answer


async def main(role: str, database_url: str, redis_url: str, env: str, instance: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    redis = connect(redis_url)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=8)
        host = CommandHost(
            service="account", codec=CODEC, redis=redis, redis_url=redis_url, pool=pool, env=env, instance=instance,
            workers=8, idle_ms=IDLE_MS, handled=store.handled,
        )  # fmt: skip
        await host.start(bind(slow_deposit, store=store))
        running = asyncio.create_task(host.run())
        print("at work", flush=True)
        await stopped.wait()
        await host.drain()
        await stop([running])
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
