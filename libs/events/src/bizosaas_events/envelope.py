"""What travels: messages, and the CloudEvents 1.0 attributes around each of them.

A message (`Event`, `Command`, `Result`) is only its payload. Who, when, where
and why stand in the `Envelope`, whose attributes become flat fields of a Redis
stream entry, always in the same order: Redis then stores the field names once
per node, and a consumer can filter on `type` without decoding `data`.
"""

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar

import msgspec
from uuid_utils import UUID, uuid7

SPECVERSION = "1.0"
CONTENT_TYPE = "application/json"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of everything in the published language; a subclass states its stored name as `tag`.

    The rule of evolution: a new field has a default; nothing is renamed,
    removed or given another type. A new meaning is a new `...vN` and an upcaster.
    """


class Event(Message, frozen=True, kw_only=True):
    """Something that happened, named in the past tense. Facts about our own objects only."""

    says: ClassVar[str] = ""
    """One sentence for the audit log; `{field}` is filled from the event, `{actor}` from its envelope."""
    personal: ClassVar[tuple[str, ...]] = ()
    """The text fields that are a person's: a store closes them, see `personal.py`."""
    person: ClassVar[str] = ""
    """The field with the id of the person whom `personal` and `erases` are about."""
    erases: ClassVar[bool] = False
    """With this event the person's key is destroyed, and nobody reads their closed values again."""


class Command(Message, frozen=True, kw_only=True):
    """A request to one service, in the imperative."""

    service: ClassVar[str]
    """Which service accepts it: the `<service>` of `cmd:<service>`. A property of a command that any of them accepts."""
    permission: ClassVar[str | None] = None
    """The feature of the role table that the caller needs; None: any authenticated caller."""


class Result(Message, frozen=True, kw_only=True):
    """What a handled command answers beyond "done". May hold an external system's data: it is never stored."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf something is done, because of what, and when: all that a decision may know of the world."""

    tenant: str
    actor: str
    """`member:<id>`, `agent:<run id>` or `service:<name>`."""
    role: str
    time: datetime
    correlation_id: str
    causation_id: str
    traceparent: str = ""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of one message on its way, its payload still encoded.

    `sequence` is the gapless position in the partition (0 for a command),
    `streamversion` the gapless version in the stream, `partition` the number
    of the partition (-1 for a command).
    """

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    tenantid: str
    actorid: str
    actorrole: str
    correlationid: str
    causationid: str
    traceparent: str = ""
    partition: int = -1
    sequence: int = 0
    streamversion: int = 0
    replyto: str = ""
    data: bytes = b""

    def context(self) -> Context:
        """The context for whatever this message causes."""
        return Context(
            tenant=self.tenantid,
            actor=self.actorid,
            role=self.actorrole,
            time=self.time,
            correlation_id=self.correlationid,
            causation_id=self.id,
            traceparent=self.traceparent,
        )


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refusal on the wire: a slug that clients may rely on, one plain sentence, the field and the remedy."""

    kind: str
    slug: str
    detail: str
    field: str = ""
    remedy: str = ""
    retry_after: float | None = None
    """Seconds after which trying again makes sense."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one waiting caller: either `problem` or a handled command with what it recorded."""

    command_id: str
    subject: str = ""
    version: int = 0
    position: str = ""
    """`<category>/<partition>@<sequence>`: a reader that waits for it sees its own write."""
    result: msgspec.Raw = msgspec.Raw(b"null")
    problem: Problem | None = None


# The order is part of the format: see the module's docstring.
FIELDS = (
    "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "partitionkey", "sequence",
    "streamversion", "tenantid", "actorid", "actorrole", "correlationid", "causationid", "traceparent", "data",
)  # fmt: skip


def new_id() -> str:
    """A UUIDv7 (RFC 9562): ordered by time, so that index pages fill up one after another."""
    return str(uuid7())


def now() -> datetime:
    """The current time in UTC, microseconds."""
    return datetime.now(UTC)


def partition_of(tenant: str, stream: str, partitions: int) -> int:
    """Where a stream lives for good: all events of one stream are in one partition."""
    return zlib.crc32(f"{tenant}/{stream}".encode()) % partitions


def values_of(envelope: Envelope) -> list[str | bytes]:
    """The values of `FIELDS`, in that order."""
    return [
        SPECVERSION, envelope.id, envelope.source, envelope.type, envelope.subject, envelope.time.isoformat(),
        CONTENT_TYPE, f"{envelope.tenantid}/{envelope.subject}", str(envelope.sequence), str(envelope.streamversion),
        envelope.tenantid, envelope.actorid, envelope.actorrole, envelope.correlationid, envelope.causationid,
        envelope.traceparent, envelope.data,
    ]  # fmt: skip


def to_fields(envelope: Envelope) -> dict[str | bytes, str | bytes]:
    """The envelope as the flat fields of one stream entry."""
    fields: dict[str | bytes, str | bytes] = dict(zip(FIELDS, values_of(envelope), strict=True))
    if envelope.replyto:
        fields["replyto"] = envelope.replyto
    return fields


def from_fields(fields: Mapping[bytes, bytes], partition: int = -1) -> Envelope:
    """The envelope of one stream entry. Raises ValueError, naming the field, when one is missing or malformed."""
    try:
        return Envelope(
            id=str(UUID(fields[b"id"].decode())),
            source=fields[b"source"].decode(),
            type=fields[b"type"].decode(),
            subject=fields[b"subject"].decode(),
            time=datetime.fromisoformat(fields[b"time"].decode()),
            tenantid=fields[b"tenantid"].decode(),
            actorid=fields[b"actorid"].decode(),
            actorrole=fields[b"actorrole"].decode(),
            correlationid=fields[b"correlationid"].decode(),
            causationid=fields[b"causationid"].decode(),
            traceparent=fields[b"traceparent"].decode(),
            partition=partition,
            sequence=int(fields[b"sequence"]),
            streamversion=int(fields[b"streamversion"]),
            replyto=fields.get(b"replyto", b"").decode(),
            data=fields[b"data"],
        )
    except KeyError as error:
        raise ValueError(f"stream entry lacks the field {error.args[0].decode()!r}") from error
