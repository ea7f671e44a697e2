"""Making and checking the hash chains of the journal, one per log and partition.

The chain is the owner's: the same bytes under the same hash as in the
service's own database, so that the heads of both can be compared.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from bizosaas_events import Envelope
from bizosaas_events.chain import GENESIS, Break, Meta, link, meta_of

from .entry import Entry, Head

LISTED = 1000
"""So many breaks are told one by one; the rest is counted."""
STRAYS = 64

_decode_meta = msgspec.json.Decoder(Meta).decode


class GapError(Exception):
    """The journal lacks what comes before this event: cut off, or it was restored from an older backup than the rest."""

    def __init__(self, head: Head, envelope: Envelope) -> None:
        super().__init__(
            f"the journal of {head.category}/{head.partition} ends at {head.position}, "
            f"and the next event has position {envelope.sequence}: restore the journal, or verify it"
        )


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


class Walk:
    """Recomputes one chain from its beginning, batch by batch, and finds each damage at its own position.

    After an entry that does not fit, the next one is held against every hash
    that may stand before it: the stored one (only the entry was changed), the
    computed one (only its hash was), and those of other entries that do not
    fit (they have changed places). Memory is bounded whatever is found.
    """

    def __init__(self, category: str, partition: int, head: Head | None = None) -> None:
        self.category = category
        self.partition = partition
        self.checked = 0
        self.broken = 0
        self._head = head
        self._head_fits = False
        self._position = 0
        self._before: bytes | None = GENESIS
        self._strays: deque[bytes] = deque(maxlen=STRAYS)
        self._breaks: dict[int, Break] = {}
        self._waiting: deque[Entry] = deque(maxlen=STRAYS)

    @property
    def position(self) -> int:
        """The last position seen: ask for what is behind it."""
        return self._position

    @property
    def breaks(self) -> list[Break]:
        """What was found, by position, at most `LISTED`."""
        return [self._breaks[position] for position in sorted(self._breaks)]

    def take(self, entries: Sequence[Entry]) -> None:
        """Check the next entries, in the order of their positions."""
        for entry in entries:
            self._check(entry)

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

    def _check(self, entry: Entry) -> None:
        at, expected = entry.envelope.sequence, self._position + 1
        if at != expected:
            self._report(expected, _missing(expected, at - 1, "missing"))
            self._before = None  # the hash before is gone with them: this entry's own is all there is to go on
        if not _columns_fit(entry):
            self._report(at, "the columns beside the recorded bytes say something else")
        if self._before is not None and not _follows(entry, self._before):
            self._misfit(entry)
        self._before = entry.hash
        self._position = at
        self.checked += 1
        if self._head is not None and at == self._head.position:
            self._head_fits = entry.hash == self._head.hash

    def _misfit(self, entry: Entry) -> None:
        if any(_follows(entry, stray) for stray in self._strays):
            return
        self._report(entry.envelope.sequence, "the event is not what was recorded")
        self._strays += (entry.hash, _hash(entry, self._before or GENESIS))
        for earlier in [e for e in self._waiting if _follows(e, entry.hash)]:
            self._waiting.remove(earlier)
            self._withdraw(earlier.envelope.sequence)
        self._waiting.append(entry)

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


def _follows(entry: Entry, before: bytes) -> bool:
    return _hash(entry, before) == entry.hash


def _hash(entry: Entry, before: bytes) -> bytes:
    try:
        return link(before, entry.envelope, entry.meta)
    except (OverflowError, ValueError, TypeError):  # a number or a time that no event can have
        return b""


def _missing(first: int, last: int, how: str) -> str:
    return f"position {first} is {how}" if first == last else f"positions {first} to {last} are {how}"
