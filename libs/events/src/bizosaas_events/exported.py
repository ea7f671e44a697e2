"""An event as one line of an export, with its place in its chain: in our own form, or as a CloudEvent.

Both hold the recorded bytes, so that whoever has a line, and its predecessor's
hash in it, can recompute the event's own. An export comes in pages, each ended
by a signed seal: nothing can be left out of one unseen.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from .chain import Meta, content_of, meta_of
from .envelope import CONTENT_TYPE, SPECVERSION, Envelope
from .heads import Sign, seal, unseal

Form = Literal["ndjson", "cloudevents"]
SEALED = "audit.export.sealed.v1"
"""The type of the CloudEvent that ends a page."""


class Exported(NamedTuple):
    """An event as it was recorded, the hash before it and its own; empty: there is none."""

    category: str
    envelope: Envelope
    meta: bytes
    previous: bytes
    hash: bytes

    def holds(self) -> bool:
        """Whether its hash is of exactly this event behind the hash before it."""
        try:
            content = content_of(self.envelope, self.meta)
        except (OverflowError, ValueError):
            return False
        return hashlib.sha256(self.previous + content).digest() == self.hash


class Seal(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="audit.export-seal.v1"):
    """What is signed at the end of a page: that these lines are all the tenant's events between two cursors."""

    tenant: str
    since: datetime | None
    until: datetime
    format: Form
    after: str
    next: str
    """Empty: that was the last page."""
    events: int
    digest: str
    """SHA-256 of the page's lines, each with its line feed."""
    time: datetime


class SealedPage(NamedTuple):
    """A seal, the bytes that were signed, and their signature."""

    seal: Seal
    signed: bytes
    signature: bytes


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    category: str
    partition: int
    position: int
    id: str
    type: str
    subject: str
    version: int
    tenant: str
    time: datetime
    meta: msgspec.Raw = msgspec.Raw()
    meta_base64: str = ""
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str = ""
    previous: str = ""
    hash: str = ""


class _CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Integers beyond 32 bits are no CloudEvents type: `sequence` is a string, as its extension wants it."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str = ""
    time: datetime
    datacontenttype: str
    category: str = ""
    partition: int = -1
    sequence: str = ""
    streamversion: int = 0
    tenantid: str = ""
    actorid: str = ""
    actorrole: str = ""
    correlationid: str = ""
    causationid: str = ""
    traceparent: str = ""
    metabase64: str = ""
    previoushash: str = ""
    chainhash: str = ""
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str = ""


class _Kind(msgspec.Struct, frozen=True):
    statement: msgspec.Raw = msgspec.Raw()
    specversion: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw()


_kind = msgspec.json.Decoder(_Kind).decode
_line = msgspec.json.Decoder(_Line).decode
_cloud_event = msgspec.json.Decoder(_CloudEvent).decode
_seal = msgspec.json.Decoder(Seal).decode
_any = msgspec.json.Decoder().decode
_meta = msgspec.json.Decoder(Meta).decode
_encode = msgspec.json.Encoder().encode
_WRONG = (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, ValueError)


def line_of(event: Exported, form: Form) -> bytes:
    """The line, without its end."""
    e = event.envelope
    data = _embedded("data", "data_base64", e.data)
    if form == "ndjson":
        return _encode(
            _Line(
                category=event.category, partition=e.partition, position=e.sequence, id=e.id, type=e.type,
                subject=e.subject, version=e.streamversion, tenant=e.tenantid, time=e.time, previous=event.previous.hex(),
                hash=event.hash.hex(), **_embedded("meta", "meta_base64", event.meta), **data,
            )
        )  # fmt: skip
    # A CloudEvent always has a source.
    e = e if e.source else msgspec.structs.replace(e, source=event.category)
    odd: dict[str, Any] = {} if event.meta == meta_of(e) else {"metabase64": base64.b64encode(event.meta).decode()}
    return _encode(
        _CloudEvent(
            specversion=SPECVERSION, id=e.id, source=e.source, type=e.type, subject=e.subject,
            time=e.time, datacontenttype=CONTENT_TYPE, category=event.category, partition=e.partition,
            sequence=str(e.sequence), streamversion=e.streamversion, tenantid=e.tenantid, actorid=e.actorid,
            actorrole=e.actorrole, correlationid=e.correlationid, causationid=e.causationid, traceparent=e.traceparent,
            previoushash=event.previous.hex(), chainhash=event.hash.hex(), **odd, **data,
        )
    )  # fmt: skip


