"""The commands of audit-svc."""

import time
from typing import cast

import msgspec

from bizosaas_events import AlreadyHandledError, Envelope, execute
from bizosaas_events.bus import Answer
from bizosaas_events.messages.audit import ChainBreak, Verified, VerifyJournal
from bizosaas_events.store import EventStore
from bizosaas_ports.clock import Clock

from ..domain.chain import LISTED, Walk
from ..domain.ports import Ledger
from ..domain.verification import VERIFICATION, NoteVerification

BATCH = 2000
"""Entries in memory at once."""


async def verify_journal(
    command: VerifyJournal, envelope: Envelope, *, store: EventStore, ledger: Ledger, now: Clock
) -> Answer:
    """Recompute every chain from its beginning and record what was found. Delivered again it is done again."""
    began = time.perf_counter()
    events = chains = broken = 0
    breaks: list[ChainBreak] = []
    for head in await ledger.heads():
        walk = Walk(head.category, head.partition, head)
        while entries := await ledger.entries(head.category, head.partition, walk.position, BATCH):
            walk.take(entries)
        walk.end()
        events, chains, broken = events + walk.checked, chains + 1, broken + walk.broken
        found = (ChainBreak(category=head.category, partition=p, position=at, reason=why) for p, at, why in walk.breaks)
        breaks += list(found)[: LISTED - len(breaks)]
    result = Verified(
        events=events, partitions=chains, duration_ms=int((time.perf_counter() - began) * 1000), breaks=breaks
    )
    context = msgspec.structs.replace(envelope.context(), time=now())
    note = NoteVerification(events=events, partitions=chains, breaks=broken)
    try:
        handled = await execute(store, VERIFICATION, envelope.id, note, context, command_id=envelope.id)
        recorded = handled.recorded[-1]
    except AlreadyHandledError:
        recorded = cast(Envelope, await store.handled(envelope.id))
    return Answer(recorded, result)


HANDLERS = (verify_journal,)
