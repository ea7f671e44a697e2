"""Every event store passes the same suite."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from bizosaas_events.chain import Break
from bizosaas_events.envelope import Message, new_id
from bizosaas_events.errors import ConcurrencyError
from bizosaas_events.personal import MasterKey, PersonErasedError, WrongMasterKeyError
from bizosaas_events.store.base import EventStore, Write
from bizosaas_events.store.links import verify_partition
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.person_keys import PersonKeys
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.store.replaying import replay
from bizosaas_events.store.splitting import split
from bizosaas_events.testing.account import CODEC, Deposited, HolderErased, HolderNamed, a_context
from bizosaas_events.testing.store import EventStoreSuite

MASTER = MasterKey(b"master key used in tests only...")


class TestMemoryEventStore(EventStoreSuite):
    @pytest.fixture
    def store(self) -> EventStore:
        return MemoryEventStore(CODEC, category="account", source="test", partitions=8)


@pytest.fixture
def log_url(database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]) -> str:
    return new_database(template=database_template("event_log", migrate))


class TestPostgresEventStore(EventStoreSuite):
    @pytest.fixture
    async def pool(self, log_url: str) -> "AsyncIterator[asyncpg.Pool]":
        async with open_pool(log_url, min_size=1, max_size=8) as pool:
            yield pool

    @pytest.fixture
    def store(self, pool: "asyncpg.Pool") -> PostgresEventStore:
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=8)
        store.keys = PersonKeys(pool, MASTER)
        return store

    async def test_an_erasure_and_an_append_that_race_leave_nothing_readable(
        self, store: PostgresEventStore, pool: "asyncpg.Pool"
    ) -> None:
        async def name(n: int) -> None:
            with contextlib.suppress(PersonErasedError):
                await store.append([Write(f"holder-{n}", 0, [HolderNamed(holder_id="ann", name="Ann")])], a_context())

        erasing = store.append([Write("holder-ann", 0, [HolderErased(holder_id="ann")])], a_context())
        await asyncio.wait_for(asyncio.gather(*map(name, range(4)), erasing, *map(name, range(4, 8))), 20)

        assert (await store.person_keys(["ann"]))["ann"].key is None
        assert await pool.fetchval("select wrapped from person_key") is None
        assert b"Ann" not in b"".join(await pool.fetchval("select array_agg(data) from event"))

    async def test_a_key_is_of_no_use_without_the_master_key(
        self, store: PostgresEventStore, pool: "asyncpg.Pool"
    ) -> None:
        await store.append([Write("holder-ann", 0, [HolderNamed(holder_id="ann", name="Ann")])], a_context())
        (key,) = (await store.person_keys(["ann"])).values()

        assert key.key is not None
        assert key.key not in await pool.fetchval("select wrapped from person_key")
        await PersonKeys(pool, MASTER).check()
        with pytest.raises(WrongMasterKeyError):
            await PersonKeys(pool, MasterKey(b"x" * 32)).check()

    async def test_personal_data_is_not_recorded_in_clear_where_there_are_no_keys(
        self, store: PostgresEventStore
    ) -> None:
        store.keys = None
        with pytest.raises(TypeError, match="HolderNamed is about a person"):
            await store.append([Write("holder-ann", 0, [HolderNamed(holder_id="ann", name="Ann")])], a_context())

    async def test_one_changed_byte_and_one_deleted_row_are_found_where_they_are(
        self, store: PostgresEventStore, pool: "asyncpg.Pool"
    ) -> None:
        for n in range(20):
            await store.append([Write("account-1", n, [Deposited(cents=n)])], a_context(), command_id=new_id())
        (head,) = await store.heads()
        part = head.partition
        assert await verify_partition(pool, part) == []
        await pool.execute("update event set data = replace(data::text, '33', '34')::bytea where position = 4")
        await pool.execute("delete from event where position = 9")
        assert await verify_partition(pool, part) == [
            Break(part, 4, "the event is not what was recorded"),
            Break(part, 9, "positions 9 to 9 are missing"),
        ]

    @pytest.mark.parametrize("prefetch", [True, False])
    async def test_a_replay_is_what_was_recorded(
        self, store: PostgresEventStore, pool: "asyncpg.Pool", prefetch: bool
    ) -> None:
        recorded = await store.append([Write("account-1", 0, [Deposited(cents=n) for n in range(25)])], a_context())
        part = recorded[0].partition

        async def replayed(**options: int) -> list[tuple[int, str, int, Message]]:
            batches = [b async for b in replay(pool, CODEC, part, batch=10, prefetch=prefetch, **options)]
            return [(e.row["position"], e.row["stream"], e.row["version"], e.event) for b in batches for e in b]

        expected = [(e.sequence, e.subject, e.streamversion, CODEC.decode(e)) for e in recorded]
        assert await replayed() == expected
        assert await replayed(after=7, until=21) == expected[7:21]
        assert await replayed(after=25) == []

    async def test_an_append_wakes_who_waits_for_it(self, store: PostgresEventStore) -> None:
        assert not store.appended.is_set()
        await store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context())
        assert store.appended.is_set()


def migrate_and_split(url: str) -> None:
    migrate(url)
    split(url, tables=4)


class TestSplitPostgresEventStore(TestPostgresEventStore):
    """Its event table is in four, by partition."""

    @pytest.fixture
    def log_url(
        self, database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]
    ) -> str:
        return new_database(template=database_template("split_event_log", migrate_and_split))

    async def test_one_table_is_asked_for_a_stream(self, store: PostgresEventStore, pool: "asyncpg.Pool") -> None:
        await store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context())
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("set local enable_seqscan = off")
            plan = await connection.fetch("explain (analyze, costs off) select * from event_load('account-1', 9, null)")
        scans = [row[0] for row in plan if "on event_" in row[0] and "event_stream " not in row[0]]
        assert len([scan for scan in scans if "never executed" not in scan]) == 1

    async def test_a_stream_is_in_one_partition_whoever_asks_first(self, store: PostgresEventStore) -> None:
        await store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context("acme"))
        with pytest.raises(ConcurrencyError):
            await store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context("globex"))


async def test_a_log_that_is_split_keeps_its_events_its_chain_and_its_order(log_url: str) -> None:
    async with open_pool(log_url, min_size=1, max_size=4) as pool:
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=8)
        for n in range(20):
            await store.append([Write(f"account-{n}", 0, [Deposited(cents=c) for c in range(10)])], a_context())
        before = [await store.read(part, 0, 1000) for part in range(8)]
        heads = await store.heads()
    split(log_url)
    async with open_pool(log_url, min_size=1, max_size=4) as pool:
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=8)
        assert [await store.read(part, 0, 1000) for part in range(8)] == before
        assert await store.heads() == heads
        (recorded,) = await store.append([Write("account-7", 10, [Deposited(cents=1)])], a_context())
        assert [e.streamversion for e in await store.load("account-7")] == list(range(1, 12))
        assert await verify_partition(pool, recorded.partition) == []
    with pytest.raises(ValueError, match="split already"):
        split(log_url)
    migrate(log_url)


async def test_a_connection_handed_back_in_a_transaction_is_rolled_back(log_url: str) -> None:
    async with open_pool(log_url, min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("begin; insert into inbox (consumer, id) values ('a', gen_random_uuid())")
        assert await pool.fetchval("select count(*) from inbox") == 0


async def test_migrating_again_changes_nothing(log_url: str) -> None:
    migrate(log_url)
    connection = await asyncpg.connect(log_url)
    assert await connection.fetchval("select count(*) from event_partition") == 1024
    await connection.close()
