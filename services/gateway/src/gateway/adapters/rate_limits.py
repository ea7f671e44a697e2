"""How often somebody may fail to sign in, counted in Redis."""

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from bizosaas_events.bus.connecting import Client

# Counting and setting the end of the window in one step: a crash in between would count for ever.
_COUNT = """
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {n, redis.call('PTTL', KEYS[1])}
"""
_FORGIVE = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DECR', KEYS[1]) end"


class Attempts:
    """Failed attempts within a window, per subject; a subject is hashed, because it may be an address."""

    def __init__(self, redis: Client, *, env: str, window_seconds: int) -> None:
        self._env = env
        self._window_ms = window_seconds * 1000
        self._count = redis.register_script(_COUNT)
        self._forgive = redis.register_script(_FORGIVE)

    async def begin(self, limits: Mapping[str, int]) -> float:
        """Count an attempt for each subject, before it is made: parallel guesses count too.

        Returns for how many seconds no further attempt is allowed; 0: this one is.
        """
        wait = 0.0
        for subject, limit in limits.items():
            said: Any = await self._count(keys=[self._key(subject)], args=[self._window_ms])
            number, remaining_ms = cast("list[int]", said)
            if number > limit:
                wait = max(wait, remaining_ms / 1000)
        return wait

    async def forgive(self, subjects: Mapping[str, int]) -> None:
        """The attempt was no failure: it does not count."""
        for subject in subjects:
            await self._forgive(keys=[self._key(subject)])

    def _key(self, subject: str) -> str:
        return f"{self._env}:attempts:{hashlib.sha256(subject.encode()).hexdigest()[:32]}"
