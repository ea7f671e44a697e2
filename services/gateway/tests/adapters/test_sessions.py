"""Sessions are looked for in Redis no more often than needed."""

import asyncio
from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import Redis

from gateway.adapters.sessions import RedisSessions


async def test_requests_of_one_moment_look_for_their_session_once(
    redis_url: str, env_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Redis.from_url(redis_url) as redis:
        here, there = (RedisSessions(redis, env=env_name, idle_seconds=60, longest_seconds=60) for _ in range(2))
        token, session = await there.open(member_id="m", tenant_id="t", email="e", name="n", role="tenant_admin")
        look, looks = redis.getex, list[Any]()

        async def counted(key: str, **options: Any) -> Any:
            looks.append(key)
            return await look(key, **options)

        monkeypatch.setattr(redis, "getex", counted)

        assert await asyncio.gather(*(here.find(token) for _ in range(50))) == [session] * 50
        assert await here.find(token) == session
        assert len(looks) == 1


async def test_when_redis_is_away_each_of_them_is_told_and_the_next_one_looks_again(
    redis_url: str, env_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Redis.from_url(redis_url) as redis:
        here, there = (RedisSessions(redis, env=env_name, idle_seconds=60, longest_seconds=60) for _ in range(2))
        token, session = await there.open(member_id="m", tenant_id="t", email="e", name="n", role="tenant_admin")

        async def away(key: str, **options: Any) -> Any:
            await asyncio.sleep(0)
            raise exceptions.ConnectionError

        with monkeypatch.context() as outage:
            outage.setattr(redis, "getex", away)
            told = await asyncio.gather(*(here.find(token) for _ in range(3)), return_exceptions=True)

        assert [type(error) for error in told] == [exceptions.ConnectionError] * 3
        assert await here.find(token) == session
