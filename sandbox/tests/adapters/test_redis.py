"""Redis as a child process, and the fixtures over it."""

import pytest
from redis.asyncio import Redis as Client
from redis.exceptions import ConnectionError as Unreachable

from bizosaas_sandbox.servers import ServerError
from bizosaas_sandbox.servers.redis import Redis


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_data_survives_a_stop_and_a_kill(private_redis: Redis, end: str) -> None:
    url = private_redis.url
    async with Client.from_url(url, decode_responses=True) as client:
        await client.set("kept", "yes")
        getattr(private_redis, end)()
        with pytest.raises(Unreachable):
            await client.get("kept")
        private_redis.start()
        assert private_redis.url == url
        assert await client.get("kept") == "yes"


async def test_a_flushed_redis_has_forgotten_everything(private_redis: Redis) -> None:
    async with Client.from_url(private_redis.url) as client:
        await client.set("kept", "no")
        private_redis.flushall()
        assert await client.dbsize() == 0


async def test_nothing_is_ever_evicted(redis_url: str, env_name: str) -> None:
    async with Client.from_url(redis_url, decode_responses=True) as client:
        assert (await client.config_get("maxmemory-policy")) == {"maxmemory-policy": "noeviction"}
        await client.set(f"{env_name}:mine", "1")


def test_a_start_that_fails_quotes_the_log(private_redis: Redis) -> None:
    with pytest.raises(ServerError, match="nonsense"):
        Redis(private_redis.data / "other", settings={"nonsense": "1"}).start()
