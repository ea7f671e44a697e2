"""The commands of audit-svc."""

import time
from typing import cast

import msgspec

from bizosaas_events import AlreadyHandledError, Envelope, execute
from bizosaas_events.bus import Answer
from bizosaas_events.messages.audit import Verified, VerifyJournal
from bizosaas_events.store import EventStore
from bizosaas_ports.clock import Clock

from ..domain.ports import Ledger, Verifications
from ..domain.verification import VERIFICATION, NoteVerification
from .signing import Notary
from .verifying import Verifier, reporting


async def verify_journal(
    command: VerifyJournal, envelope: Envelope, *, store: EventStore, ledger: Ledger, notary: Notary,
    verifications: Verifications, now: Clock,
) -> Answer:  # fmt: skip
    """Recompute every chain from its beginning and record what was found. Delivered again it is done again."""
    began = time.perf_counter()
    verifier = Verifier(ledger, notary)
    heads = await verifier.prepare()
    await verifications.begin(envelope.id, sum(head.position for head in heads), len(heads))
    async with reporting(verifications, envelope.id, verifier):
        await verifier.run(heads)
    result = Verified(
        events=verifier.events, partitions=len(heads), duration_ms=int((time.perf_counter() - began) * 1000),
        breaks=verifier.breaks, statements=verifier.reading.vector.number, signed_until=verifier.reading.vector.time,
    )  # fmt: skip
    context = msgspec.structs.replace(envelope.context(), time=now())
    note = NoteVerification(events=result.events, partitions=result.partitions, breaks=verifier.broken)
    try:
        handled = await execute(store, VERIFICATION, envelope.id, note, context, command_id=envelope.id)
        recorded = handled.recorded[-1]
    except AlreadyHandledError:
        recorded = cast(Envelope, await store.handled(envelope.id))
    await verifications.end(envelope.id, result)
    return Answer(recorded, result)


HANDLERS = (verify_journal,)