def sealed(seal_: Seal, sign: Sign, id: str) -> bytes:
    """The line that ends a page; `id` is that of the CloudEvent, where it is one."""
    line = seal(seal_, sign)
    if seal_.format == "ndjson":
        return line
    return _encode(
        _CloudEvent(
            specversion=SPECVERSION, id=id, source="audit-svc", type=SEALED, time=seal_.time,
            datacontenttype=CONTENT_TYPE, tenantid=seal_.tenant, data=msgspec.Raw(line),
        )
    )  # fmt: skip


def digest_of(lines: Sequence[bytes]) -> str:
    """What a seal says of the lines of its page."""
    hash = hashlib.sha256()
    for line in lines:
        hash.update(line + b"\n")
    return hash.hexdigest()


def parse(line: bytes) -> Exported | SealedPage:
    """A line of an export in either form. Raises ValueError when it is none."""
    try:
        kind = _kind(line)
        if bytes(kind.statement) or kind.type == SEALED:
            signed, signature = unseal(bytes(kind.data) if kind.specversion else line)
            return SealedPage(_seal(signed), signed, signature)
        return _from_cloud_event(_cloud_event(line)) if kind.specversion else _from_line(_line(line))
    except _WRONG as error:
        raise ValueError(f"it is no line of an export: {error}") from error


def _from_line(said: _Line) -> Exported:
    meta = bytes(said.meta) or base64.b64decode(said.meta_base64, validate=True)
    envelope = envelope_of(
        meta, id=said.id, type=said.type, subject=said.subject, time=said.time, tenantid=said.tenant,
        partition=said.partition, sequence=said.position, streamversion=said.version,
        data=bytes(said.data) or base64.b64decode(said.data_base64, validate=True),
    )  # fmt: skip
    return Exported(said.category, envelope, meta, bytes.fromhex(said.previous), bytes.fromhex(said.hash))


def _from_cloud_event(said: _CloudEvent) -> Exported:
    envelope = Envelope(
        id=str(UUID(said.id)), source=said.source, type=said.type, subject=said.subject, time=said.time,
        tenantid=said.tenantid, actorid=said.actorid, actorrole=said.actorrole, correlationid=said.correlationid,
        causationid=said.causationid, traceparent=said.traceparent, partition=said.partition,
        sequence=int(said.sequence), streamversion=said.streamversion,
        data=bytes(said.data) or base64.b64decode(said.data_base64, validate=True),
    )  # fmt: skip
    meta = base64.b64decode(said.metabase64, validate=True) if said.metabase64 else meta_of(envelope)
    return Exported(said.category, envelope, meta, bytes.fromhex(said.previoushash), bytes.fromhex(said.chainhash))


def envelope_of(meta: bytes, **attributes: Any) -> Envelope:
    """The envelope of an event whose meta is still encoded; without what meta says where it cannot be read."""
    try:
        said = msgspec.structs.asdict(_meta(meta))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = dict.fromkeys(Meta.__struct_fields__, "")
    return Envelope(**said, **attributes)


def _embedded(plain: str, encoded: str, value: bytes) -> dict[str, Any]:
    """Recorded bytes inside a line: as they are where that is JSON on one line, else in base64."""
    try:
        if b"\n" not in value and value.decode():
            _any(value)
            return {plain: msgspec.Raw(value)}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    return {encoded: base64.b64encode(value).decode()}
