"""Reading several streams at once, with the types that redis-py's stubs cannot state."""

from collections.abc import Mapping
from typing import Any, cast

from redis.asyncio import Redis

Entry = tuple[bytes, dict[bytes, bytes]]


async def read_streams(
    redis: Redis, after: Mapping[bytes, str], *, count: int, block_ms: int
) -> list[tuple[bytes, list[Entry]]]:
    """The next entries of each stream behind an entry id; waits `block_ms` for the first. Raises RedisError."""
    wanted: dict[Any, Any] = dict(after)
    found = await redis.xread(wanted, count=count, block=block_ms)
    return cast("list[tuple[bytes, list[Entry]]]", found or [])
