"""The Redis of a test: one server, and a cluster in which every key may be on another one."""

from collections.abc import AsyncIterator

import pytest

from bizosaas_events.bus.connecting import Client, connect


@pytest.fixture
async def redis(any_redis_url: str) -> AsyncIterator[Client]:
    """Keep apart by `env_name`."""
    redis = connect(any_redis_url)
    yield redis
    await redis.aclose()
