"""What can be proven of an export with nothing but the export: the file of one tenant, and signed heads beside it.

- Each event by itself: its hash is of exactly its bytes behind the hash before it.
- Neighbours: where two positions that follow each other are there, the second
  one names the first one's hash.
- What is signed: an event at the position of a signed head has the signed
  hash, and so have all that lead up to it without a gap.
- Nothing is left out: the pages' seals, each for all events between two cursors.

An event whose neighbours are other tenants' stands alone: that the hash before
it is the real one cannot be seen from here, only from the whole chain.
"""

from collections.abc import Iterator
from typing import NamedTuple

from .exported import Exported, Seal, SealedPage, digest_of, parse
from .heads import Chain, Head, Verify

LISTED = 1000
"""So many breaks are told one by one; the rest is counted."""


class ExportBreak(NamedTuple):
    """Where an export is not what was exported. `export`/0 are the pages themselves, by number."""

    category: str
    partition: int
    position: int
    reason: str


class Stand(NamedTuple):
    """What is kept of an event until the end."""

    previous: bytes
    hash: bytes


class ExportReading:
    """Takes the lines of an export one after another. Keeps a few hundred bytes for each event.

    Without `verify` the seals only show accidents, since anybody can make them.
    """

    def __init__(self, verify: Verify | None = None) -> None:
        self.events = 0
        self.pages = 0
        self.linked = 0
        """Events whose predecessor is there, and is the one they were recorded behind."""
        self.anchored = 0
        """Events that a signed head covers."""
        self.seal: Seal | None = None
        """Of the last page."""
        self.broken = 0
        self.breaks: list[ExportBreak] = []
        self._verify = verify
        self._chains: dict[Chain, dict[int, Stand]] = {}
        self._signed: dict[Chain, set[int]] = {}
        self._page: list[bytes] = []

    @property
    def chains(self) -> int:
        return len(self._chains)

    def take(self, line: bytes) -> None:
        """The next line, without its end."""
        try:
            found = parse(line)
        except ValueError as error:
            self._report("export", 0, self.pages + 1, f"page {self.pages + 1}: {error}")
            self._page.append(line)
            return
        if isinstance(found, SealedPage):
            self._end_page(found)
            return
        self._page.append(line)
        self._take_event(found)

    def hold_against(self, head: Head) -> None:
        """A signed head: after all lines, before `end`."""
        stand = self._chains.get(head.chain, {}).get(head.position)
        if stand is None:
            return
        if stand.hash.hex() == head.hash:
            self._signed.setdefault(head.chain, set()).add(head.position)
        else:
            self._report(*head.chain, head.position, "its hash is not the one that was signed")

    def end(self) -> None:
        """All lines were taken, and all signed heads."""
        if self._page or self.seal is None or self.seal.next:
            self._report("export", 0, self.pages + 1, f"page {self.pages + 1} is not there: the export was cut off")
        for chain, stands in self._chains.items():
            for run in _runs(stands):
                self._end_run(chain, stands, run)

    def _take_event(self, event: Exported) -> None:
        e = event.envelope
        self.events += 1
        stands = self._chains.setdefault((event.category, e.partition), {})
        if e.sequence in stands:
            self._report(event.category, e.partition, e.sequence, "it is there twice")
        elif not event.holds():
            self._report(event.category, e.partition, e.sequence, "the event is not what was recorded")
        stands[e.sequence] = Stand(event.previous, event.hash)

    def _end_run(self, chain: Chain, stands: dict[int, Stand], run: list[int]) -> None:
        signed = self._signed.get(chain, ())
        covered = 0
        for n, position in enumerate(run):
            if n and stands[position].previous == stands[run[n - 1]].hash:
                self.linked += 1
            elif n:
                self._report(*chain, position, "it does not follow the event before it")
                covered = n
            if position in signed:
                self.anchored += n + 1 - covered
                covered = n + 1

    def _end_page(self, page: SealedPage) -> None:
        self.pages += 1
        seal, before = page.seal, self.seal
        if self._verify and not self._verify(page.signed, page.signature):
            self._report("export", 0, self.pages, f"page {self.pages} was not sealed by this key")
        if seal.events != len(self._page) or seal.digest != digest_of(self._page):
            self._report("export", 0, self.pages, f"page {self.pages} does not have the lines that were sealed")
        asked = (seal.tenant, seal.since, seal.until, seal.format)
        if seal.after != (before.next if before else ""):
            self._report("export", 0, self.pages, f"page {self.pages} does not follow the page before it")
        elif before and (not before.next or asked != (before.tenant, before.since, before.until, before.format)):
            self._report("export", 0, self.pages, f"page {self.pages} is of another export")
        self.seal, self._page = seal, []

    def _report(self, category: str, partition: int, position: int, reason: str) -> None:
        self.broken += 1
        if len(self.breaks) < LISTED:
            self.breaks.append(ExportBreak(category, partition, position, reason))


def _runs(stands: dict[int, Stand]) -> Iterator[list[int]]:
    """Positions that follow each other without a gap."""
    run: list[int] = []
    for position in sorted(stands):
        if run and position != run[-1] + 1:
            yield run
            run = []
        run.append(position)
    if run:
        yield run
