"""The directory, in memory and in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from bizosaas_events.store.migrating import migrate
from tenant_svc.adapters import migrations
from tenant_svc.adapters.accounts import PostgresAccounts
from tenant_svc.adapters.memory import MemoryAccounts
from tenant_svc.adapters.passwords import Argon2Passwords
from tenant_svc.domain.ports import Account, Accounts

ANN = Account(member_id="ann", tenant_id="acme", role="tenant_admin", password_hash="h")
KEY = b"k" * 32
AT_COMMIT = """
create table at_commit (slug text, waits text);
create function note() returns trigger language plpgsql as $$
begin insert into at_commit values (new.slug, current_setting('synchronous_commit')); return null; end $$;
create constraint trigger note after insert on tenant_slug deferrable initially deferred
for each row execute function note()
"""


@pytest.fixture(params=["memory", "postgres"])
async def accounts(request: pytest.FixtureRequest) -> AsyncIterator[Accounts]:
    if request.param == "memory":
        yield MemoryAccounts()
        return
    url = request.getfixturevalue("database_url")
    await asyncio.to_thread(migrate, url, migrations)
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        yield PostgresAccounts(pool, KEY)


async def test_a_slug_is_claimed_once_and_a_repeat_is_fine(accounts: Accounts) -> None:
    assert await accounts.claim_slug("acme", "one")
    assert await accounts.claim_slug("acme", "one")
    assert not await accounts.claim_slug("acme", "two")


async def test_only_the_claim_of_a_slug_does_not_wait_for_the_disk(database_url: str) -> None:
    await asyncio.to_thread(migrate, database_url, migrations)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        await pool.execute(AT_COMMIT)
        await PostgresAccounts(pool, KEY).claim_slug("acme", "one")
        await pool.execute("insert into tenant_slug values ('other', 'two')")
        rows = await pool.fetch("select slug, waits from at_commit")
        assert {row["slug"]: row["waits"] for row in rows} == {"acme": "off", "other": "on"}


async def test_an_address_is_claimed_once_and_a_repeat_is_fine(accounts: Accounts) -> None:
    assert await accounts.claim_email("ann@acme.test", ANN)
    assert await accounts.claim_email("ann@acme.test", ANN)
    assert not await accounts.claim_email("ann@acme.test", msgspec.structs.replace(ANN, member_id="eve"))
    assert await accounts.find("ann@acme.test") == ANN
    assert await accounts.find("eve@acme.test") is None


async def test_a_hash_can_be_replaced(accounts: Accounts) -> None:
    await accounts.claim_email("ann@acme.test", ANN)
    await accounts.replace_hash("ann", "stronger")
    found = await accounts.find("ann@acme.test")
    assert found is not None
    assert found.password_hash == "stronger"


async def test_a_removed_account_frees_its_address(accounts: Accounts) -> None:
    await accounts.claim_email("ann@acme.test", ANN)
    await accounts.remove("ann")
    await accounts.remove("ann")

    assert await accounts.find("ann@acme.test") is None
    assert await accounts.claim_email("ann@acme.test", Account(**{**msgspec.structs.asdict(ANN), "member_id": "two"}))


async def test_accounts_of_an_older_version_are_closed_and_still_found(database_url: str) -> None:
    await asyncio.to_thread(migrate, database_url, migrations)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        await pool.execute("insert into account (email, member_id, tenant_id, name, role, password_hash) "
                           "values ('ann@acme.test', 'ann', 'acme', 'Ann', 'tenant_admin', 'h')")  # fmt: skip
        accounts = PostgresAccounts(pool, KEY)
        assert await accounts.find("ann@acme.test") is None

        await accounts.close()
        await accounts.close()

        assert await accounts.find("ann@acme.test") == ANN
        assert "ann@acme" not in str(await pool.fetch("select * from account"))


async def test_argon2_takes_the_right_password_only() -> None:
    passwords = Argon2Passwords()
    hashed = await passwords.hash("correct horse battery")
    assert hashed.startswith("$argon2id$")
    assert await passwords.verify(hashed, "correct horse battery")
    assert not await passwords.verify(hashed, "wrong horse battery")
    assert not passwords.outdated(hashed)
