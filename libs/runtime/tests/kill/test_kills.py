"""A command that was accepted is handled, and has its effect once, whichever process dies."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from bizosaas_events.bus.base import Names, command_envelope
from bizosaas_events.envelope import new_id, to_fields
from bizosaas_events.store.migrating import migrate
from bizosaas_events.testing.account import CODEC, Deposit, a_context
from bizosaas_events.testing.children import Children, dice
from bizosaas_events.testing.waiting import until
from bizosaas_sandbox.servers.redis import Redis as RedisServer

pytestmark = pytest.mark.kill

ACCOUNTS = 100
EACH = 10


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
async def test_hosts_that_end_while_a_thousand_commands_wait(
    how: str, tmp_path: Path, redis_server: RedisServer, env_name: str,
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
) -> None:  # fmt: skip
    random = dice()
    url = new_database(template=database_template("event_log", migrate))
    where = ("host", url, redis_server.url, env_name)
    stream = Names(env_name).commands("account")
    redis = Redis.from_url(redis_server.url)
    pipeline = redis.pipeline(transaction=False)
    for n in range(ACCOUNTS * EACH):
        deposit = Deposit(account_id=str(n % ACCOUNTS), cents=n + 1)
        fields: dict[Any, Any] = {
            **to_fields(command_envelope(deposit, a_context(), CODEC, id=new_id(), source="test"))
        }
        pipeline.xadd(stream, fields)
    await pipeline.execute()
    connection = await asyncpg.connect(url)

    async def events() -> int:
        return int(await connection.fetchval("select count(*) from event"))

    async def all_done() -> bool:
        pending: Any = await redis.xpending(stream, "account")
        return await events() >= ACCOUNTS * EACH and pending["pending"] == 0

    async with Children(Path(__file__).with_name("program.py"), tmp_path / "log") as children:
        await children.start(*where, secrets.token_hex(3))
        await children.start(*where, secrets.token_hex(3))
        ended = 0
        while await events() < ACCOUNTS * EACH * 0.9 and ended < 4:
            await asyncio.sleep(random.uniform(0, 0.4))
            pending: Any = await redis.xpending(stream, "account")
            assert pending["pending"] > 0  # it finds them at work
            if how == "SIGKILL":
                await children.replace(*where, secrets.token_hex(3))
            else:
                oldest = children.alive[0]
                await children.start(*where, secrets.token_hex(3))
                assert await children.stop(oldest) == 0
            ended += 1
        await until(all_done, 30, what="every command handled, and nothing pending")
        children.all_alive()
    assert ended >= 1
    assert await events() == ACCOUNTS * EACH
    assert await connection.fetchval("select count(distinct data) from event") == ACCOUNTS * EACH
    assert await connection.fetchval("select count(*) from handled_command") == ACCOUNTS * EACH
    assert await connection.fetchval("select count(*) from dead_letter") == 0
    await connection.close()
    await redis.aclose()
