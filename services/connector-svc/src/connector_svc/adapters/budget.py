"""What is left of a vendor's patience, in Redis: a key per connection that lives as long as we were asked to wait."""

import structlog
from redis.exceptions import RedisError

from bizosaas_events.bus.connecting import Client

_log = structlog.get_logger(__name__)


class RedisBudget:
    """See `Budget`."""

    def __init__(self, redis: Client, *, env: str) -> None:
        self._redis = redis
        self._env = env

    async def wait_seconds(self, connection_id: str) -> float:
        try:
            left = await self._redis.pttl(self._key(connection_id))
        except (RedisError, OSError) as error:
            _log.warning("rate budget not read", reason=type(error).__name__)
            return 0.0
        return max(int(left), 0) / 1000

    async def pause(self, connection_id: str, seconds: float) -> None:
        try:
            await self._redis.set(self._key(connection_id), "", px=max(int(seconds * 1000), 1))
        except (RedisError, OSError) as error:
            _log.warning("rate budget not written", reason=type(error).__name__)

    def _key(self, connection_id: str) -> str:
        return f"{self._env}:connector:wait:{connection_id}"
