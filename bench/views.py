"""What an event costs in the gateway: folded into the read model, and told to everybody who follows a tenant.

Microseconds of processor time of the gateway's process and of PostgreSQL; the events come from Redis as the relay
puts them there, and the followers are a process of their own.

    python bench/views.py [--rounds 3] [--events 12000] [--followers 50]
"""

import sys

# A file in this folder is called like the package that is measured: the folder comes last on the path.
sys.path.append(sys.path.pop(0))

import argparse
import asyncio
import os
import resource
import statistics
from typing import Any

import asyncpg
from measuring import Servers, processor_seconds, servers

from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.envelope import new_id
from bizosaas_events.messages.connector import ConnectionRenamed, ConnectionRequested
from bizosaas_events.store.migrating import migrate
from bizosaas_events.testing.account import a_context
from bizosaas_events.testing.waiting import until
from bizosaas_runtime.worker import collect_seldom
from bizosaas_sandbox.servers.children import free_port
from gateway.adapters import migrations
from gateway.testing import Services, World, running, some_settings

TENANTS = 20
CONNECTIONS = 10
TOLD = 200


def followers(port: int, token: str, number: int, events: int) -> None:
    """Follow with so many connections until each has been told so many events."""

    async def follow() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(head.encode())
        seen = 0
        while seen < events:
            line = await reader.readline()
            assert line, "the stream ended"
            if line.startswith(b"retry:"):
                print("following", flush=True)
            seen += line.startswith(b"data:")
        writer.close()

    async def all_() -> None:
        await asyncio.gather(*(follow() for _ in range(number)))

    asyncio.run(all_())


def own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def lay(redis: Client, env: str, events: int) -> None:
    """Put events of many connections and tenants into Redis."""
    services = Services(redis, env)
    for tenant in range(TENANTS):
        context, ids = a_context(f"tenant-{tenant}"), [new_id() for _ in range(CONNECTIONS)]
        for n in range(events // TENANTS):
            id = ids[n % CONNECTIONS]
            await services.record(f"connection-{id}", requested(id) if n < CONNECTIONS else renamed(id, n), context)


def requested(id: str) -> ConnectionRequested:
    return ConnectionRequested(connection_id=id, connector="wordpress", label="Blog", settings={}, method="credentials")


def renamed(id: str, n: int) -> ConnectionRenamed:
    return ConnectionRenamed(connection_id=id, label=f"Blog {n}")


async def fold(started: Servers, events: int) -> tuple[float, float]:
    """What it costs to start and to fold so many events, in our process and PostgreSQL."""
    env = f"fold{events}"
    url = started.database(env)
    await asyncio.to_thread(migrate, url, migrations)
    redis = connect(started.redis.url)
    await lay(redis, env, events)
    await redis.aclose()
    assert started.postgres.pid is not None
    before, postgres = own_seconds(), processor_seconds(started.postgres.pid)
    settings = some_settings(database_url=url, redis_url=started.redis.url, env=env, port=free_port())
    async with running(settings):
        connection = await asyncpg.connect(url)

        async def folded() -> bool:
            return bool(await connection.fetchval("select sum(position) >= $1 from consumer_partition", events))

        await until(folded, 120)
        spent = own_seconds() - before, processor_seconds(started.postgres.pid) - postgres
        await connection.close()
    return spent


async def told(world: World, port: int, followers: int, events: int, pid: int) -> tuple[float, float]:
    """What a steady trickle costs, in our process and PostgreSQL."""
    ada = await world.admin()
    token = ada.headers["Authorization"].removeprefix("Bearer ")
    child: Any = None
    if followers:
        command = [sys.executable, __file__, "follow", str(port), token, str(followers), str(events)]
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        for _ in range(followers):
            await child.stdout.readline()
    before, postgres = own_seconds(), processor_seconds(pid)
    context, id = a_context("acme-id"), new_id()
    for n in range(events):
        await world.services.record(f"connection-{id}", renamed(id, n) if n else requested(id), context)
        await asyncio.sleep(0.005)
    if child is not None:
        await asyncio.wait_for(child.wait(), 60)
    else:
        await asyncio.sleep(1)
    return own_seconds() - before, processor_seconds(pid) - postgres


async def round_of(events: int, number: int) -> dict[str, tuple[float, float]]:
    async with servers() as started:
        few, many = await fold(started, events // 5), await fold(started, events)
        folded = [1e6 * (b - a) / (events - events // 5) for a, b in zip(few, many, strict=True)]
        url, port = started.database("told"), free_port()
        await asyncio.to_thread(migrate, url, migrations)
        assert started.postgres.pid is not None
        settings = some_settings(database_url=url, redis_url=started.redis.url, env="told", port=port)
        async with running(settings) as world:
            alone = await told(world, port, 0, TOLD, started.postgres.pid)
            with_all = await told(world, port, number, TOLD, started.postgres.pid)
    each = [1e6 * (b - a) / (TOLD * number) for a, b in zip(alone, with_all, strict=True)]
    return {"folded into the read model": (folded[0], folded[1]), "told to one follower": (each[0], each[1])}


async def main(rounds: int, events: int, number: int) -> None:
    collect_seldom()
    measured = [await round_of(events, number) for _ in range(rounds)]
    print(f"### What an event costs in the gateway\n\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| an event is | gateway, µs | PostgreSQL, µs |\n|---|---:|---:|")
    for name in measured[0]:
        ours, theirs = (statistics.median(m[name][n] for m in measured) for n in (0, 1))
        print(f"| {name} | {ours:.0f} | {theirs:.0f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["follow"]:
        followers(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        raise SystemExit
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=12_000)
    parser.add_argument("--followers", type=int, default=50)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.events, options.followers))
