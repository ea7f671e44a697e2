"""Sessions in Redis, under the hash of their token: who reads Redis cannot sign in with what stands there."""

import asyncio
import base64
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from functools import partial
from typing import cast

import msgspec
from cachetools import TTLCache

from bizosaas_events.bus.connecting import Client
from bizosaas_events.envelope import now

CACHED_SECONDS = 5.0
"""For so long a session that was ended elsewhere may still be taken here."""
CACHED_SESSIONS = 50_000
LONGEST_TOKEN = 128


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in, and until when at the latest. `email` and `name` are closed values."""

    member_id: str
    tenant_id: str
    email: str
    name: str
    role: str
    ends_at: datetime


_decode = msgspec.json.Decoder(Session).decode
_encode = msgspec.json.Encoder().encode


class RedisSessions:
    """A session ends `idle_seconds` after its last use, and `longest_seconds` after signing in at the latest."""

    def __init__(self, redis: Client, *, env: str, idle_seconds: int, longest_seconds: int) -> None:
        self._redis = redis
        self._env = env
        self._idle_seconds = idle_seconds
        self._longest_seconds = longest_seconds
        self._cache: TTLCache[str, Session] = TTLCache(CACHED_SESSIONS, min(CACHED_SECONDS, idle_seconds / 3))
        self._looking: dict[str, asyncio.Task[Session | None]] = {}

    async def open(self, *, member_id: str, tenant_id: str, email: str, name: str, role: str) -> tuple[str, Session]:
        """A new session and the token that stands for it, which is kept nowhere."""
        token = secrets.token_urlsafe(32)
        session = Session(
            member_id=member_id, tenant_id=tenant_id, email=email, name=name, role=role,
            ends_at=now() + timedelta(seconds=self._longest_seconds),
        )  # fmt: skip
        await self._redis.set(self._key(token), _encode(session), ex=self._idle_seconds)
        return token, session

    async def find(self, token: str) -> Session | None:
        """The session of a token, used now. Raises RedisError when Redis is away and the session is not in the cache."""
        if (cached := self._cache.get(token)) is not None:
            return cached if cached.ends_at > now() else None
        if len(token) > LONGEST_TOKEN:
            return None
        # When it leaves the cache, all requests of the moment ask for it: once is enough.
        looking = self._looking.get(token)
        if looking is None:
            looking = self._looking[token] = asyncio.create_task(self._look(token))
            looking.add_done_callback(partial(self._looked, token))
        return await asyncio.shield(looking)

    def _looked(self, token: str, looking: "asyncio.Task[Session | None]") -> None:
        del self._looking[token]
        if not looking.cancelled():
            looking.exception()  # known to whoever still waits; nobody may be left

    async def _look(self, token: str) -> Session | None:
        data = cast("bytes | None", await self._redis.getex(self._key(token), ex=self._idle_seconds))
        if not data or (session := _decode(data)).ends_at <= now():
            return None
        self._cache[token] = session
        return session

    async def close(self, token: str) -> None:
        """End a session."""
        self._cache.pop(token, None)
        await self._redis.delete(self._key(token))

    async def close_of(self, member_ids: set[str]) -> None:
        """End all sessions of these members. Looks at every session: for the rare case. Raises RedisError."""
        for token in [token for token, session in self._cache.items() if session.member_id in member_ids]:
            self._cache.pop(token, None)
        async for key in self._redis.scan_iter(match=f"{self._env}:session:*", count=1000):
            data = cast("bytes | None", await self._redis.get(key))
            if data and _decode(data).member_id in member_ids:
                await self._redis.delete(key)

    def _key(self, token: str) -> str:
        return f"{self._env}:session:{hashlib.sha256(token.encode()).hexdigest()}"


def csrf_token(token: str) -> str:
    """The CSRF token of a session: derived, so that it needs no place of its own, and says nothing about the token."""
    mac = hmac.digest(token.encode(), b"csrf", "sha256")
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")
