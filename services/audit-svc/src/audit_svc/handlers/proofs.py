"""What the journal can be checked with from outside: signed heads, hashes, exports; and how far a verification is."""

from typing import NamedTuple
from uuid import UUID

import msgspec

from bizosaas_events import Envelope, StreamNotFoundError, new_id
from bizosaas_events.bus import Answer
from bizosaas_events.exported import Seal, digest_of, line_of, sealed
from bizosaas_events.heads import Vector, read
from bizosaas_events.messages.audit import (
    ChainHead,
    ExportHistory,
    ExportPage,
    Hashes,
    ReadHashes,
    ReadHeads,
    ReadVerification,
    SignedHeads,
)
from bizosaas_ports.clock import Clock
from bizosaas_ports.signing import SigningKey

from ..domain.cursor import cursor_of, parse_cursor
from ..domain.errors import LimitInvalidError, TimeInvalidError
from ..domain.ports import Ledger, Statements, Verifications
from ..domain.verification import VERIFICATION

LARGEST_LOOKUP = 1000


class PageLimits(NamedTuple):
    """A page ends with the event that reaches one of these: it is in memory here, in Redis and in the gateway."""

    events: int = 500
    bytes: int = 1 << 20


async def read_verification(
    command: ReadVerification, envelope: Envelope, *, verifications: Verifications
) -> Answer:  # fmt: skip
    """How far it is. StreamNotFoundError: it has not begun, or was forgotten after a month."""
    try:
        found = await verifications.find(str(UUID(command.id)))
    except ValueError:  # no id at all
        found = None
    if found is None:
        raise StreamNotFoundError(VERIFICATION.stream(command.id[:100]))
    return Answer(None, found)


async def read_heads(command: ReadHeads, envelope: Envelope, *, statements: Statements) -> Answer:
    """The newest signed heads that are not later than the moment."""
    if command.at.tzinfo is None:
        raise TimeInvalidError
    vector = Vector()
    for raw in await statements.at(command.at):
        vector.apply(read(raw))
    heads = [
        ChainHead(category=category, partition=partition, position=held.position, hash=held.hash.hex())
        for (category, partition), held in sorted(vector.heads.items())
    ]
    return Answer(None, SignedHeads(number=vector.number, time=vector.time, heads=heads))


async def read_hashes(command: ReadHashes, envelope: Envelope, *, ledger: Ledger) -> Answer:
    """The stored hashes. That they are those of the events, a verification tells."""
    if not 1 <= len(command.positions) <= LARGEST_LOOKUP:
        raise LimitInvalidError(LARGEST_LOOKUP, "positions")
    found = await ledger.hashes([(p.category, p.partition, p.position) for p in command.positions])
    return Answer(None, Hashes(hashes=[(hash or b"").hex() for hash in found]))


async def export_history(
    command: ExportHistory, envelope: Envelope, *, ledger: Ledger, key: SigningKey, limits: PageLimits, now: Clock
) -> Answer:  # fmt: skip
    """A page of the caller's tenant's events, sealed: nothing is left out between its cursors."""
    for field, moment in (("from", command.since), ("to", command.until)):
        if moment is not None and moment.tzinfo is None:
            raise TimeInvalidError(field)
    after = parse_cursor(command.after, "after") if command.after else None
    tenant = envelope.tenantid
    found = await ledger.export(tenant, command.since, command.until, after, limits.events + 1)
    lines: list[bytes] = []
    size = 0
    for event in found[: limits.events]:
        lines.append(line_of(event, command.format))
        size += len(lines[-1])
        if size >= limits.bytes:
            break
    following = cursor_of(found[len(lines) - 1].envelope) if len(found) > len(lines) else ""
    seal = Seal(
        tenant=tenant, since=command.since, until=command.until, format=command.format, after=command.after,
        next=following, events=len(lines), digest=digest_of(lines), time=now(),
    )  # fmt: skip
    lines.append(sealed(seal, key.sign, new_id()))
    return Answer(None, ExportPage(lines=[msgspec.Raw(line) for line in lines], next=following))


HANDLERS = (read_verification, read_heads, read_hashes, export_history)
