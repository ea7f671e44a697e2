"""Recorded events through today's code: stores, folds, views, consumers, and what differs then."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from bizosaas_events import Codec, Envelope, Event, Upcaster, execute, messages
from bizosaas_events.chain import GENESIS, link
from bizosaas_events.envelope import new_id
from bizosaas_events.handling import load_state
from bizosaas_events.projection import View
from bizosaas_events.store.base import Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import ACCOUNT, CODEC, Account, Deposit, Deposited, Withdrawn, a_context
from bizosaas_events.testing.comparing import differences
from bizosaas_events.testing.plugin import OpenRecording, Replay
from bizosaas_events.testing.recording import Recording, record
from bizosaas_events.testing.replay import ReplayError, RestorableStore

LOST = "connection-01a20d05-ee12-7193-b0d2-9d63494c8797"


def a_log(partitions: int = 8) -> MemoryEventStore:
    return MemoryEventStore(CODEC, category="account", source="test", partitions=partitions)


@pytest.fixture
async def incident() -> Recording:
    """Account 1 gets 5, gives 2, gets 1; account 2 gets 7 in between."""
    store = a_log()
    for stream, version, event in (
        ("account-1", 0, Deposited(cents=5)),
        ("account-2", 0, Deposited(cents=7)),
        ("account-1", 1, Withdrawn(cents=2)),
        ("account-1", 2, Deposited(cents=1)),
    ):
        await store.append([Write(stream, version, [event])], a_context())
    return await record(store)


@pytest.fixture(params=["memory", "postgres"])
async def empty(request: pytest.FixtureRequest) -> AsyncIterator[RestorableStore]:
    """A store with another number of partitions than the recorded one."""
    if request.param == "memory":
        yield a_log(partitions=3)
        return
    template = request.getfixturevalue("database_template")("event_log", migrate)
    async with asyncpg.create_pool(
        request.getfixturevalue("new_database")(template=template), min_size=1, max_size=2
    ) as pool:
        yield PostgresEventStore(pool, CODEC, category="account", source="test", partitions=3)


async def test_loaded_events_are_what_they_were_but_for_their_positions(
    incident: Recording, empty: RestorableStore
) -> None:
    await incident.load(empty)
    for stream in incident.streams:
        there = await empty.load(stream)
        assert [unplaced(envelope) for envelope in there] == list(map(unplaced, incident.stream(stream).envelopes))
    for head in await empty.heads():
        events, reached = await empty.read(head.partition, 0, 100), GENESIS
        assert [envelope.sequence for envelope in events] == list(range(1, head.position + 1))
        for envelope in events:
            reached = link(reached, envelope)
        assert reached == head.hash


def unplaced(envelope: Envelope) -> Envelope:
    return msgspec.structs.replace(envelope, partition=0, sequence=0)


async def test_life_goes_on_behind_a_loaded_recording(incident: Recording, empty: RestorableStore) -> None:
    loaded = await incident.load(empty)
    assert await load_state(empty, ACCOUNT, "1", "acme") == (Account(4), 3)
    await loaded.expect()
    await execute(empty, ACCOUNT, "1", Deposit(account_id="1", cents=6), a_context())
    await loaded.expect(Deposited(cents=6))
    with pytest.raises(pytest.fail.Exception, match=r"expected to be recorded: nothing\nrecorded:\n  Deposited\(cents"):
        await loaded.expect()


async def test_a_recording_is_not_loaded_twice_nor_into_the_middle(incident: Recording, empty: RestorableStore) -> None:
    behind = msgspec.structs.replace
    with pytest.raises(ReplayError, match=r"goes on behind version 1 here and is at version 0 there: record it with"):
        await incident[2:].load(empty)
    assert await empty.heads() == [], "all or nothing"
    await incident.load(empty)
    with pytest.raises(ReplayError, match="at version 3 there: load it into an empty store"):
        await incident.load(empty)
    more = [behind(incident[3], id=new_id(), streamversion=4)]
    assert [e.streamversion for e in await empty.restore(more)] == [4]


def test_stepping_shows_the_state_before_and_after_each_event(incident: Recording) -> None:
    told = [(step.number, step.event, step.before, step.after) for step in incident.stream("account-1").step(ACCOUNT)]
    assert told == [
        (1, Deposited(cents=5), Account(0), Account(5)),
        (2, Withdrawn(cents=2), Account(5), Account(3)),
        (3, Deposited(cents=1), Account(3), Account(4)),
    ]
    assert [step.changes for step in incident.step(ACCOUNT)][2] == {"cents": (5, 3)}


def test_streams_are_folded_side_by_side(incident: Recording) -> None:
    assert [step.after.cents for step in incident.step(ACCOUNT)] == [5, 7, 3, 4]
    assert list(incident.step(messages.views())) == [], "streams that are no view's are left out"


def test_old_recordings_are_read_through_the_upcasters_of_today(incident: Recording) -> None:
    class Received(Event, frozen=True, kw_only=True, tag="account.account.received.v1"):
        euros: float

    def to_euros(old: dict[str, Any]) -> dict[str, Any]:
        return {"euros": old["cents"] / 100}

    today = Codec(
        [Received, Withdrawn], [Upcaster("account.account.deposited.v1", "account.account.received.v1", to_euros)]
    )
    again = Recording(incident.header, incident.envelopes, today)
    assert again.events()[0] == Received(euros=0.05)


def test_a_type_that_nobody_knows_any_more_changes_nothing(incident: Recording) -> None:
    again = Recording(incident.header, incident.envelopes, Codec([Deposited]))
    assert [(step.event, step.after.cents) for step in again.stream("account-1").step(ACCOUNT)] == [
        (Deposited(cents=5), 5), (None, 5), (Deposited(cents=1), 6),
    ]  # fmt: skip


async def test_a_consumer_gets_each_partition_in_order_and_in_batches(incident: Recording) -> None:
    given: list[list[tuple[int, int]]] = []

    async def apply(connection: Any, envelopes: Sequence[Envelope]) -> None:
        given.append([(envelope.partition, envelope.sequence) for envelope in envelopes])

    assert await incident.feed(apply, batch=2) == len(given)
    places = [place for batch in given for place in batch]
    assert places == sorted(places), "within a partition, position by position"
    assert max(map(len, given)) == 2
    assert all(len({partition for partition, _ in batch}) == 1 for batch in given)


async def test_what_a_consumer_raises_says_at_which_events(incident: Recording) -> None:
    async def apply(connection: Any, envelopes: Sequence[Envelope]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        await incident.feed(apply, batch=1)
    (note,) = raised.value.__notes__
    assert note.startswith("while applying version 1 of account-")


async def test_a_projection_into_postgresql_is_rebuilt_from_a_recording(incident: Recording, database_url: str) -> None:
    async def apply(connection: Any, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            event = CODEC.decode(envelope)
            cents = event.cents if isinstance(event, Deposited) else -event.cents if isinstance(event, Withdrawn) else 0
            await connection.execute(
                "insert into balance values ($1, $2) on conflict (id) do update set cents = balance.cents + excluded.cents",
                envelope.subject, cents,
            )  # fmt: skip

    connection = await asyncpg.connect(database_url)
    await connection.execute("create table balance (id text primary key, cents int not null)")
    async with connection.transaction():
        await incident.feed(apply, connection)
    balances = dict(map(tuple, await connection.fetch("select id, cents from balance")))
    await connection.close()
    assert balances == {stream: state.cents for stream, state in states_of(incident).items()}


def states_of(recording: Recording) -> dict[str, Account]:
    return {step.envelope.subject: step.after for step in recording.step(ACCOUNT)}


def test_a_view_is_folded_from_a_recording_of_the_platform(recording: OpenRecording, replayed: Replay) -> None:
    """The OAuth vendor forgot an authorization between two calls; the connection was made again."""
    lost = recording("authorization-lost.ndjson", messages.codec())

    interrupted = replayed(lost.until(version=7), messages.views())
    interrupted.expect(LOST, status="interrupted", reason="revoked", reconnect=True, credential_version=2)
    connected = replayed(lost, messages.views())
    connected.expect(status="connected", reason="", detail="", reconnect=False, credential_version=1)
    assert connected.state() != interrupted.state()


async def test_two_recordings_of_the_same_log_do_not_differ_although_their_pseudonyms_do(
    recording: OpenRecording,
) -> None:
    lost = recording("authorization-lost.ndjson", messages.codec())
    store = MemoryEventStore(messages.codec(), category="connector", source="test")
    await store.restore([unmasked(envelope) for envelope in lost.envelopes])
    one, two = await record(store), await record(store)
    assert one.events() != two.events()
    assert differences(one.envelopes, two.envelopes, messages.codec()) == []
    assert differences(lost.envelopes, two.envelopes, messages.codec()) == []


def unmasked(envelope: Envelope) -> Envelope:
    data = envelope.data.replace(b"masked-", b"ada-").replace(b"masked.invalid", b"lovelace.example")
    return msgspec.structs.replace(envelope, data=data)


def test_recordings_that_differ_say_where(incident: Recording) -> None:
    other = [
        msgspec.structs.replace(envelope, data=envelope.data.replace(b'"cents":2', b'"cents":3'), actorid="member:2")
        if envelope.streamversion == 2
        else envelope
        for envelope in incident.envelopes[:-1]
    ]
    found = differences(incident.envelopes, other, CODEC, names=("then", "now"))
    assert list(map(str, found)) == [
        "account-1 version 2: actorid: then 'member:1', now 'member:2'",
        "account-1 version 2: cents: then 2, now 3",
        "account-1 version 3: only then has account.account.deposited.v1",
    ]
    assert differences(incident.envelopes[:-1], other, CODEC, ignoring={"actorid", "cents"}) == []


def test_one_pseudonym_that_became_two_is_a_difference(recording: OpenRecording) -> None:
    lost = recording("authorization-lost.ndjson", messages.codec())
    (*same, last) = lost.envelopes
    name = msgspec.json.decode(last.data)["account"]
    other = msgspec.structs.replace(last, data=last.data.replace(name.encode(), b"masked-0123456789ab@masked.invalid"))
    (found,) = differences(lost.envelopes, [*same, other], lost.codec)
    assert (found.version, found.field) == (9, "account")


def test_views_of_any_codec_may_be_given(incident: Recording, replayed: Replay) -> None:
    def count(state: Account | None, event: Event, envelope: Envelope) -> Account:
        return Account((state.cents if state else 0) + 1)

    replayed(incident, {"account": View(Account, count)}).expect("account-1", cents=3)


def test_a_recording_lies_beside_its_test(recording: OpenRecording) -> None:
    assert Path(__file__).with_name("authorization-lost.ndjson").exists()
    with pytest.raises(pytest.fail.Exception, match=r"beside the test there are: authorization-lost\.ndjson"):
        recording("authorisation-lost.ndjson", messages.codec())
    with pytest.raises(pytest.fail.Exception, match="needs a codec"):
        recording("authorization-lost.ndjson")


def test_a_wrong_expectation_is_told_with_the_event_it_comes_from(recording: OpenRecording, replayed: Replay) -> None:
    lost = replayed(recording("authorization-lost.ndjson", messages.codec()).until(version=7), messages.views())
    with pytest.raises(pytest.fail.Exception) as failed:
        lost.expect(status="connected", label="x")
    assert str(failed.value).splitlines()[:3] == [
        f"{LOST} after version 7:",
        "  status: expected 'connected'",
        "          is       'interrupted', since version 7 of "
        f"{LOST} (connector.connection.interrupted.v1) at 10:07:16",
    ]
    with pytest.raises(pytest.fail.Exception, match="has no field colour; it has id, tenant_id"):
        lost.expect(colour="red")
    with pytest.raises(pytest.fail.Exception, match=f"there is no connection-2: replayed were {LOST}"):
        lost.expect("connection-2", status="connected")
    with pytest.raises(pytest.fail.Exception, match=r"expected:\n  a\.b\.v1\nrecorded:\n  connector\.connection\.req"):
        lost.expect_events("a.b.v1")
