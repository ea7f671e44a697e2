"""Chains of the journal: made as their owners make them, and every damage found at its own position."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_svc.domain.chain import LISTED, GapError, Walk, extend, link_of
from audit_svc.domain.entry import Entry, Head
from audit_svc.testing import a_context, a_log, happened
from bizosaas_events import Envelope
from bizosaas_events.chain import GENESIS
from bizosaas_events.messages.tenant import MemberSignedIn
from bizosaas_events.store import Head as OwnersHead

SIZE = 12


async def a_chain(size: int) -> tuple[list[Envelope], list[OwnersHead]]:
    log = a_log("tenant", partitions=1)
    for n in range(size):
        await happened(log, f"member-{n % 3}", MemberSignedIn(member_id=f"{n % 3}"), context=a_context(minute=n))
    return await log.read(0, 0, size), await log.heads()


ENVELOPES, HEADS = asyncio.run(a_chain(SIZE))
NOTHING = Head("tenant", 0, 0, GENESIS)
ENTRIES = extend(NOTHING, ENVELOPES)
HEAD = Head("tenant", 0, SIZE, ENTRIES[-1].hash)


def positions(entries: list[Entry], head: Head | None = HEAD, batch: int = 5) -> list[int]:
    """Where a walk over these, in batches, finds damage."""
    walk = Walk("tenant", 0, head)
    while found := [e for e in entries if e.envelope.sequence > walk.position][:batch]:
        walk.take([link_of(entry) for entry in found])
    walk.end()
    assert walk.broken == len(walk.breaks)
    return [found.position for found in walk.breaks]


def with_changed(position: int, change: Callable[[Entry], Entry]) -> list[Entry]:
    return [change(e) if e.envelope.sequence == position else e for e in ENTRIES]


def at(entry: Entry, position: int) -> Entry:
    return entry._replace(envelope=msgspec.structs.replace(entry.envelope, sequence=position))


def test_the_chain_is_the_owners() -> None:
    assert (HEADS[0].position, HEADS[0].hash) == (HEAD.position, HEAD.hash)


def test_a_chain_goes_on_from_where_it_ended() -> None:
    for cut in range(SIZE):
        first = extend(NOTHING, ENVELOPES[:cut])
        head = Head("tenant", 0, cut, first[-1].hash) if first else NOTHING
        assert first + extend(head, ENVELOPES[cut:]) == ENTRIES


def test_what_is_journalled_already_is_left_out() -> None:
    head = Head("tenant", 0, 7, ENTRIES[6].hash)
    assert extend(head, ENVELOPES) == ENTRIES[7:]


def test_nothing_is_chained_to_what_it_does_not_follow() -> None:
    with pytest.raises(GapError, match="ends at 7, and the next event has position 9"):
        extend(Head("tenant", 0, 7, ENTRIES[6].hash), ENVELOPES[8:])


def test_a_whole_chain_holds() -> None:
    assert positions(ENTRIES) == []
    assert positions([], NOTHING) == []


@pytest.mark.parametrize("position", range(1, SIZE + 1))
def test_a_changed_byte_is_found_at_its_position(position: int) -> None:
    def flip(entry: Entry) -> Entry:
        data = entry.envelope.data.replace(b"member_id", b"member_ix")
        return entry._replace(envelope=msgspec.structs.replace(entry.envelope, data=data))

    assert positions(with_changed(position, flip)) == [position]


@pytest.mark.parametrize("position", range(1, SIZE + 1))
def test_a_changed_hash_is_found_at_its_position(position: int) -> None:
    assert positions(with_changed(position, lambda e: e._replace(hash=bytes(32)))) == [position]


@pytest.mark.parametrize(
    "change",
    [
        {"tenantid": "other"},
        {"subject": "member-9"},
        {"type": "tenant.member.added.v1"},
        {"streamversion": 99},
        {"streamversion": -1},
        {"id": "00000000-0000-7000-8000-000000000000"},
        {"time": a_context(minute=500).time},
        {"actorid": "member:eve"},
        {"actorrole": "super_admin"},
        {"correlationid": "another"},
        {"causationid": "another"},
        {"source": "agent-svc"},
        {"traceparent": "00-1-2-01"},
    ],
    ids=lambda c: "-".join(c),
)
def test_every_column_is_covered(change: dict[str, object]) -> None:
    def alter(entry: Entry) -> Entry:
        return entry._replace(envelope=msgspec.structs.replace(entry.envelope, **change))

    assert positions(with_changed(4, alter)) == [4]


@pytest.mark.parametrize(
    "meta",
    [b"", b"{}", b"null", ENTRIES[3].meta.replace(b"ann", b"eve")],
    ids=["empty", "an empty object", "null", "another actor"],
)
def test_changed_meta_is_found(meta: bytes) -> None:
    assert positions(with_changed(4, lambda e: e._replace(meta=meta))) == [4]


@pytest.mark.parametrize("position", range(1, SIZE + 1))
def test_a_deleted_row_is_found_at_its_position(position: int) -> None:
    assert positions([e for e in ENTRIES if e.envelope.sequence != position]) == [position]


@pytest.mark.parametrize("left", range(SIZE))
def test_a_tail_that_was_cut_off_is_found_where_it_began(left: int) -> None:
    assert positions(ENTRIES[:left]) == [left + 1]


def test_a_head_that_was_changed_is_found() -> None:
    assert positions(ENTRIES, HEAD._replace(hash=bytes(32))) == [SIZE]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (5, 6), (2, 9), (3, 5), (11, 12), (1, 12)])
def test_rows_that_changed_places_are_found_at_their_positions(one: int, other: int) -> None:
    swapped = list(ENTRIES)
    swapped[one - 1], swapped[other - 1] = at(ENTRIES[other - 1], one), at(ENTRIES[one - 1], other)
    head = HEAD if other != SIZE else None
    assert positions(swapped, head) == [one, other]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 9)])
def test_contents_that_changed_places_are_found_at_their_positions(one: int, other: int) -> None:
    swapped = list(ENTRIES)
    a, b = ENTRIES[one - 1], ENTRIES[other - 1]
    swapped[one - 1] = a._replace(envelope=msgspec.structs.replace(a.envelope, data=b"1"))
    swapped[other - 1] = b._replace(envelope=msgspec.structs.replace(b.envelope, data=b"2"))
    assert positions(swapped) == [one, other]


def test_a_row_that_was_added_is_found() -> None:
    added = at(ENTRIES[-1], SIZE + 1)
    assert positions([*ENTRIES, added]) == [SIZE + 1]


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(1, SIZE), max_size=5), st.integers(1, 7))
def test_several_changes_are_all_found_and_nothing_else(damaged: set[int], batch: int) -> None:
    def flip(entry: Entry) -> Entry:
        return entry._replace(envelope=msgspec.structs.replace(entry.envelope, data=b"changed"))

    entries = [flip(e) if e.envelope.sequence in damaged else e for e in ENTRIES]
    assert positions(entries, batch=batch) == sorted(damaged)


def test_ever_so_much_damage_is_counted_and_told_in_part() -> None:
    walk = Walk("tenant", 0)
    for n in range(LISTED + 500):
        walk.take([link_of(at(ENTRIES[n % SIZE]._replace(hash=n.to_bytes(32, "big")), n + 1))])
    assert walk.broken == LISTED + 500
    assert len(walk.breaks) == LISTED
