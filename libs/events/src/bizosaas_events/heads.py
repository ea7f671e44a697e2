"""Signed heads: where all chains ended at a moment, stated outside the database that holds them.

Whoever can rewrite a whole chain can also recompute its hashes, and whoever
can cut its end can cut the record of where it ended. Neither can sign. A
statement names the heads that moved since the statement before it and holds
that one's digest, so that none can be changed, left out or moved elsewhere.

A line is `{"statement": {...}, "signature": "<base64>"}`; the signature and the
digest are of the statement's bytes exactly as they stand in the line. Which
signature scheme it is, is the caller's matter: see `Sign` and `Verify`.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]
"""Takes a message and a signature."""

Chain = tuple[str, int]
"""A log's category and one of its partitions."""

FIRST = "0" * 64
"""The digest before the first statement."""
WHOLE_EVERY = 1000
"""So often a statement names all heads, so that nobody needs to go further back to know them."""
LISTED = 1000
"""So many breaks are told one by one; the rest is counted."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The end of one chain: its last position and, in hexadecimal digits, the hash that covers everything before."""

    category: str
    partition: int
    position: int
    hash: str

    @property
    def chain(self) -> Chain:
        return self.category, self.partition


class Statement(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="chain.heads.v1"):
    """What is signed. `whole`: all heads, not only those that moved; the first statement always is."""

    number: int
    time: datetime
    previous: str
    whole: bool
    heads: list[Head]


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what was said, byte for byte, and the signature of it."""

    statement: msgspec.Raw
    signature: str


class Line(NamedTuple):
    """A line that was understood."""

    statement: Statement
    digest: str
    signature: bytes
    signed: bytes


class HeadsBreak(NamedTuple):
    """The number of a statement that is not what was signed, or not there, and what is wrong."""

    number: int
    reason: str


class Held(NamedTuple):
    """A signed head, and which statement it is from."""

    position: int
    hash: bytes
    number: int
    time: datetime


_decode_line = msgspec.json.Decoder(Signed).decode
_decode_statement = msgspec.json.Decoder(Statement).decode
_encode = msgspec.json.Encoder().encode


def seal(message: msgspec.Struct, sign: Sign) -> bytes:
    """A message and its signature as one line, without the line's end."""
    return seal_bytes(_encode(message), sign)


def seal_bytes(said: bytes, sign: Sign) -> bytes:
    """As `seal`, for what is encoded already."""
    return _encode(Signed(statement=msgspec.Raw(said), signature=base64.b64encode(sign(said)).decode()))


def unseal(line: bytes) -> tuple[bytes, bytes]:
    """What was signed, and the signature. Raises ValueError when the line is none of ours."""
    try:
        found = _decode_line(line)
        return bytes(found.statement), base64.b64decode(found.signature, validate=True)
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"the line cannot be read: {error}") from error


def read(line: bytes) -> Line:
    """One line, whose signature nobody has looked at yet. Raises ValueError when it is none of ours."""
    signed, signature = unseal(line)
    try:
        statement = _decode_statement(signed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"the line cannot be read: {error}") from error
    return Line(statement, hashlib.sha256(signed).hexdigest(), signature, signed)


class Vector:
    """The heads of all chains after so many statements: also a point in time to read the journal as of."""

    def __init__(self) -> None:
        self.number = 0
        self.time: datetime | None = None
        self.digest = FIRST
        self.heads: dict[Chain, Held] = {}

    @classmethod
    def before(cls, line: Line) -> "Vector":
        """What a statement that names all heads can be applied to, without those before it."""
        if not line.statement.whole:
            raise ValueError(f"statement {line.statement.number} does not name all heads")
        vector = cls()
        vector.number, vector.digest = line.statement.number - 1, line.statement.previous
        return vector

    def apply(self, line: Line) -> None:
        """Go on by one statement."""
        said = line.statement
        self.number, self.time, self.digest = said.number, said.time, line.digest
        for head in said.heads:
            held = self.heads.get(head.chain)
            if held is None or (held.position, held.hash.hex()) != (head.position, head.hash):
                self.heads[head.chain] = Held(head.position, bytes.fromhex(head.hash), said.number, said.time)

    def next(self, heads: Iterable[Head], time: datetime) -> Statement:
        """The statement that follows, when these are the heads now."""
        number = self.number + 1
        whole = number % WHOLE_EVERY == 1
        said = [head for head in heads if whole or self._moved(head)]
        return Statement(number=number, time=time, previous=self.digest, whole=whole, heads=said)

    def _moved(self, head: Head) -> bool:
        held = self.heads.get(head.chain)
        return held is None or held.position != head.position


