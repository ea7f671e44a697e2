"""Leases, pending authorizations and the rate budget in memory: for tests."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec

from ..domain.ports import Lease, LeaseTakenError, PendingAuthorization


class MemoryLease:
    """See `Lease`; it is never lost."""

    def __init__(self, fence: int) -> None:
        self.fence = fence

    async def check(self) -> None:
        await asyncio.sleep(0)


class MemoryLeases:
    """See `Leases`. `held` may be filled by a test with what another process holds."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self._fence = 0

    @contextlib.asynccontextmanager
    async def hold(self, name: str, *, wait: float) -> AsyncIterator[Lease]:
        until = time.monotonic() + wait
        while name in self.held:
            if time.monotonic() >= until:
                raise LeaseTakenError(name)
            await asyncio.sleep(0.005)
        self.held.add(name)
        self._fence += 1
        try:
            yield MemoryLease(self._fence)
        finally:
            self.held.discard(name)


class MemoryAuthorizations:
    """See `Authorizations`."""

    def __init__(self) -> None:
        self.pending: dict[bytes, PendingAuthorization] = {}

    async def add(self, state_hash: bytes, pending: PendingAuthorization) -> None:
        old = datetime.now(UTC) - timedelta(days=1)
        self.pending = {key: kept for key, kept in self.pending.items() if kept.expires_at > old}
        self.pending[state_hash] = pending

    async def take(self, state_hash: bytes, command_id: str) -> PendingAuthorization | None:
        found = self.pending.get(state_hash)
        if found is not None and not found.used_by:
            found = self.pending[state_hash] = msgspec.structs.replace(found, used_by=command_id)
        return found


class MemoryBudget:
    """See `Budget`."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    async def wait_seconds(self, connection_id: str) -> float:
        return max(self._until.get(connection_id, 0.0) - time.monotonic(), 0.0)

    async def pause(self, connection_id: str, seconds: float) -> None:
        self._until[connection_id] = time.monotonic() + seconds
