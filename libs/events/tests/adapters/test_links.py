"""A chain that is verified from the bytes PostgreSQL sends is the one that was recorded."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import asyncpg
import pytest

from bizosaas_events.chain import Break, Link, content_of
from bizosaas_events.envelope import Context
from bizosaas_events.store.base import Write
from bizosaas_events.store.links import _Parser, columns, read_links, verify_partition
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposited, a_context

CHANGED = "the event is not what was recorded"


@pytest.fixture
async def pool(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]
) -> "AsyncIterator[asyncpg.Pool[Any]]":
    url = new_database(template=database_template("event_log", migrate))
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        yield pool


def the_log(pool: "asyncpg.Pool[Any]") -> PostgresEventStore:
    return PostgresEventStore(pool, CODEC, category="account", source="test", partitions=1)


async def recorded(pool: "asyncpg.Pool[Any]", count: int, context: Context | None = None) -> PostgresEventStore:
    log = the_log(pool)
    for n in range(0, count, 100):
        events = [Deposited(cents=m) for m in range(n, min(n + 100, count))]
        await log.append([Write(f"account-{n}", 0, events)], context or a_context())
    return log


async def links_of(pool: "asyncpg.Pool[Any]", mirrored: Mapping[str, str] | None = None) -> list[Link]:
    found: list[Link] = []
    query = f"select {columns('stream', mirrored)} from event where position > $1 order by position"
    async with pool.acquire() as connection:
        await read_links(connection, query, 0, take=found.extend)
    return found


async def test_links_are_what_the_hash_covers(pool: "asyncpg.Pool[Any]") -> None:
    log = await recorded(pool, 250, a_context("Zoë’s", actor='member:"é"'))
    envelopes = await log.read(0, 0, 1000)
    links = await links_of(pool)
    assert [link[:2] for link in links] == [(e.sequence, content_of(e)) for e in envelopes]
    assert links[-1][2] == (await log.heads())[0].hash
    assert await verify_partition(pool, 0) == []


async def test_nothing_is_read_of_an_empty_log(pool: "asyncpg.Pool[Any]") -> None:
    assert await links_of(pool) == []
    assert await verify_partition(pool, 0) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("update event set data = set_byte(data, 9, get_byte(data, 9) # 1) where position = 7", (7, CHANGED)),
        ("update event set at = at + interval '1 microsecond' where position = 7", (7, CHANGED)),
        ("update event set at = 'infinity' where position = 7", (7, CHANGED)),
        ("update event set at = '-infinity' where position = 7", (7, CHANGED)),
        ("update event set version = -1 where position = 7", (7, CHANGED)),
        ("update event set meta = '' where position = 7", (7, CHANGED)),
        ("update event set tenant = '' where position = 7", (7, CHANGED)),
        ("delete from event where position = 7", (7, "positions 7 to 7 are missing")),
        ("alter table event alter data drop not null; update event set data = null where position = 7", (7, CHANGED)),
        ("alter table event alter id drop not null; update event set id = null where position = 7", (7, CHANGED)),
    ],
)
async def test_damage_is_found_where_it_is(pool: "asyncpg.Pool[Any]", change: str, found: tuple[int, str]) -> None:
    await recorded(pool, 20)
    await pool.execute(change)
    assert await verify_partition(pool, 0) == [Break(0, *found)]


@pytest.mark.parametrize("value", ["''", "'short'", "null"])
async def test_a_damaged_hash_stops_at_its_own_row(pool: "asyncpg.Pool[Any]", value: str) -> None:
    await recorded(pool, 20)
    await pool.execute("alter table event alter hash drop not null")
    await pool.execute(f"update event set hash = {value} where position = 7")
    assert [found.position for found in await verify_partition(pool, 0)] == [7, 8]


async def test_columns_that_repeat_an_attribute_are_held_against_it(pool: "asyncpg.Pool[Any]") -> None:
    context = a_context("c-7")
    await recorded(pool, 3, context)
    await recorded_tenant_is_causation(pool)
    assert [fits for *_, fits in await links_of(pool, {"tenant": "causationid"})] == [True, False, True]


async def recorded_tenant_is_causation(pool: "asyncpg.Pool[Any]") -> None:
    """Make the tenant's column repeat what meta says of the cause, in one way of writing JSON and in another."""
    meta = b'{"source":"","actorid":"","actorrole":"","correlationid":"","causationid":"%s","traceparent":""}'
    for position, said, stands in ((1, b"c-7", "c-7"), (2, b"c-7", "c-8"), (3, rb"c\u002d7", "c-7")):
        await pool.execute(
            "update event set meta = $1, tenant = $2 where position = $3", meta % said, stands, position
        )  # fmt: skip


async def test_a_table_that_is_another_is_refused(pool: "asyncpg.Pool[Any]") -> None:
    await recorded(pool, 3)
    await pool.execute("alter table event alter version type bigint")
    with pytest.raises(ValueError, match="cannot be read"):
        await links_of(pool)


async def test_it_does_not_matter_where_the_bytes_are_cut(pool: "asyncpg.Pool[Any]") -> None:
    await recorded(pool, 4)
    pieces: list[bytes] = []

    async def keep(piece: bytes) -> None:
        pieces.append(piece)

    async with pool.acquire() as connection:
        query = f"select {columns('stream', {'tenant': 'actorid'})} from event order by position"
        await connection.copy_from_query(query, output=keep, format="binary")
    whole = b"".join(pieces)
    expected = _Parser().feed(whole)
    assert len(expected) == 4
    for size in range(1, 130):
        parser = _Parser()
        found = [link for at in range(0, len(whole), size) for link in parser.feed(whole[at : at + size])]
        parser.end()
        assert found == expected
