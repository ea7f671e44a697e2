"""The state of any object at any past moment is what was shown then."""

import asyncio
import typing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_svc.testing import BEGIN, MemoryAuditService, a_context, a_log, happened
from bizosaas_events import Event, Problem, Reply
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages import modules
from bizosaas_events.messages.audit import ReadStateAt, StateAt
from bizosaas_events.messages.connector import (
    Connection,
    ConnectionEstablished,
    ConnectionRenamed,
    ConnectionRequested,
)
from bizosaas_events.personal import PERSON, PersonErasedError
from bizosaas_events.projection import View

VIEWS: list[tuple[str, str, View]] = [
    (module.SERVICE, kind, view) for module in modules() for kind, view in getattr(module, "VIEWS", {}).items()
]


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=8), int: st.integers(0, 9999), bool: st.booleans(), float: st.floats(0, 9),
        bytes: st.binary(max_size=8), type(None): st.none(), Any: st.integers(0, 9) | st.text(max_size=5),
        datetime: st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    }  # fmt: skip
    if hint in plain:
        return plain[hint]
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), values(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return st.builds(hint, **fields(hint))
    return st.one_of(*map(values, arguments))


def fields(cls: type[msgspec.Struct]) -> dict[str, st.SearchStrategy[Any]]:
    found = {field.name: values(field.type) for field in msgspec.structs.fields(cls)}
    if issubclass(cls, Event) and cls.person:
        found[cls.person] = st.from_regex(PERSON, fullmatch=True)
    return found


def events_of(view: View) -> tuple[type[Event], ...]:
    """The events that a view is folded from, as its fold says."""
    hint = typing.get_type_hints(view.evolve)["event"]
    return typing.get_args(hint) or (hint,)


def sequences(view: View) -> st.SearchStrategy[list[tuple[Event, int]]]:
    """Events of one object with the minutes between them; several may share a moment."""
    event = st.one_of(*(st.builds(cls, **fields(cls)) for cls in events_of(view)))
    return st.lists(st.tuples(event, st.integers(0, 3)), min_size=1, max_size=8)


async def state_at(service: MemoryAuditService, kind: str, id: str, at: datetime, tenant: str = "acme") -> StateAt:
    context = a_context(tenant, role="tenant_admin")
    return decode_result(await service.ask(ReadStateAt(kind=kind, id=id, at=at), context), StateAt)


@pytest.mark.parametrize(("service_name", "kind", "view"), VIEWS, ids=[kind for _, kind, _ in VIEWS])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_state_at_each_moment_is_the_view_as_it_was_folded_live(
    service_name: str, kind: str, view: View, data: st.DataObject
) -> None:
    sequence = data.draw(sequences(view))

    async def check() -> None:
        log, service = a_log(service_name), MemoryAuditService()
        shown: dict[datetime, tuple[int, bytes]] = {BEGIN - timedelta(minutes=1): (0, b"null")}
        live, minute = None, 0
        for event, pause in sequence:
            minute += pause
            try:
                (recorded,) = await happened(log, f"{kind}-1", event, context=a_context(minute=minute))
            except PersonErasedError:
                continue
            live = view.evolve(live, log.codec.decode(recorded), recorded)
            # What readers saw once the last event of this moment was there, and until the next one came.
            for moment in (recorded.time, recorded.time + timedelta(seconds=30)):
                shown[moment] = (recorded.streamversion, msgspec.json.encode(live))
        await service.journal_log(log)
        for moment, (version, state) in shown.items():
            told = await state_at(service, kind, "1", moment)
            assert (told.version, bytes(told.state)) == (version, state)

    asyncio.run(check())


@pytest.fixture
async def service() -> MemoryAuditService:
    """A connection that was asked for at 8:00, worked at 8:05 and was renamed at 8:10."""
    log, service = a_log("connector"), MemoryAuditService()
    for minute, event in (
        (0, ConnectionRequested(connection_id="c", connector="wordpress", label="Blog", settings={}, method="oauth")),
        (5, ConnectionEstablished(connection_id="c", secret_id="s", secret_version=1, fingerprint="f", account="a")),
        (10, ConnectionRenamed(connection_id="c", label="News")),
    ):  # fmt: skip
        await happened(log, "connection-c", event, context=a_context(minute=minute))
    await service.journal_log(log)
    return service


@pytest.mark.parametrize(
    ("minute", "version", "status", "label"),
    [
        (0, 1, "requested", "Blog"),
        (4, 1, "requested", "Blog"),
        (5, 2, "connected", "Blog"),
        (99, 3, "connected", "News"),
    ],
)
async def test_a_connection_is_shown_as_it_was(
    service: MemoryAuditService, minute: int, version: int, status: str, label: str
) -> None:
    told = await state_at(service, "connection", "c", BEGIN + timedelta(minutes=minute))
    state = msgspec.json.decode(told.state, type=Connection)
    assert (told.version, state.status, state.label) == (version, status, label)


async def test_before_it_existed_there_is_nothing(service: MemoryAuditService) -> None:
    told = await state_at(service, "connection", "c", BEGIN - timedelta(microseconds=1))
    assert (told.version, bytes(told.state)) == (0, b"null")


async def test_a_later_version_with_an_earlier_time_was_not_there_yet() -> None:
    """A command that was accepted first may be recorded last."""
    log, service = a_log("connector"), MemoryAuditService()
    requested = ConnectionRequested(connection_id="c", connector="w", label="Blog", settings={}, method="oauth")
    await happened(log, "connection-c", requested, context=a_context(minute=0))
    await happened(log, "connection-c", ConnectionRenamed(connection_id="c", label="B"), context=a_context(minute=9))
    await happened(log, "connection-c", ConnectionRenamed(connection_id="c", label="A"), context=a_context(minute=5))
    await service.journal_log(log)

    assert (await state_at(service, "connection", "c", BEGIN + timedelta(minutes=6))).version == 1
    assert (await state_at(service, "connection", "c", BEGIN + timedelta(minutes=9))).version == 3


def refusal(reply: Reply) -> Problem:
    assert reply.problem is not None
    return reply.problem


@pytest.mark.parametrize("tenant", ["other", "platform"])
async def test_another_tenants_object_does_not_exist(service: MemoryAuditService, tenant: str) -> None:
    context = a_context(tenant, role="super_admin")
    theirs = refusal(await service.ask(ReadStateAt(kind="connection", id="c", at=BEGIN), context))
    nobodys = refusal(await service.ask(ReadStateAt(kind="connection", id="d", at=BEGIN), context))
    assert (theirs.kind, theirs.slug) == ("not-found", "not-found")
    assert theirs.detail.replace(" c.", " d.") == nobodys.detail


async def test_an_unknown_kind_is_refused_with_those_there_are(service: MemoryAuditService) -> None:
    problem = refusal(await service.ask(ReadStateAt(kind="invoice", id="c", at=BEGIN)))
    assert (problem.slug, problem.field) == ("kind-unknown", "kind")
    assert "connection" in problem.remedy


async def test_a_moment_without_time_zone_is_refused(service: MemoryAuditService) -> None:
    problem = refusal(await service.ask(ReadStateAt(kind="connection", id="c", at=BEGIN.replace(tzinfo=None))))
    assert (problem.slug, problem.field) == ("time-invalid", "at")
