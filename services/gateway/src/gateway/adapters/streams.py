"""How far every consumer of every log is behind, asked of Redis."""

from bizosaas_events import messages
from bizosaas_events.bus.connecting import Client
from bizosaas_events.lag import Lag, lags


class RedisStreams:
    """Looks at the streams of one deployment."""

    def __init__(self, redis: Client, *, env: str, partitions: int) -> None:
        self._redis = redis
        self._env = env
        self._partitions = partitions

    async def lags(self) -> list[Lag]:
        """One row for each consumer and partition it has reported. Raises RedisError."""
        return [
            lag
            for category in messages.categories()
            for lag in await lags(self._redis, self._env, category, self._partitions)
        ]
