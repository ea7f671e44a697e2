"""The master of a command stream is killed: what was accepted is handled, once."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from bizosaas_events.bus import Names
from bizosaas_events.bus.connecting import connect
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.envelope import new_id
from bizosaas_events.errors import UnavailableError
from bizosaas_events.store.migrating import migrate
from bizosaas_events.testing.account import CODEC, Deposit, a_context
from bizosaas_events.testing.children import Children
from bizosaas_events.testing.waiting import until
from bizosaas_sandbox.servers.redis_cluster import RedisCluster

pytestmark = pytest.mark.kill

ACCOUNTS = 20


async def test_the_master_of_a_command_stream_is_killed_while_commands_come(
    private_redis_cluster: RedisCluster, env_name: str, tmp_path: Path,
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
) -> None:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    cluster, stream = private_redis_cluster, Names(env_name).commands("account")
    redis, connection = connect(cluster.url), await asyncpg.connect(url)
    accepted: set[str] = set()
    dead = await asyncio.to_thread(cluster.master_of, stream)

    async def send(bus: RedisCommandBus) -> None:
        id = new_id()
        try:
            await bus.send(Deposit(account_id=str(len(accepted) % ACCOUNTS), cents=1), a_context(), id=id)
            accepted.add(id)
        except UnavailableError:
            await asyncio.sleep(0.05)

    async def handled() -> bool:
        rows = await connection.fetch("select id from handled_command")
        return accepted <= {str(row["id"]) for row in rows}

    async with (
        Children(Path(__file__).with_name("program.py"), tmp_path / "log") as children,
        RedisCommandBus(redis, CODEC, env=env_name, source="test", instance="test-1") as bus,
    ):
        for _ in range(2):
            await children.start("host", url, cluster.url, env_name, secrets.token_hex(3))
        while not await connection.fetchval("select count(*) from event"):
            await send(bus)
        before = len(accepted)
        await asyncio.to_thread(dead.kill)
        while len(accepted) < before + 200:
            await send(bus)
        await until(handled, 40, what="every accepted command is handled")
        children.all_alive()
    assert await connection.fetchval("select count(*) from event") == await connection.fetchval(
        "select count(*) from handled_command"
    )
    assert await connection.fetchval("select count(*) from dead_letter") == 0
    await connection.close()
    await redis.aclose()
