"""Making and checking the hash chains of the journal, one per log and partition.

The chain is the owner's: the same bytes under the same hash as in the
service's own database, so that the heads of both can be compared.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from bizosaas_events import Envelope
from bizosaas_events.chain import GENESIS, Break, Link, Meta, content_of, link, meta_of
from bizosaas_events.heads import Held
from bizosaas_events.messages import log_of

from .entry import Entry, Head

LISTED = 1000
"""So many breaks are told one by one; the rest is counted."""
STRAYS = 64

MIRRORED = {"actor": "actorid", "correlation": "correlationid"}
"""The columns that repeat an attribute of the recorded bytes, to be searched."""

_decode_meta = msgspec.json.Decoder(Meta).decode


class GapError(Exception):
    """The journal lacks what comes before this event: cut off, or it was restored from an older backup than the rest."""

    def __init__(self, head: Head, envelope: Envelope) -> None:
        super().__init__(
            f"the journal of {head.category}/{head.partition} ends at {head.position}, "
            f"and the next event has position {envelope.sequence}: restore the journal, or verify it"
        )


def by_chain(envelopes: Iterable[Envelope]) -> dict[tuple[str, int], list[Envelope]]:
    """The events of each log and partition."""
    chains: dict[tuple[str, int], list[Envelope]] = {}
    for envelope in envelopes:
        chains.setdefault((log_of(envelope), envelope.partition), []).append(envelope)
    return chains


def extend(head: Head, envelopes: Iterable[Envelope]) -> list[Entry]:
    """The entries for the next events of a chain. Those that are journalled already are left out.

    Raises GapError: nothing is ever chained to what it does not follow.
    """
    entries: list[Entry] = []
    position, previous = head.position, head.hash
    for envelope in envelopes:
        if envelope.sequence <= position:
            continue
        if envelope.sequence != position + 1:
            raise GapError(head, envelope)
        meta = meta_of(envelope)
        position, previous = envelope.sequence, link(previous, envelope, meta)
        entries.append(Entry(envelope, meta, previous))
    return entries


def link_of(entry: Entry) -> Link:
    """An entry as a verification takes it."""
    try:
        return entry.envelope.sequence, content_of(entry.envelope, entry.meta), entry.hash, _columns_fit(entry)
    except (OverflowError, ValueError):  # a number, a time or an id that no event can have
        return entry.envelope.sequence, b"", entry.hash, False


class Walk:
    """Recomputes one chain from its beginning, batch by batch, and finds each damage at its own position.

    After a link that does not fit, the next one is held against every hash
    that may stand before it: the stored one (only the event was changed), the
    computed one (only its hash was), and those of other links that do not fit
    (they have changed places). Memory is bounded whatever is found.

    `head` is where the chain ends as recorded beside it, `signed` the newest
    head of it that was signed; `departs` tells afterwards whether the chain is
    another than the signed one, in which all the rest may be sound.
    """

    def __init__(self, category: str, partition: int, head: Head | None = None, signed: Held | None = None) -> None:
        self.category = category
        self.partition = partition
        self.checked = 0
        self.broken = 0
        self._head = head
        self._head_fits = False
        self._signed = signed
        self._signed_fits = False
        self._marks = {each.position for each in (head, signed) if each is not None}
        self._position = 0
        self._before: bytes | None = GENESIS
        self._strays: deque[bytes] = deque(maxlen=STRAYS)
        self._breaks: dict[int, Break] = {}
        self._waiting: deque[Link] = deque(maxlen=STRAYS)

    @property
    def position(self) -> int:
        """The last position seen."""
        return self._position

    @property
    def breaks(self) -> list[Break]:
        """What was found, by position, at most `LISTED`."""
        return [self._breaks[position] for position in sorted(self._breaks)]

    @property
    def departs(self) -> bool:
        """Whether the hash at the signed position is not the one that was signed."""
        return self._signed is not None and not self._signed_fits

    def take(self, links: Sequence[Link]) -> None:
        """Check the next links, in the order of their positions."""
        sha256, marks = hashlib.sha256, self._marks
        position, before = self._position, self._before
        for each in links:
            at, content, stored, fits = each
            if before is not None and at == position + 1 and fits and sha256(before + content).digest() == stored:
                position, before = at, stored
            else:
                self._position, self._before = position, before
                self._check(each)
                position, before = self._position, self._before
            if at in marks:
                self._mark(at, stored)
        self._position, self._before = position, before
        self.checked += len(links)

    def end(self) -> None:
        """Hold what was seen against the head that was recorded beside the chain."""
        if self._head is None or self._head_fits or self._position == self._head.position == 0:
            return
        if self._head.position == 0:
            self._report(0, "the head that was recorded beside the chain is gone")
        elif self._position < self._head.position:
            self._report(self._position + 1, _missing(self._position + 1, self._head.position, "cut off the end"))
        else:
            self._report(self._head.position, "the hash is not the one recorded as the head of the chain")

    def depart(self, position: int, last: int, reason: str) -> None:
        """Report that the chain departs from the signed one, unless damage is known between these positions."""
        if not any(position <= known <= last for known in self._breaks):
            self._report(position, reason)

    def _mark(self, at: int, stored: bytes) -> None:
        if self._head is not None and at == self._head.position:
            self._head_fits = stored == self._head.hash
        if self._signed is not None and at == self._signed.position:
            self._signed_fits = stored == self._signed.hash

    def _check(self, each: Link) -> None:
        at, _, stored, fits = each
        if at != self._position + 1:
            self._report(self._position + 1, _missing(self._position + 1, at - 1, "missing"))
            self._before = None  # the hash before is gone with them: this link's own is all there is to go on
        if not fits:
            self._report(at, "the columns beside the recorded bytes say something else")
        if self._before is not None and not _follows(each, self._before):
            self._misfit(each, self._before)
        self._before, self._position = stored, at

    def _misfit(self, each: Link, before: bytes) -> None:
        at, content, stored, _ = each
        if any(_follows(each, stray) for stray in self._strays):
            return
        self._report(at, "the event is not what was recorded")
        self._strays += (stored, hashlib.sha256(before + content).digest())
        for earlier in [e for e in self._waiting if _follows(e, stored)]:
            self._waiting.remove(earlier)
            self._withdraw(earlier[0])
        self._waiting.append(each)

    def _report(self, position: int, reason: str) -> None:
        if position in self._breaks:
            return
        self.broken += 1
        if len(self._breaks) < LISTED:
            self._breaks[position] = Break(self.partition, position, reason)

    def _withdraw(self, position: int) -> None:
        self.broken -= 1
        self._breaks.pop(position, None)


def _columns_fit(entry: Entry) -> bool:
    ours = meta_of(entry.envelope)
    try:
        return ours == entry.meta or _decode_meta(ours) == _decode_meta(entry.meta)
    except msgspec.DecodeError:
        return False


def _follows(each: Link, before: bytes) -> bool:
    return hashlib.sha256(before + each[1]).digest() == each[2]


def _missing(first: int, last: int, how: str) -> str:
    return f"position {first} is {how}" if first == last else f"positions {first} to {last} are {how}"
