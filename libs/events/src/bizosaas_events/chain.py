"""The hash chain of a partition: one changed byte breaks it at its position.

Every field of variable length is preceded by its length, so no byte can move
from one field into the next unseen. PostgreSQL computes the same bytes in
`event_append` (store/migrations).
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from .envelope import Envelope

GENESIS = bytes(32)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of an envelope that are stored together; their encoded form is covered by the hash."""

    source: str
    actorid: str
    actorrole: str
    correlationid: str
    causationid: str
    traceparent: str


class Break(NamedTuple):
    """Where a chain does not hold, and what is wrong there."""

    partition: int
    position: int
    reason: str


Link = tuple[int, bytes, bytes, bool]
"""One event of a chain as it stands somewhere: its position, what its hash covers beside the hash before it, the hash
stored with it, and whether what stands beside the recorded bytes agrees with them."""

_encode = msgspec.json.Encoder().encode


def meta_of(envelope: Envelope) -> bytes:
    """The encoded `Meta` of an envelope: the same bytes every time."""
    return _encode(
        Meta(
            source=envelope.source, actorid=envelope.actorid, actorrole=envelope.actorrole,
            correlationid=envelope.correlationid, causationid=envelope.causationid, traceparent=envelope.traceparent,
        )
    )  # fmt: skip


def content_of(envelope: Envelope, meta: bytes | None = None) -> bytes:
    """What the hash of an event covers beside the hash before it.

    Raises OverflowError or ValueError for a number, a time or an id that no event can have.
    """
    stream, type_, tenant = envelope.subject.encode(), envelope.type.encode(), envelope.tenantid.encode()
    data, meta = envelope.data, meta_of(envelope) if meta is None else meta
    at = (envelope.time - _EPOCH) // _MICROSECOND
    return b"".join((
        envelope.sequence.to_bytes(8, "big"), at.to_bytes(8, "big", signed=True),
        envelope.streamversion.to_bytes(4, "big"), UUID(envelope.id).bytes,
        len(stream).to_bytes(4, "big"), stream, len(type_).to_bytes(4, "big"), type_,
        len(tenant).to_bytes(4, "big"), tenant, len(data).to_bytes(4, "big"), data,
        len(meta).to_bytes(4, "big"), meta,
    ))  # fmt: skip


def link(previous: bytes, envelope: Envelope, meta: bytes | None = None) -> bytes:
    """The hash of an event behind `previous`."""
    return hashlib.sha256(previous + content_of(envelope, meta)).digest()


def verify_links(partition: int, links: Iterable[Link], after: int = 0, head: bytes = GENESIS) -> list[Break]:
    """As `verify`, for links."""
    breaks = []
    for position, content, stored, fits in links:
        if position != after + 1:
            breaks.append(Break(partition, after + 1, f"positions {after + 1} to {position - 1} are missing"))
        elif not fits or hashlib.sha256(head + content).digest() != stored:
            breaks.append(Break(partition, position, "the event is not what was recorded"))
        after, head = position, stored
    return breaks
