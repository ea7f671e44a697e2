"""A retired type is read as today's, wherever an event is read: loading, reading on, consuming.

This module is what a `messages` module of a service looks like after a change
of meaning: an account used to count whole euros, and counts cents now.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, assert_never

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from bizosaas_events import Codec, Command, Decider, Envelope, Event, Message, UndecodableError, Upcaster, load_state
from bizosaas_events.compatibility import compare
from bizosaas_events.consumer import Feed, OrderedConsumer
from bizosaas_events.published import check, record
from bizosaas_events.relay import Relay
from bizosaas_events.schemas import schema_of
from bizosaas_events.store.base import EventStore, Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import a_context
from bizosaas_events.testing.waiting import until


class Paid(Event, frozen=True, kw_only=True, tag="till.account.paid.v3"):
    says = "{actor} paid {cents} cents by {means}"

    cents: int
    means: Literal["cash", "card"]


def euros_to_cents(old: dict[str, Any]) -> dict[str, Any]:
    return {"amount": old["euros"] * 100, "means": old.get("means", "cash")}


def amount_to_cents(old: dict[str, Any]) -> dict[str, Any]:
    return {"cents": old["amount"], "means": old["means"]}


UPCASTERS = (
    Upcaster("till.account.paid.v1", into="till.account.paid.v2", change=euros_to_cents),
    Upcaster("till.account.paid.v2", into="till.account.paid.v3", change=amount_to_cents),
)


def the_past() -> Codec:
    """The messages of the release that wrote the first events."""
    first = msgspec.defstruct("Paid", [("euros", int)], bases=(Event,), tag="till.account.paid.v1", kw_only=True)
    second = msgspec.defstruct(
        "Paid",
        [("amount", int), ("means", Literal["cash", "card"])],
        bases=(Event,),
        tag="till.account.paid.v2",
        kw_only=True,
    )
    assert issubclass(first, Message)
    assert issubclass(second, Message)
    return Codec([first, second])


PAST = the_past()
TODAY = Codec.of(sys.modules[__name__])
STORED = (
    ("till.account.paid.v1", b'{"type":"till.account.paid.v1","euros":5}'),
    ("till.account.paid.v2", b'{"type":"till.account.paid.v2","amount":250,"means":"card"}'),
    ("till.account.paid.v3", b'{"type":"till.account.paid.v3","cents":3,"means":"cash"}'),
)
READ = [Paid(cents=500, means="cash"), Paid(cents=250, means="card"), Paid(cents=3, means="cash")]


def in_the_past(name: str, data: bytes) -> Event:
    event = (TODAY if TODAY.types.get(name) else PAST).decode_as(name, data)
    assert isinstance(event, Event)
    return event


HISTORY = [in_the_past(name, data) for name, data in STORED]


def never(command: Command, cents: int) -> Sequence[Paid]:
    raise AssertionError("nothing is decided here")


def add(cents: int, event: Paid) -> int:
    match event:
        case Paid():
            return cents + event.cents
        case _:
            assert_never(event)


TILL: Decider[Command, int, Paid] = Decider(category="account", initial=int, decide=never, evolve=add)


@pytest.fixture
async def pool(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]
) -> AsyncIterator["asyncpg.Pool[Any]"]:
    url = new_database(template=database_template("event_log", migrate))
    async with asyncpg.create_pool(url, min_size=1, max_size=8) as pool:
        yield pool


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, pool: "asyncpg.Pool[Any]") -> EventStore:
    """A log with an event of each version, written by the release that knew it."""
    memory = MemoryEventStore(TODAY, category="till", source="test", partitions=4)
    postgres = PostgresEventStore(pool, TODAY, category="till", source="test", partitions=4)
    store: EventStore = memory if request.param == "memory" else postgres
    await store.append([Write("account-1", 0, HISTORY)], a_context())
    return store


async def test_the_history_holds_the_bytes_of_every_release(store: EventStore) -> None:
    assert [(envelope.type, envelope.data) for envelope in await store.load("account-1")] == list(STORED)


async def test_loading_a_stream_reads_retired_types_as_todays(store: EventStore) -> None:
    assert [store.codec.decode(envelope) for envelope in await store.load("account-1")] == READ
    assert await load_state(store, TILL, "1", "acme") == (753, 3)


async def test_reading_a_partition_on_reads_retired_types_as_todays(store: EventStore) -> None:
    (head,) = await store.heads()
    assert [store.codec.decode(envelope) for envelope in await store.read(head.partition, 0, 10)] == READ
    assert [store.codec.decode(envelope) for envelope in await store.read(head.partition, 1, 1)] == READ[1:2]


async def test_a_consumer_behind_the_relay_reads_retired_types_as_todays(
    pool: "asyncpg.Pool[Any]", redis_url: str, env_name: str
) -> None:
    store = PostgresEventStore(pool, TODAY, category="till", source="test", partitions=4)
    await store.append([Write("account-1", 0, HISTORY)], a_context())
    consumed: list[Message] = []

    async def apply(connection: object, envelopes: Sequence[Envelope]) -> None:
        consumed.extend(TODAY.decode(envelope) for envelope in envelopes)

    async with Redis.from_url(redis_url) as redis:
        feed = Feed("till", 4)
        consumer = OrderedConsumer("sums", [feed], apply, pool=pool, redis=redis, env=env_name, instance="a")
        tasks = [asyncio.create_task(work()) for work in (Relay(store, pool, redis, env=env_name).run, consumer.run)]
        try:
            await until(lambda: len(consumed) >= len(READ))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert consumed == READ


def test_what_does_not_fit_after_upcasting_is_told_as_such() -> None:
    with pytest.raises(UndecodableError, match=r"till\.account\.paid\.v2.*means"):
        TODAY.decode_as("till.account.paid.v2", b'{"type":"till.account.paid.v2","amount":1,"means":"shells"}')


def test_the_change_could_not_have_been_made_to_the_old_type(tmp_path: Path) -> None:
    first, third = PAST.types["till.account.paid.v1"], TODAY.types["till.account.paid.v3"]
    assert any(change.breaks for change in compare("till.account.paid.v1", schema_of(first), schema_of(third)))

    record(PAST, tmp_path)
    assert [change.breaks for change in check(TODAY, tmp_path)] == [False]
    assert any(change.breaks for change in check(Codec([Paid], UPCASTERS[:1]), tmp_path))
