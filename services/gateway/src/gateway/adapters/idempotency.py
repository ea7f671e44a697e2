"""What was asked under an Idempotency-Key, in Redis: only a digest of it, keyed with the key itself."""

import hmac
from typing import cast
from uuid import NAMESPACE_URL, UUID, uuid5

from bizosaas_events.bus.connecting import Client

KEPT_SECONDS = 24 * 3600

_NAMESPACE = uuid5(NAMESPACE_URL, "bizosaas:commands")


class Idempotency:
    """Remembers for a day what a key was used for."""

    def __init__(self, redis: Client, *, env: str) -> None:
        self._redis = redis
        self._env = env

    async def claim(self, command_id: str, key: str, request: bytes) -> bool:
        """Whether the key is new, or was used for the same request. Raises RedisError."""
        digest = hmac.digest(key.encode(), request, "sha256").hex()
        name = f"{self._env}:idempotency:{command_id}"
        if await self._redis.set(name, digest, ex=KEPT_SECONDS, nx=True):
            return True
        said = cast("bytes | None", await self._redis.get(name))
        return said is None or said.decode() == digest


def command_id(tenant: str, member: str, key: str) -> str:
    """The same command for the same key of the same person: a repeat is handled once, however often it is sent."""
    return str(uuid5(_NAMESPACE, f"{tenant}/{member}/{key}"))


def object_id(command: str, kind: str) -> str:
    """The same new object for the same command."""
    return str(uuid5(UUID(command), kind))
