"""The directory of slugs and addresses in PostgreSQL."""

import hmac
from typing import Any

import asyncpg

from ..domain.ports import Account

# An update that changes nothing returns the row in the way, also one that another transaction has just written. The
# commit does not wait for the disk: that of the tenant's event does, and its place in the write-ahead log is behind.
_CLAIM_SLUG = """insert into tenant_slug as s (slug, tenant_id)
                 select $1, $2 where set_config('synchronous_commit', 'off', true) is not null
                 on conflict (slug) do update set tenant_id = s.tenant_id returning tenant_id"""


class PostgresAccounts:
    """See `Accounts`. An address is kept as its digest under `key` (HMAC-SHA256), so that nobody reads or guesses it."""

    def __init__(self, pool: "asyncpg.Pool[Any]", key: bytes) -> None:
        self._pool = pool
        self._key = key

    async def close(self) -> None:
        """Take addresses and names in clear out of accounts of an older version, and out of the table's file."""
        old = await self._pool.fetch("select member_id, email from account where email is not null")
        if not old:
            return
        await self._pool.executemany(
            "update account set address = $2, email = null, name = null where member_id = $1 and email is not null",
            [(member_id, self._address(email)) for member_id, email in old],
        )
        await self._pool.execute("vacuum full account")

    async def claim_slug(self, slug: str, tenant_id: str) -> bool:
        owner = await self._pool.fetchval(_CLAIM_SLUG, slug, tenant_id)
        return bool(owner == tenant_id)

    async def claim_email(self, email: str, account: Account) -> bool:
        address = self._address(email)
        await self._pool.execute(
            "insert into account (address, member_id, tenant_id, role, password_hash) "
            "values ($1, $2, $3, $4, $5) on conflict do nothing",
            address, account.member_id, account.tenant_id, account.role, account.password_hash,
        )  # fmt: skip
        owner = await self._pool.fetchval("select member_id from account where address = $1", address)
        return bool(owner == account.member_id)

    async def find(self, email: str) -> Account | None:
        row = await self._pool.fetchrow(
            "select member_id, tenant_id, role, password_hash from account where address = $1", self._address(email)
        )
        return Account(**dict(row)) if row else None

    async def replace_hash(self, member_id: str, password_hash: str) -> None:
        await self._pool.execute("update account set password_hash = $2 where member_id = $1", member_id, password_hash)

    async def remove(self, member_id: str) -> None:
        await self._pool.execute("delete from account where member_id = $1", member_id)

    def _address(self, email: str) -> bytes:
        return hmac.digest(self._key, email.encode(), "sha256")
