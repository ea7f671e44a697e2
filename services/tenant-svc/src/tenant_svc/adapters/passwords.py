"""Passwords with argon2id (argon2-cffi's defaults, RFC 9106's low-memory profile), off the event loop."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError


class Argon2Passwords:
    """See `Passwords`."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()

    async def hash(self, password: str) -> str:
        return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, password_hash: str, password: str) -> bool:
        try:
            return await asyncio.to_thread(self._hasher.verify, password_hash, password)
        except VerificationError:
            return False

    def outdated(self, password_hash: str) -> bool:
        return self._hasher.check_needs_rehash(password_hash)
