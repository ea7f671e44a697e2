"""Signed heads: nothing in an export can be changed, left out or moved without being found."""

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from unittest.mock import ANY

import pytest

from bizosaas_events.heads import WHOLE_EVERY, Head, Held, Line, Reading, Vector, deviation, read, seal

BEGIN = datetime(2026, 11, 24, 8, tzinfo=UTC)
COUNT = 8


def sign(message: bytes) -> bytes:
    """Any scheme will do here."""
    return hmac.digest(b"key", message, "sha256")


def verify(message: bytes, signature: bytes) -> bool:
    return hmac.compare_digest(sign(message), signature)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def a_head(position: int, partition: int = 3) -> Head:
    return Head("tenant", partition, position, hash_of(f"{partition}@{position}"))


def an_export(count: int = COUNT) -> list[bytes]:
    """One chain that grows by ten with each statement, another that stands still."""
    vector, lines = Vector(), []
    for n in range(1, count + 1):
        said = vector.next([a_head(10 * n), a_head(1, 4)], BEGIN + timedelta(minutes=n))
        lines.append(seal(said, sign))
        vector.apply(read(lines[-1]))
    return lines


LINES = an_export()


def reading(lines: list[bytes], last: int = 0, digest: str = "") -> Reading:
    found = Reading(verify)
    for line in lines:
        found.take(line)
    found.end(last, digest)
    assert found.broken == len(found.breaks)
    return found


def numbers(lines: list[bytes], last: int = 0, digest: str = "") -> list[int]:
    return [each.number for each in reading(lines, last, digest).breaks]


def test_what_was_signed_is_read_to_its_end() -> None:
    found = reading(LINES, COUNT, read(LINES[-1]).digest)
    assert found.breaks == []
    assert (found.vector.number, found.vector.time) == (COUNT, BEGIN + timedelta(minutes=COUNT))
    assert {chain: held.position for chain, held in found.vector.heads.items()} == {
        ("tenant", 3): 10 * COUNT, ("tenant", 4): 1,
    }  # fmt: skip
    assert found.vector.heads["tenant", 4].number == 1


def test_only_the_heads_that_moved_are_named_again_but_now_and_then_all() -> None:
    lines = an_export(WHOLE_EVERY + 2)
    said = [read(line).statement for line in lines]
    assert [len(each.heads) for each in (*said[:3], *said[-3:])] == [2, 1, 1, 1, 2, 1]
    assert [each.number for each in said if each.whole] == [1, WHOLE_EVERY + 1]


def test_the_heads_are_known_from_the_last_statement_that_names_all_of_them_on() -> None:
    lines = [read(line) for line in an_export(WHOLE_EVERY + 3)]
    known, vector = Vector(), Vector.before(lines[WHOLE_EVERY])
    for line in lines:
        known.apply(line)
    for line in lines[WHOLE_EVERY:]:
        assert line.statement.previous == vector.digest
        vector.apply(line)
    assert (vector.number, vector.digest) == (known.number, known.digest)
    assert {c: h.hash for c, h in vector.heads.items()} == {c: h.hash for c, h in known.heads.items()}
    with pytest.raises(ValueError, match="statement 2 does not name all heads"):
        Vector.before(lines[1])


@pytest.mark.parametrize("n", range(COUNT))
def test_a_changed_line_is_found(n: int) -> None:
    changed = LINES[n].replace(str(10 * (n + 1)).encode(), b"77", 1)
    assert changed != LINES[n]
    assert numbers([*LINES[:n], changed, *LINES[n + 1 :]]) == [n + 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[:-20],
        lambda line: b"",
        lambda line: b"\xff" + line,
        lambda line: line.replace(b'"signature":"', b'"signature":"%'),
        lambda line: line.replace(b'"signature":"', b'"signature":"AAAA'),
        lambda line: seal(read(line).statement, lambda message: b"somebody else's"),
        lambda line: seal(Head("tenant", 1, 1, ""), sign),
    ],
)
def test_a_damaged_line_is_found_wherever_the_damage_is(change: Callable[[bytes], bytes]) -> None:
    assert numbers([*LINES[:2], change(LINES[2]), *LINES[3:]]) == [3]


@pytest.mark.parametrize("n", range(COUNT - 1))
def test_a_removed_line_is_found(n: int) -> None:
    assert numbers(LINES[:n] + LINES[n + 1 :]) == [n + 1]


def test_several_removed_lines_are_told_together() -> None:
    (found,) = reading(LINES[:2] + LINES[5:]).breaks
    assert found == (3, "statements 3 to 5 are missing")


@pytest.mark.parametrize("left", range(COUNT))
def test_a_cut_off_end_is_found_by_whoever_knows_how_many_there_are(left: int) -> None:
    assert numbers(LINES[:left], COUNT) == [left + 1]


@pytest.mark.parametrize("n", range(COUNT - 1))
def test_lines_that_changed_places_are_found(n: int) -> None:
    assert numbers([*LINES[:n], LINES[n + 1], LINES[n], *LINES[n + 2 :]]) == [n + 1]


def test_a_line_that_is_there_twice_is_found() -> None:
    assert numbers([*LINES, LINES[2]]) == [3]


def test_a_statement_that_was_signed_beside_another_is_found() -> None:
    """As after the journal was set back, and went on from there."""
    vector = Vector()
    for line in LINES[:4]:
        vector.apply(read(line))
    other = seal(vector.next([a_head(41)], BEGIN), sign)
    assert numbers([*LINES[:4], other, *LINES[5:]]) == [6]
    assert numbers([*LINES[:4], other], 5, read(LINES[4]).digest) == [5]


def test_what_was_not_signed_is_not_believed() -> None:
    changed = LINES[-1].replace(b"80", b"90", 1)
    assert reading([*LINES[:-1], changed]).vector.heads["tenant", 3].position == 70


def held(*positions: int) -> list[Held]:
    return [Held(p, bytes([p]) * 32, n, BEGIN) for n, p in enumerate(positions, 1)]


@pytest.mark.parametrize(
    ("stands", "end", "found"),
    [
        ([10, 20, 30], 35, None),
        ([10, 20, 99], 35, (21, "positions 21 to 30 are not what was recorded")),
        ([98, 97, 99], 35, (1, "positions 1 to 10 are not what was recorded")),
        ([10, 20, None], 26, (27, "positions 27 to 30 are no longer there")),
        ([10, 20, None], 29, (30, "position 30 is no longer there")),
        ([10, None, None], 0, (11, "positions 11 to 20 are no longer there")),
        ([10, None, 30], 35, (20, "position 20 is no longer there")),
    ],
)
def test_a_chain_that_departs_from_its_signed_heads_is_told_where(
    stands: list[int | None], end: int, found: tuple[int, str] | None
) -> None:
    hashes = [None if p is None else bytes([p]) * 32 for p in stands]
    told = deviation(held(10, 20, 30), hashes, end=end)
    assert (told and (told[0], told[2].partition(":")[0])) == found
    later = deviation(held(10, 20, 30)[1:], hashes[1:], whole=10, end=end)
    assert later == (told if stands[0] == 10 else (11, 20, ANY))


def test_a_line_is_read_back_as_it_was_written() -> None:
    line: Line = read(LINES[0])
    assert line.statement.number == 1
    assert line.digest == read(LINES[1]).statement.previous
