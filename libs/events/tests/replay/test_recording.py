"""What a recording takes from a log, and its file."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from bizosaas_events import Context, new_id
from bizosaas_events.store.base import EventStore, Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposited, Withdrawn, a_context
from bizosaas_events.testing.recording import Recording, RecordingError, record
from bizosaas_events.testing.selecting import Selection

START = datetime(2026, 11, 24, 9, 47, 43, 123456, tzinfo=UTC)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[EventStore]:
    """A log of six accounts; a minute passes from one deposit to the next, three each."""
    if request.param == "memory":
        store: EventStore = MemoryEventStore(CODEC, category="account", source="test", partitions=8)
        await filled(store)
        yield store
        return
    template: Callable[..., str] = request.getfixturevalue("database_template")
    url = request.getfixturevalue("new_database")(template=template("event_log", migrate))
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=8)
        await filled(store)
        yield store


async def filled(store: EventStore) -> None:
    for version in range(3):
        for account in range(6):
            await store.append(
                [Write(f"account-{account}", version, [Deposited(cents=account * 10 + version)])],
                at(version * 6 + account, tenant="acme" if account else "other", correlation_id=f"request-{account}"),
            )


def at(minutes: int, **changes: str) -> Context:
    return msgspec.structs.replace(a_context(**changes), time=START + timedelta(minutes=minutes))


def places(recording: Recording) -> list[tuple[str, int]]:
    return sorted((envelope.subject, envelope.streamversion) for envelope in recording.envelopes)


async def test_without_a_selection_everything_is_recorded(store: EventStore) -> None:
    recording = await record(store, masking=None)
    assert len(recording) == recording.header.events == 18
    for head in await store.heads():
        mine = [envelope for envelope in recording.envelopes if envelope.partition == head.partition]
        assert mine == await store.read(head.partition, 0, 100), "each partition is whole and in its order"


async def test_streams_are_recorded_in_the_order_things_happened(store: EventStore) -> None:
    recording = await record(store, Selection(streams=["account-4", "account-2", "account-4"]))
    assert [envelope.subject for envelope in recording.envelopes] == ["account-2", "account-4"] * 3
    assert recording.streams == ["account-2", "account-4"]


async def test_a_request_a_tenant_and_a_time_range_are_found_in_the_whole_log(store: EventStore) -> None:
    assert places(await record(store, Selection(correlation="request-3"))) == [("account-3", n) for n in (1, 2, 3)]
    assert places(await record(store, Selection(tenant="other"))) == [("account-0", n) for n in (1, 2, 3)]
    minutes = Selection(since=START + timedelta(minutes=7), until=START + timedelta(minutes=8), history=False)
    assert places(await record(store, minutes)) == [("account-1", 2), ("account-2", 2)]


async def test_what_came_before_on_the_same_streams_is_recorded_too(store: EventStore) -> None:
    minutes = Selection(since=START + timedelta(minutes=7), until=START + timedelta(minutes=8))
    assert places(await record(store, minutes)) == [
        ("account-1", 1), ("account-1", 2), ("account-2", 1), ("account-2", 2),
    ]  # fmt: skip


async def test_nothing_to_record_is_said(store: EventStore) -> None:
    for selection in (Selection(streams=["account-9"]), Selection(correlation="none"), Selection(since=at(100).time)):
        with pytest.raises(RecordingError, match="no such events"):
            await record(store, selection)


async def test_a_file_is_read_as_it_was_written(store: EventStore, tmp_path: Path) -> None:
    recording = await record(store, Selection(streams=["account-1"], until=at(8).time), source="a-svc", masking=None)
    recording.write(tmp_path / "r.ndjson")
    again = Recording.read(tmp_path / "r.ndjson", CODEC)
    assert again == recording
    assert again.events() == [Deposited(cents=10), Deposited(cents=11)]


async def test_a_line_is_an_event_a_person_can_read(tmp_path: Path) -> None:
    store = MemoryEventStore(CODEC, category="account", source="account-svc", partitions=1)
    (envelope,) = await store.append([Write("account-1", 0, [Deposited(cents=5)])], at(0))
    (await record(store, Selection(streams=["account-1"]))).write(tmp_path / "r.ndjson")
    header, line = map(msgspec.json.decode, (tmp_path / "r.ndjson").read_bytes().splitlines())
    assert header | {"recorded_at": ""} == {
        "format": "bizosaas-events/recording", "version": 1, "recorded_at": "", "source": "account", "events": 1,
        "selection": {"streams": ["account-1"]}, "masked": {}, "note": header["note"],
    }  # fmt: skip
    assert line == {
        "time": "2026-11-24T09:47:43.123456Z", "type": "account.account.deposited.v1", "subject": "account-1",
        "streamversion": 1, "actorid": "member:1", "actorrole": "tenant_user",
        "data": {"type": "account.account.deposited.v1", "cents": 5}, "id": envelope.id, "source": "account-svc",
        "tenantid": "acme", "correlationid": envelope.correlationid, "causationid": envelope.causationid,
        "traceparent": "", "partition": 0, "sequence": 1, "specversion": "1.0", "datacontenttype": "application/json",
    }  # fmt: skip


@pytest.fixture
async def three() -> Recording:
    store = MemoryEventStore(CODEC, category="account", source="test", partitions=1)
    for version, event in enumerate((Deposited(cents=5), Withdrawn(cents=2), Deposited(cents=1))):
        await store.append([Write("account-1", version, [event])], at(version))
    await store.append([Write("account-2", 0, [Deposited(cents=7)])], at(3, correlation_id=new_id()))
    return await record(store)


def test_a_recording_stops_where_it_is_told(three: Recording) -> None:
    assert len(three.until(version=2)) == 3
    assert len(three.until(time=at(1).time)) == 2
    assert len(three[:1]) == 1
    assert three[1].streamversion == 2
    assert three.stream("account-2").events() == [Deposited(cents=7)]
    with pytest.raises(RecordingError, match=r"no account-3 .* it has account-1, account-2"):
        three.stream("account-3")


def test_a_part_of_a_recording_is_a_recording(three: Recording, tmp_path: Path) -> None:
    three[:2].write(tmp_path / "r.ndjson")
    assert len(Recording.read(tmp_path / "r.ndjson", CODEC)) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [], "is no recording"),
        (lambda lines: lines[1:], "is no recording"),
        (lambda lines: lines[:-1], "holds 3 events and says it has 4"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "line 5"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"time":"2026', b'"time":"26'), *lines[3:]], "line 3.*time"),
        (lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]], "update bizosaas-events"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_the_place(
    three: Recording, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    path = tmp_path / "r.ndjson"
    three.write(path)
    path.write_bytes(b"\n".join(change(path.read_bytes().splitlines())))
    with pytest.raises(RecordingError, match=said):
        Recording.read(path, CODEC)
