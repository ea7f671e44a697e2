"""Which events of a log are wanted, and how they are found."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import msgspec

from ..envelope import Envelope
from ..store.base import EventStore

PAGE = 1000


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"since": "from", "until": "to"}):
    """Which events are wanted; what is given must all hold, and times are inclusive."""

    streams: list[str] = []
    tenant: str = ""
    correlation: str = ""
    since: datetime | None = None
    until: datetime | None = None
    history: bool = True
    """With what came before on the same streams: a state cannot be folded from the middle."""

    def takes(self, envelope: Envelope) -> bool:
        return (
            (not self.streams or envelope.subject in self.streams)
            and (not self.tenant or envelope.tenantid == self.tenant)
            and (not self.correlation or envelope.correlationid == self.correlation)
            and (self.since is None or envelope.time >= self.since)
            and (self.until is None or envelope.time <= self.until)
        )


async def matching(store: EventStore, selection: Selection) -> AsyncIterator[Envelope]:
    if selection.streams:
        for stream in dict.fromkeys(selection.streams):
            for envelope in await store.load(stream, until_time=selection.until):
                if selection.takes(envelope):
                    yield envelope
        return
    for head in await store.heads():
        after = 0
        while after < head.position:
            page = await store.read(head.partition, after, min(PAGE, head.position - after))
            if not page:
                break
            after = page[-1].sequence
            for envelope in page:
                if selection.takes(envelope):
                    yield envelope


async def with_history(store: EventStore, found: Sequence[Envelope]) -> list[Envelope]:
    last = {envelope.subject: 0 for envelope in found}
    for envelope in found:
        last[envelope.subject] = max(last[envelope.subject], envelope.streamversion)
    return [
        envelope for stream, version in last.items() for envelope in await store.load(stream, until_version=version)
    ]
