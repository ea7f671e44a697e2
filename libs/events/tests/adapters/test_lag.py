"""How far consumers are behind, told on a real Redis."""

from datetime import UTC, datetime, timedelta

from bizosaas_events.bus.base import Names
from bizosaas_events.bus.connecting import Client
from bizosaas_events.lag import lags


async def test_lag_is_told_from_positions_and_from_the_next_event_that_waits(redis: Client, env_name: str) -> None:
    names = Names(env_name)
    a_minute_ago = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    for position in range(1, 6):
        await redis.xadd(names.partition("tenant", 0), {"time": a_minute_ago}, id=f"{position}-0")
    for field, position in {"gateway|0": 5, "audit|0": 2, "audit|1": 0}.items():
        await redis.hset(names.checkpoints("tenant"), field, str(position))

    found = {(lag.consumer, lag.partition): lag for lag in await lags(redis, env_name, "tenant", 4)}

    assert {key: lag.events for key, lag in found.items()} == {("audit", 0): 3, ("audit", 1): 0, ("gateway", 0): 0}
    assert 59 < found["audit", 0].seconds < 120
    assert found["gateway", 0].seconds == 0


async def test_a_flushed_redis_shows_nobody_behind(redis: Client, env_name: str) -> None:
    assert await lags(redis, env_name, "tenant", 4) == []
    await redis.hset(Names(env_name).checkpoints("tenant"), "gateway|3", "7")

    (lag,) = await lags(redis, env_name, "tenant", 4)

    assert (lag.events, lag.seconds) == (0, 0.0)
