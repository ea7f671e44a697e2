"""The directory of slugs and addresses in PostgreSQL."""

from typing import Any

import asyncpg

from ..domain.ports import Account


class PostgresAccounts:
    """See `Accounts`."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def claim_slug(self, slug: str, tenant_id: str) -> bool:
        await self._pool.execute(
            "insert into tenant_slug (slug, tenant_id) values ($1, $2) on conflict do nothing", slug, tenant_id
        )
        return bool(await self._pool.fetchval("select tenant_id from tenant_slug where slug = $1", slug) == tenant_id)

    async def claim_email(self, account: Account) -> bool:
        await self._pool.execute(
            "insert into account (email, member_id, tenant_id, name, role, password_hash) "
            "values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
            account.email, account.member_id, account.tenant_id, account.name, account.role, account.password_hash,
        )  # fmt: skip
        owner = await self._pool.fetchval("select member_id from account where email = $1", account.email)
        return bool(owner == account.member_id)

    async def find(self, email: str) -> Account | None:
        row = await self._pool.fetchrow("select * from account where email = $1", email)
        return Account(**dict(row)) if row else None

    async def replace_hash(self, member_id: str, password_hash: str) -> None:
        await self._pool.execute("update account set password_hash = $2 where member_id = $1", member_id, password_hash)
