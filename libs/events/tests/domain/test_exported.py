"""An export says by itself what can be proven of it."""

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from bizosaas_events.chain import GENESIS, link, meta_of
from bizosaas_events.envelope import Envelope, new_id
from bizosaas_events.export_check import ExportReading
from bizosaas_events.exported import Exported, Form, Seal, SealedPage, digest_of, line_of, parse, sealed
from bizosaas_events.heads import Head

BEGIN = datetime(2026, 11, 24, 8, 0, 0, 123456, tzinfo=UTC)
FORMS: tuple[Form, ...] = ("ndjson", "cloudevents")


def sign(message: bytes) -> bytes:
    return hmac.digest(b"key", message, "sha256")


def verify(message: bytes, signature: bytes) -> bool:
    return hmac.compare_digest(sign(message), signature)


def an_event(position: int, tenant: str = "acme", **other: Any) -> Envelope:
    attributes: dict[str, Any] = {
        "id": new_id(), "source": "tenant-svc", "type": "tenant.member.signed-in.v1", "subject": f"member-{position % 3}",
        "time": BEGIN + timedelta(minutes=position % 1000), "tenantid": tenant, "actorid": "member:ann",
        "actorrole": "tenant_user", "correlationid": new_id(), "causationid": "", "partition": 3, "sequence": position,
        "streamversion": position, "data": b'{"type":"tenant.member.signed-in.v1","member_id":"1","note":"caf\xc3\xa9"}',
    }  # fmt: skip
    return Envelope(**attributes | other)


def a_chain(envelopes: Sequence[Envelope], metas: Sequence[bytes] = ()) -> list[Exported]:
    found, before = [], GENESIS
    for n, envelope in enumerate(envelopes):
        meta = metas[n] if metas else meta_of(envelope)
        hash = link(before, envelope, meta)
        found.append(Exported("tenant", envelope, meta, before, hash))
        before = hash
    return found


CHAIN = a_chain([an_event(n, "other" if n in (4, 8) else "acme") for n in range(1, 11)])
OURS = [event for event in CHAIN if event.envelope.tenantid == "acme"]
"""Positions 1 2 3, 5 6 7, 9 10."""


def an_export(events: Sequence[Exported] = OURS, form: Form = "ndjson", size: int = 3) -> list[bytes]:
    """In pages of three."""
    lines: list[bytes] = []
    after, rest = "", list(events)
    while True:
        page = [line_of(event, form) for event in rest[:size]]
        rest = rest[size:]
        following = f"behind {len(rest)}" if rest else ""
        seal = Seal(
            tenant="acme", since=None, until=BEGIN, format=form, after=after, next=following, events=len(page),
            digest=digest_of(page), time=BEGIN,
        )  # fmt: skip
        lines += [*page, sealed(seal, sign, new_id())]
        after = following
        if not rest:
            return lines


def read_all(lines: Sequence[bytes], *, heads: Sequence[Head] = (), key: bool = True) -> ExportReading:
    reading = ExportReading(verify if key else None)
    for line in lines:
        reading.take(line)
    for head in heads:
        reading.hold_against(head)
    reading.end()
    assert reading.broken == len(reading.breaks)
    return reading


def breaks(lines: Sequence[bytes], *, heads: Sequence[Head] = (), key: bool = True) -> list[tuple[str, int]]:
    return [(found.category, found.position) for found in read_all(lines, heads=heads, key=key).breaks]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "event",
    [
        *CHAIN[:2],
        *a_chain([an_event(1, data=b"not JSON"), an_event(2, data=b'{\n"a": 1}'), an_event(3, data=b'"\xff"')]),
        *a_chain([an_event(1, data=b""), an_event(2, data=b'{"a" :  1}'), an_event(3, data=b"[1,2]")]),
        *a_chain([an_event(1, traceparent="00-1-2-01", causationid="c", actorid='"\\é'), an_event(2, source="")]),
        *a_chain([an_event(1, **dict.fromkeys(("source", "actorid", "actorrole", "correlationid"), ""))], [b"what?"]),
        *a_chain([an_event(1)], [msgspec.json.format(meta_of(an_event(1)), indent=0).replace(b":", b": ")]),
        *a_chain([an_event(2**40, streamversion=7, time=datetime(1999, 12, 31, 23, 59, tzinfo=UTC))]),
    ],
)  # fmt: skip
def test_an_event_comes_back_as_it_was_recorded(event: Exported, form: Form) -> None:
    line = line_of(event, form)
    back = parse(line)
    assert isinstance(back, Exported)
    assert (back.meta, back.envelope.data, back.hash) == (event.meta, event.envelope.data, event.hash)
    assert event.holds()
    assert back.holds()
    assert b"\n" not in line
    json.loads(line)


