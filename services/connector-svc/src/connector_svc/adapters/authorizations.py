"""Pending authorizations in our own PostgreSQL, by the SHA-256 of their state."""

from typing import Any
from uuid import UUID

import asyncpg

from ..domain.ports import PendingAuthorization

_COLUMNS = "tenant, actor, role, connection_id, connector, redirect_uri, scopes, expires_at"
_ADD = f"insert into pending_authorization (state_hash, {_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_FORGET = "delete from pending_authorization where expires_at < now() - interval '1 day'"
# Who was first stays first: a command that is delivered again finds its own name there.
_TAKE = f"""update pending_authorization set used_by = coalesce(used_by, $2) where state_hash = $1
            returning {_COLUMNS}, used_by"""


class PostgresAuthorizations:
    """See `Authorizations`."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def add(self, state_hash: bytes, pending: PendingAuthorization) -> None:
        await self._pool.execute(_FORGET)
        await self._pool.execute(
            _ADD, state_hash, pending.tenant, pending.actor, pending.role, pending.connection_id, pending.connector,
            pending.redirect_uri, pending.scopes, pending.expires_at,
        )  # fmt: skip

    async def take(self, state_hash: bytes, command_id: str) -> PendingAuthorization | None:
        row = await self._pool.fetchrow(_TAKE, state_hash, UUID(command_id))
        return PendingAuthorization(**{**dict(row), "used_by": str(row["used_by"])}) if row else None
