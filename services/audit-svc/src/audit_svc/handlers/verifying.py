"""Verifying the journal: every chain recomputed, and held against its newest signed head."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from bizosaas_events.chain import GENESIS
from bizosaas_events.heads import Chain, Held, Reading, Vector, deviation
from bizosaas_events.messages.audit import ChainBreak
from bizosaas_events.stopping import stop

from ..domain.chain import LISTED, Walk
from ..domain.entry import Head
from ..domain.ports import Ledger, Verifications
from .signing import Notary, StatementError

REPORT_SECONDS = 0.5
BATCH = 1000
HEADS = "heads"
"""Where the breaks of the signed heads themselves are said to be."""


class Verifier:
    """One verification. `run` may be called once; what it counts can be looked at meanwhile."""

    def __init__(self, ledger: Ledger, notary: Notary) -> None:
        self.walks: list[Walk] = []
        self.reading = Reading(notary.verify)
        self.broken = 0
        self.breaks: list[ChainBreak] = []
        self._ledger = ledger
        self._notary = notary

    @property
    def events(self) -> int:
        return sum(walk.checked for walk in self.walks)

    async def prepare(self) -> list[Head]:
        """Read the signed heads, and return the ends of all chains: those that were signed and are gone, too."""
        try:
            self.reading = await self._notary.reading()
        except StatementError as error:
            self._report([ChainBreak(category=HEADS, partition=0, position=error.number, reason=str(error))], 1)
        self._report(
            [ChainBreak(category=HEADS, partition=0, position=n, reason=why) for n, why in self.reading.breaks],
            self.reading.broken,
        )
        heads = {(head.category, head.partition): head for head in await self._ledger.heads()}
        gone = {chain: Head(*chain, 0, GENESIS) for chain in self.reading.vector.heads}
        return [head for _, head in sorted((gone | heads).items())]

    async def run(self, heads: Sequence[Head]) -> None:
        """Walk all chains."""
        signed = self.reading.vector.heads
        for head in heads:
            walk = Walk(head.category, head.partition, head, signed.get((head.category, head.partition)))
            self.walks.append(walk)
            await self._ledger.links(head.category, head.partition, walk.take)
            walk.end()
        departing = {(walk.category, walk.partition): walk for walk in self.walks if walk.departs}
        if departing:
            await self._localise(departing)
        for walk in self.walks:
            found = [
                ChainBreak(category=walk.category, partition=p, position=n, reason=why) for p, n, why in walk.breaks
            ]
            self._report(found, walk.broken)

    def _report(self, breaks: Sequence[ChainBreak], broken: int) -> None:
        self.broken += broken
        self.breaks += breaks[: LISTED - len(self.breaks)]

    async def _localise(self, departing: Mapping[Chain, Walk]) -> None:
        """Find between which signed heads a chain became another."""
        held = await asyncio.to_thread(self._held, departing)
        for chain, walk in departing.items():
            found, whole = None, 0
            for n in range(0, len(held[chain]), BATCH):
                batch = held[chain][n : n + BATCH]
                hashes = await self._ledger.hashes([(*chain, each.position) for each in batch])
                found = found or deviation(batch, hashes, whole=whole, end=walk.position)
                whole = batch[-1].position
            walk.depart(*(found or (whole, whole, "it was another one a moment ago: the journal is being changed")))

    def _held(self, chains: Mapping[Chain, Walk]) -> Mapping[Chain, list[Held]]:
        """Every signed head of some chains."""
        refused = {number for number, _ in self.reading.breaks}
        found: dict[Chain, list[Held]] = defaultdict(list)
        vector = Vector()
        for line in self._notary.exported():
            if line.statement.number in refused:
                continue
            vector.apply(line)
            for head in line.statement.heads:
                held = vector.heads[head.chain]
                if head.chain in chains and found[head.chain][-1:] != [held]:
                    found[head.chain].append(held)
        return found


@asynccontextmanager
async def reporting(verifications: Verifications, id: str, verifier: Verifier) -> AsyncIterator[None]:
    """Tell how far it is, now and then, as long as the block lasts."""

    async def report() -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await verifications.advance(id, verifier.events, max(len(verifier.walks) - 1, 0))

    task = asyncio.create_task(report())
    try:
        yield
    finally:
        await stop([task])