class Reading:
    """Reads exported statements one after another, from the first one, and finds what somebody changed.

    `vector` is what they say, as far as they are what was signed.
    """

    def __init__(self, verify: Verify) -> None:
        self.vector = Vector()
        self.broken = 0
        self.breaks: list[HeadsBreak] = []
        self._verify = verify
        self._number = 0
        self._digest: str | None = FIRST

    @property
    def number(self) -> int:
        """The number of the last statement seen."""
        return self._number

    def take(self, line: bytes) -> Line | None:
        """The next line, or None when it is not what was signed."""
        expected = self._number + 1
        try:
            found = read(line)
        except ValueError as error:
            self._refuse(expected, str(error))
            return None
        if not self._verify(found.signed, found.signature):
            self._refuse(expected, f"statement {expected} is not what was signed by this key")
            return None
        number = found.statement.number
        if number < expected:
            self._displaced(number)
            return None
        if number > expected:
            self._report(expected, missing(expected, number - 1))
        elif self._digest is not None and found.statement.previous != self._digest:
            self._report(number, f"statement {number} does not follow the one before it")
        self._number, self._digest = number, found.digest
        self.vector.apply(found)
        return found

    def end(self, last: int, digest: str = "") -> None:
        """Hold the end of the export against the last statement that somebody else knows of."""
        if self._number < last:
            self._report(self._number + 1, missing(self._number + 1, last))
        elif digest and self._number == last and self._digest not in (None, digest):
            self._report(last, f"another statement {last} was signed, too")

    def _refuse(self, number: int, reason: str) -> None:
        self._number, self._digest = number, None  # the next one's claim on it cannot be looked at
        self._report(number, reason)

    def _displaced(self, number: int) -> None:
        """It stands behind one that it came before; the reading goes on from the later one."""
        absent = HeadsBreak(number, missing(number, number))
        if absent in self.breaks:
            self.breaks.remove(absent)
            self.broken -= 1
        self._report(number, f"statement {number} is out of its order, or there twice")

    def _report(self, number: int, reason: str) -> None:
        self.broken += 1
        if len(self.breaks) < LISTED:
            self.breaks.append(HeadsBreak(number, reason))


def missing(first: int, last: int) -> str:
    """What is said of statements that are not there."""
    return f"statement {first} is missing" if first == last else f"statements {first} to {last} are missing"


def deviation(
    signed: Sequence[Held], hashes: Sequence[bytes | None], *, whole: int = 0, end: int = 0
) -> tuple[int, int, str] | None:
    """Where a chain departs from its signed heads: the positions that may be others, first and last, and what is wrong.

    `signed` are heads of one chain by position, `hashes` those that stand at
    these positions now, None where there is nothing. Up to `whole` all is
    known to be well; `end` is the last position there is, where it is known.
    """
    for held, stands in zip(signed, hashes, strict=True):
        if stands != held.hash:
            gone = stands is None
            first = max(whole, min(end, held.position - 1) if gone else 0) + 1
            how = "no longer there" if gone else "not what was recorded"
            where = f"position {first} is" if first == held.position else f"positions {first} to {held.position} are"
            return first, held.position, f"{where} {how}: signed statement {held.number} says otherwise"
        whole = held.position
    return None
