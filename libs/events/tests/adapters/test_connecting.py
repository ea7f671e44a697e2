"""What a client of Redis promises to all who use it at once."""

import asyncio
import contextlib

import pytest

from bizosaas_events.bus.connecting import DRIVER, connect, server_of
from bizosaas_events.bus.packing import exchange, pack
from bizosaas_sandbox.servers.redis import Redis
from bizosaas_sandbox.servers.redis_cluster import RedisCluster

AT_ONCE = 20
MANY = 300


async def disconnect(server: Redis) -> None:
    """All its clients, of which there are some."""
    said = server.ask("CLIENT KILL TYPE normal") or ":0"
    assert int(said[1:]) > 1
    await asyncio.sleep(0.05)  # the ends of the connections have come in


async def test_many_ask_at_once(any_redis_url: str) -> None:
    async with contextlib.aclosing(connect(any_redis_url)) as redis:
        assert await asyncio.gather(*(redis.exists(f"key-{n}") for n in range(MANY))) == [0] * MANY


async def test_a_new_connection_does_not_look_for_the_version_of_its_driver(any_redis_url: str) -> None:
    """redis-py reads it from files of its distribution, 0.4 ms in which nothing else happens, for each anew."""
    async with contextlib.aclosing(connect(any_redis_url)) as client:
        await client.ping()
        server = await server_of(client, "key")
        one, other = await server.get_connection(), await server.get_connection()

        assert one is not other
        assert one.driver_info is other.driver_info is DRIVER
        for connection in (one, other):
            await server.release(connection)


@pytest.mark.kill
async def test_nobody_gets_a_connection_that_died_while_nobody_used_it(private_redis: Redis) -> None:
    async with contextlib.aclosing(connect(private_redis.url)) as redis:
        await asyncio.gather(*(redis.ping() for _ in range(AT_ONCE)))
        await disconnect(private_redis)

        assert all(await asyncio.gather(*(redis.ping() for _ in range(AT_ONCE))))


@pytest.mark.kill
async def test_nobody_gets_a_connection_to_a_server_of_a_cluster_that_died_while_nobody_used_it(
    private_redis_cluster: RedisCluster,
) -> None:
    commands = [("key", pack(("EXISTS", "key")))]
    async with contextlib.aclosing(connect(private_redis_cluster.url)) as redis:
        await asyncio.gather(*(exchange(redis, commands) for _ in range(AT_ONCE)))
        await disconnect(private_redis_cluster.master_of("key"))

        assert await asyncio.gather(*(exchange(redis, commands) for _ in range(AT_ONCE))) == [[0]] * AT_ONCE
