"""Leases, pending authorizations and the rate budget: in memory, and in PostgreSQL and Redis."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from redis.asyncio import Redis

from bizosaas_events import new_id
from bizosaas_events.store.migrating import migrate
from connector_svc.adapters import migrations
from connector_svc.adapters.authorizations import PostgresAuthorizations
from connector_svc.adapters.budget import RedisBudget
from connector_svc.adapters.leases import PostgresLeases
from connector_svc.adapters.memory import MemoryAuthorizations, MemoryBudget, MemoryLeases
from connector_svc.domain.ports import (
    Authorizations,
    Budget,
    LeaseLostError,
    Leases,
    LeaseTakenError,
    PendingAuthorization,
)

HASH = hashlib.sha256(b"state").digest()
PENDING = PendingAuthorization(
    tenant="acme", actor="member:ann", role="tenant_admin", connection_id="c", connector="openid",
    redirect_uri="https://bizos.test/cb", scopes=["openid", "a"], expires_at=datetime(2099, 1, 1, tzinfo=UTC),
)  # fmt: skip


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    await asyncio.to_thread(migrate, database_url, migrations)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
        yield pool


@pytest.fixture(params=["memory", "postgres"])
def leases(request: pytest.FixtureRequest) -> Leases:
    return MemoryLeases() if request.param == "memory" else PostgresLeases(request.getfixturevalue("pool"))


@pytest.fixture(params=["memory", "postgres"])
def authorizations(request: pytest.FixtureRequest) -> Authorizations:
    return (
        MemoryAuthorizations() if request.param == "memory" else PostgresAuthorizations(request.getfixturevalue("pool"))
    )


@pytest.fixture(params=["memory", "redis"])
async def budget(request: pytest.FixtureRequest) -> AsyncIterator[Budget]:
    if request.param == "memory":
        yield MemoryBudget()
        return
    redis: Redis = Redis.from_url(request.getfixturevalue("redis_url"))
    yield RedisBudget(redis, env=request.getfixturevalue("env_name"))
    await redis.aclose()


async def test_a_lease_has_one_holder_at_a_time(leases: Leases) -> None:
    inside, most = 0, 0

    async def work() -> None:
        nonlocal inside, most
        async with leases.hold("refresh:c", wait=10):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(8)))

    assert most == 1


async def test_who_does_not_get_the_lease_in_time_is_told(leases: Leases) -> None:
    async with leases.hold("refresh:c", wait=0):
        with pytest.raises(LeaseTakenError):
            async with leases.hold("refresh:c", wait=0.1):
                raise AssertionError
        async with leases.hold("refresh:another", wait=0):
            pass


async def test_every_holder_has_a_greater_fence_than_those_before(leases: Leases) -> None:
    fences = []
    for _ in range(3):
        async with leases.hold("refresh:c", wait=0) as lease:
            await lease.check()
            fences.append(lease.fence)

    assert fences == sorted(set(fences))


async def test_a_lease_is_given_back_when_the_work_fails(leases: Leases) -> None:
    with pytest.raises(ZeroDivisionError):
        async with leases.hold("refresh:c", wait=0):
            raise ZeroDivisionError

    async with leases.hold("refresh:c", wait=0):
        pass


async def test_a_holder_keeps_its_lease_for_as_long_as_it_works(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    leases = PostgresLeases(pool, ttl=0.3)

    async with leases.hold("call:c", wait=0) as lease:
        await asyncio.sleep(0.8)
        await lease.check()
        with pytest.raises(LeaseTakenError):
            async with leases.hold("call:c", wait=0):
                raise AssertionError


async def test_the_lease_of_a_dead_holder_ends_and_its_fence_with_it(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    leases = PostgresLeases(pool, ttl=0.3)
    await pool.execute(
        "insert into lease (name, owner, until) values ('call:c', $1, now() + interval '0.3 s')", new_id()
    )
    dead = await pool.fetchval("select fence from lease")

    async with leases.hold("call:c", wait=2) as lease:
        assert lease.fence > dead


async def test_a_holder_that_lost_its_lease_is_told_before_it_acts(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    async with PostgresLeases(pool).hold("call:c", wait=0) as lease:
        await pool.execute("update lease set owner = $1", new_id())
        with pytest.raises(LeaseLostError):
            await lease.check()
    assert await pool.fetchval("select count(*) from lease") == 1


async def test_an_authorization_is_used_by_one_command_only(authorizations: Authorizations) -> None:
    await authorizations.add(HASH, PENDING)
    first, second = new_id(), new_id()

    taken = await authorizations.take(HASH, first)
    again = await authorizations.take(HASH, first)
    late = await authorizations.take(HASH, second)

    assert taken == again == late
    assert taken is not None
    assert (taken.used_by, taken.scopes, taken.expires_at) == (first, PENDING.scopes, PENDING.expires_at)
    assert await authorizations.take(b"another", first) is None


async def test_an_authorization_raced_for_is_used_once(authorizations: Authorizations) -> None:
    await authorizations.add(HASH, PENDING)
    ids = [new_id() for _ in range(6)]

    taken = await asyncio.gather(*(authorizations.take(HASH, id) for id in ids))

    assert len({found.used_by for found in taken if found}) == 1


async def test_authorizations_of_long_ago_are_forgotten(authorizations: Authorizations) -> None:
    import msgspec

    old = msgspec.structs.replace(PENDING, expires_at=datetime.now(UTC) - timedelta(days=2))
    await authorizations.add(HASH, old)
    await authorizations.add(b"newer", PENDING)

    assert await authorizations.take(HASH, new_id()) is None


async def test_a_pause_is_kept_for_as_long_as_the_vendor_asked(budget: Budget) -> None:
    assert await budget.wait_seconds("c") == 0

    await budget.pause("c", 0.2)

    assert 0 < await budget.wait_seconds("c") <= 0.2
    assert await budget.wait_seconds("another") == 0
    await asyncio.sleep(0.25)
    assert await budget.wait_seconds("c") == 0


async def test_without_redis_there_is_no_budget_and_calls_go_on() -> None:
    redis: Redis = Redis.from_url("redis://127.0.0.1:9")
    budget = RedisBudget(redis, env="t")

    await budget.pause("c", 5)

    assert await budget.wait_seconds("c") == 0
    await redis.aclose()