def test_a_cloud_event_is_one() -> None:
    said = json.loads(line_of(CHAIN[1], "cloudevents"))
    e = CHAIN[1].envelope
    assert {name: said[name] for name in ("specversion", "id", "source", "type", "subject", "datacontenttype")} == {
        "specversion": "1.0", "id": e.id, "source": "tenant-svc", "type": e.type, "subject": e.subject,
        "datacontenttype": "application/json",
    }  # fmt: skip
    assert said["data"] == json.loads(e.data)
    assert (said["sequence"], said["partition"], said["chainhash"]) == ("2", 3, CHAIN[1].hash.hex())
    for name, value in said.items():
        if name not in ("data", "data_base64"):
            assert name.isalnum()
            assert name.islower()
            assert isinstance(value, str | int)
            assert value != "", "an attribute without a value is left out"
    sealing = json.loads(an_export(form="cloudevents")[-1])
    assert sealing["type"] == "audit.export.sealed.v1"
    assert sealing["data"]["statement"]["tenant"] == "acme"


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_export_holds_and_says_how_much_is_proven(form: Form) -> None:
    heads = [Head("tenant", 3, 6, CHAIN[5].hash.hex()), Head("tenant", 3, 8, "00"), Head("agent", 1, 1, "00")]
    reading = read_all(an_export(form=form), heads=heads)
    assert reading.breaks == []
    assert (reading.events, reading.chains, reading.pages) == (8, 1, 3)
    assert reading.linked == 5, "2 3, 6 7, 10"
    assert reading.anchored == 2, "5 6"
    assert reading.seal is not None
    assert reading.seal.tenant == "acme"


def test_an_export_of_nothing_holds() -> None:
    assert breaks(an_export([])) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [0, 2, 4, 9])
def test_a_changed_event_is_found_where_it_is_and_its_page_with_it(form: Form, n: int) -> None:
    lines = an_export(form=form)
    position = msgspec.json.decode(lines[n])["sequence" if form == "cloudevents" else "position"]
    lines[n] = lines[n].replace(b'"member_id":"1"', b'"member_id":"2"')
    assert breaks(lines) == [("tenant", int(position)), ("export", n // 4 + 1)]


def test_a_changed_event_whose_hash_was_made_anew_does_not_fit_its_neighbours() -> None:
    event = OURS[1]
    envelope = msgspec.structs.replace(event.envelope, data=b"{}")
    forged = event._replace(envelope=envelope, hash=link(event.previous, envelope))
    assert breaks(an_export([OURS[0], forged, *OURS[2:]])) == [("tenant", 3)]
    assert breaks(an_export([OURS[0], forged]), heads=[Head("tenant", 3, 2, event.hash.hex())]) == [("tenant", 2)]
    assert breaks(an_export([OURS[0], forged])) == [], "nothing behind it tells; that is what signed heads are for"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda lines: lines[:1] + lines[2:], [("export", 1)]),
        (lambda lines: [lines[1], lines[0], *lines[2:]], [("export", 1)]),
        (lambda lines: lines[:4] + lines[8:], [("export", 2)]),
        (lambda lines: lines[4:], [("export", 1)]),
        (lambda lines: lines[:8], [("export", 3)]),
        (lambda lines: lines[:9], [("export", 3)]),
        (lambda lines: lines[:3] + lines[4:], [("export", 1), ("export", 1)]),
        (lambda lines: [], [("export", 1)]),
        (lambda lines: [*lines[:2], b"what?", *lines[2:]], [("export", 1), ("export", 1)]),
    ],
    ids=["event", "order", "page", "first page", "last page", "last seal", "seal", "all", "line"],
)
def test_what_was_left_out_is_missed(
    form: Form, change: Callable[[list[bytes]], list[bytes]], found: list[tuple[str, int]]
) -> None:
    assert breaks(change(an_export(form=form))) == found


def test_a_seal_that_somebody_else_made_is_found_by_whoever_has_the_key() -> None:
    events = [*OURS[:1], *OURS[2:]]
    lines = []
    for line in an_export(events):
        page = parse(line)
        forged = sealed(page.seal, lambda message: b"somebody", "") if isinstance(page, SealedPage) else line
        lines.append(forged)
    assert breaks(lines) == [("export", n) for n in (1, 2, 3)]
    assert breaks(lines, key=False) == []


def test_an_event_that_is_there_twice_is_found() -> None:
    assert breaks(an_export([*OURS, OURS[-1]])) == [("tenant", 10)]


def test_pages_of_another_export_are_found() -> None:
    other = sealed(
        Seal(
            tenant="other", since=None, until=BEGIN, format="ndjson", after="behind 5", next="", events=0,
            digest=hashlib.sha256().hexdigest(), time=BEGIN,
        ),
        sign, "",
    )  # fmt: skip
    assert breaks([*an_export()[:4], other]) == [("export", 2)]


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"specversion":"1.0"}', b'{"statement":{},"signature":"AA=="}'])
def test_what_is_no_line_of_an_export_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="no line of an export"):
        parse(line)
