"""Sessions are looked for in Redis no more often than needed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from redis import exceptions
from redis.asyncio import Redis

from gateway.adapters.sessions import RedisSessions, Session


class SignedIn(NamedTuple):
    """A session that another gateway opened."""

    redis: Redis
    sessions: RedisSessions
    token: str
    session: Session


@pytest.fixture
async def signed_in(redis_url: str, env_name: str) -> AsyncIterator[SignedIn]:
    async with Redis.from_url(redis_url) as redis:
        here, there = (RedisSessions(redis, env=env_name, idle_seconds=60, longest_seconds=60) for _ in range(2))
        token, session = await there.open(member_id="m", tenant_id="t", email="e", name="n", role="tenant_admin")
        yield SignedIn(redis, here, token, session)


async def test_requests_of_one_moment_look_for_their_session_once(
    signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis, sessions, token, session = signed_in
    look, looks = redis.getex, list[Any]()

    async def counted(key: str, **options: Any) -> Any:
        looks.append(key)
        return await look(key, **options)

    monkeypatch.setattr(redis, "getex", counted)

    assert await asyncio.gather(*(sessions.find(token) for _ in range(50))) == [session] * 50
    assert await sessions.find(token) == session
    assert len(looks) == 1


async def test_when_redis_is_away_each_of_them_is_told_and_the_next_one_looks_again(
    signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis, sessions, token, session = signed_in

    async def away(key: str, **options: Any) -> Any:
        await asyncio.sleep(0)
        raise exceptions.ConnectionError

    with monkeypatch.context() as outage:
        outage.setattr(redis, "getex", away)
        told = await asyncio.gather(*(sessions.find(token) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in told] == [exceptions.ConnectionError] * 3
    assert await sessions.find(token) == session
