"""Calls, on memory adapters: their effect once, whatever breaks."""

import asyncio
from typing import Any

import msgspec
import pytest

from bizosaas_events import new_id
from bizosaas_events.messages.connector import (
    CallFailed,
    CallStarted,
    CallSucceeded,
    CallUncertain,
    ConnectionInterrupted,
    ConnectionRecovered,
    OperationResult,
)
from bizosaas_ports.connector import (
    MaybeAppliedError,
    ProviderDownError,
    RateLimitedError,
    RequestRefusedError,
    ScopeMissingError,
)
from connector_svc.testing import CONNECTION, MemoryConnectorService, a_call, a_context

STREAM = f"connection-{CONNECTION}"


@pytest.fixture
async def service() -> MemoryConnectorService:
    service = MemoryConnectorService()
    await service.connected()
    return service


async def events_of(service: MemoryConnectorService, call_id: str) -> list[type]:
    return [type(e) for e in await service.events(f"call-{call_id}")]


async def all_calls(service: MemoryConnectorService) -> list[type]:
    found = []
    for partition in range(service.store.partitions):
        events = [service.store.codec.decode(e) for e in await service.store.read(partition, 0, 1000)]
        found += [type(e) for e in events if isinstance(e, CallStarted | CallSucceeded | CallFailed | CallUncertain)]
    return found


async def started_and_died(service: MemoryConnectorService, operation: str = "cms.create_draft") -> None:
    """A call was written down, and the process died before the vendor answered."""
    service.vendor.failing.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await service.ask(a_call(operation, {"id": "1"} if operation == "cms.unpublish" else None))
    service.restart()


async def test_a_call_answers_data_and_records_facts_about_it_only(service: MemoryConnectorService) -> None:
    result = await service.get(a_call(), OperationResult)

    assert msgspec.json.decode(result.data)["title"] == "Hello"
    started, succeeded = await service.events(f"call-{result.call_id}")
    assert isinstance(started, CallStarted)
    assert isinstance(succeeded, CallSucceeded)
    assert (started.effect, started.fingerprint) == ("write", (await service.events(STREAM))[-1].fingerprint)  # type: ignore[attr-defined]  # the established event
    assert (succeeded.resource_type, succeeded.resource_id, succeeded.count) == ("post", "1", 1)
    assert all(b"secret words" not in e.data for e in await service.store.load(f"call-{result.call_id}"))


async def test_a_read_is_a_call_of_its_own_each_time(service: MemoryConnectorService) -> None:
    id = new_id()

    first = await service.get(a_call("cms.list_content", {}, ""), OperationResult, id=id)
    again = await service.get(a_call("cms.list_content", {}, ""), OperationResult, id=id)
    other = await service.get(a_call("cms.list_content", {}, ""), OperationResult)

    assert first.call_id == again.call_id == id != other.call_id
    assert again.data == first.data
    assert await events_of(service, id) == [CallStarted, CallSucceeded]


async def test_the_same_key_has_its_effect_once_and_shows_what_there_is(service: MemoryConnectorService) -> None:
    first = await service.get(a_call(), OperationResult)
    second = await service.get(a_call(), OperationResult)

    assert (first.repeated, second.repeated) == (False, True)
    assert (second.call_id, second.data) == (first.call_id, first.data)
    assert service.vendor.calls == ["cms.create_draft"]
    assert await events_of(service, first.call_id) == [CallStarted, CallSucceeded]


async def test_what_was_made_and_deleted_since_is_not_made_again(service: MemoryConnectorService) -> None:
    await service.ask(a_call())
    service.vendor.drafts.clear()

    again = await service.get(a_call(), OperationResult)

    assert (again.data, again.repeated) == (msgspec.Raw(b"null"), True)
    assert service.vendor.drafts == {}


async def test_a_key_used_for_something_else_is_refused(service: MemoryConnectorService) -> None:
    await service.ask(a_call())

    problem = await service.refusal(a_call(arguments={"title": "Other", "body": "x"}))

    assert (problem.slug, problem.field) == ("idempotency-key-reused", "idempotency_key")
    assert len(service.vendor.drafts) == 1


async def test_two_tenants_may_use_the_same_key(service: MemoryConnectorService) -> None:
    from connector_svc.testing import a_connect

    other, id = a_context("other-id"), new_id()
    await service.ask(a_connect(id), other)

    one = await service.get(a_call(), OperationResult)
    two = await service.get(a_call(id=id), OperationResult, other)

    assert one.call_id != two.call_id


async def test_the_same_request_twice_at_once_has_its_effect_once(service: MemoryConnectorService) -> None:
    service.vendor.slow = 0.02

    replies = await asyncio.gather(*(service.ask(a_call()) for _ in range(4)))

    assert [reply.problem for reply in replies] == [None] * 4
    assert len(service.vendor.drafts) == 1
    assert service.vendor.calls == ["cms.create_draft"]


async def test_a_call_that_another_process_is_making_is_not_made_beside_it() -> None:
    service = MemoryConnectorService(patience=0.01)
    await service.connected()
    result = await service.get(a_call(), OperationResult)
    service.leases.held.add(f"call:{result.call_id}")

    problem = await service.refusal(a_call())

    assert (problem.slug, problem.kind) == ("call-in-progress", "unavailable")


async def test_after_a_crash_before_the_effect_the_call_is_made(service: MemoryConnectorService) -> None:
    await started_and_died(service)

    result = await service.get(a_call(), OperationResult)

    assert len(service.vendor.drafts) == 1
    assert await events_of(service, result.call_id) == [CallStarted, CallSucceeded]


async def test_after_a_crash_behind_the_effect_it_is_found_and_not_made_again(service: MemoryConnectorService) -> None:
    service.vendor.applies = True
    service.vendor.failing.append(MaybeAppliedError("Cut."))
    service.vendor.finding_fails.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await service.ask(a_call())
    service.restart()

    result = await service.get(a_call(), OperationResult)

    assert (result.repeated, len(service.vendor.drafts)) == (True, 1)
    assert service.vendor.calls == ["cms.create_draft"]
    succeeded = (await service.events(f"call-{result.call_id}"))[-1]
    assert isinstance(succeeded, CallSucceeded)
    assert succeeded.repeated


async def test_after_a_crash_where_nobody_can_find_out_the_call_is_uncertain_and_never_tried_again(
    service: MemoryConnectorService,
) -> None:
    await started_and_died(service, "cms.unpublish")
    id, asked = new_id(), a_call("cms.unpublish", {"id": "1"})

    problem = await service.refusal(asked, id=id)
    again = await service.refusal(asked, id=id)
    later = await service.refusal(asked)

    assert problem.slug == again.slug == later.slug == "call-uncertain"
    assert service.vendor.calls == ["cms.unpublish"]
    assert await all_calls(service) == [CallStarted, CallUncertain]


async def test_a_broken_call_that_was_applied_is_a_success(service: MemoryConnectorService) -> None:
    service.vendor.applies = True
    service.vendor.failing.append(MaybeAppliedError("Paper was asked, and then the connection broke."))

    result = await service.get(a_call(), OperationResult)

    assert (result.repeated, len(service.vendor.drafts)) == (False, 1)


async def test_a_broken_call_that_was_not_applied_failed_and_may_be_tried_again(
    service: MemoryConnectorService,
) -> None:
    service.vendor.failing.append(MaybeAppliedError("Paper was asked, and then the connection broke."))

    problem = await service.refusal(a_call())
    result = await service.get(a_call(), OperationResult)

    assert (problem.slug, problem.kind) == ("provider-down", "unavailable")
    assert problem.retry_after
    assert not result.repeated
    assert await events_of(service, result.call_id) == [CallStarted, CallFailed, CallStarted, CallSucceeded]


async def test_a_broken_call_that_cannot_be_looked_up_now_stays_open_for_the_next_try(
    service: MemoryConnectorService,
) -> None:
    service.vendor.applies = True
    service.vendor.failing.append(MaybeAppliedError("Cut."))
    service.vendor.finding_fails.append(ProviderDownError("Paper is away."))

    problem = await service.refusal(a_call())
    result = await service.get(a_call(), OperationResult)

    assert problem.slug == "provider-down"
    assert (result.repeated, len(service.vendor.drafts)) == (True, 1)


async def test_a_broken_call_without_a_way_to_look_is_uncertain(service: MemoryConnectorService) -> None:
    service.vendor.failing.append(MaybeAppliedError("Cut."))

    assert (await service.refusal(a_call("cms.unpublish", {"id": "1"}))).slug == "call-uncertain"
    assert await all_calls(service) == [CallStarted, CallUncertain]


@pytest.mark.parametrize(
    ("error", "slug", "kind"),
    [
        (RequestRefusedError("Paper answered 400.", status=400), "vendor-refused", "invalid"),
        (ScopeMissingError("Paper answered 403.", status=403), "scope-missing", "forbidden"),
        (ProviderDownError("Paper answered 503.", status=503), "provider-down", "unavailable"),
        (RateLimitedError("Paper asks to wait.", status=429, retry_after=7), "rate-limited", "unavailable"),
    ],
)
async def test_a_vendors_failure_is_recorded_told_by_kind_and_told_again(
    service: MemoryConnectorService, error: Exception, slug: str, kind: str
) -> None:
    service.vendor.failing.append(error)
    id = new_id()

    problem = await service.refusal(a_call(), id=id)
    again = await service.refusal(a_call(), id=id)

    assert (problem.slug, problem.kind) == (slug, kind)
    assert again.slug == slug
    assert service.vendor.calls == ["cms.create_draft"]
    assert await all_calls(service) == [CallStarted, CallFailed]


async def test_the_vendors_own_words_reach_the_caller_and_no_event(service: MemoryConnectorService) -> None:
    service.vendor.failing.append(RequestRefusedError("Paper answered 400.", vendor_says="Ann's title is too long."))

    problem = await service.refusal(a_call())

    assert "Ann's title" in problem.detail
    stored = [e.data for p in range(64) for e in await service.store.read(p, 0, 100)]
    assert all(b"Ann's title" not in data for data in stored)


async def test_an_outage_interrupts_without_asking_to_reconnect_and_the_next_success_recovers(
    service: MemoryConnectorService,
) -> None:
    service.vendor.failing.append(ProviderDownError("Paper answered 503."))
    await service.refusal(a_call("cms.list_content", {}))
    await service.ask(a_call("cms.list_content", {}))

    interrupted, recovered = (await service.events(STREAM))[-2:]

    assert isinstance(interrupted, ConnectionInterrupted)
    assert (interrupted.reason, interrupted.reconnect) == ("provider-down", False)
    assert isinstance(recovered, ConnectionRecovered)


async def test_a_rate_limit_is_kept_by_all_without_asking_the_vendor(service: MemoryConnectorService) -> None:
    service.vendor.failing.append(RateLimitedError("Paper asks to wait.", retry_after=60))
    await service.refusal(a_call("cms.list_content", {}))
    service.restart()

    problem = await service.refusal(a_call("cms.list_content", {}))

    assert problem.slug == "rate-limited"
    assert 50 < (problem.retry_after or 0) <= 60
    assert service.vendor.calls == ["cms.list_content"]
    assert not any(isinstance(e, ConnectionInterrupted) for e in await service.events(STREAM))


async def test_a_short_rate_limit_is_waited_out(service: MemoryConnectorService) -> None:
    await service.budget.pause(CONNECTION, 0.05)

    assert (await service.ask(a_call("cms.list_content", {}))).problem is None


async def test_a_connection_has_so_many_calls_in_flight_and_another_one_is_not_slowed() -> None:
    from connector_svc.testing import a_connect

    service, other = MemoryConnectorService(connection_calls=2), new_id()
    await service.connected()
    await service.ask(a_connect(other))
    service.vendor.slow = 0.05

    asked = [service.ask(a_call("cms.list_content", {})) for _ in range(4)]
    asked.append(service.ask(a_call("cms.list_content", {}, id=other)))
    problems = [reply.problem for reply in await asyncio.gather(*asked)]

    busy = [problem for problem in problems if problem]
    assert [problem.slug for problem in busy] == ["connection-busy"] * 2
    assert all(problem.kind == "unavailable" and problem.retry_after for problem in busy)
    assert problems[-1] is None
    assert (await service.ask(a_call("cms.list_content", {}))).problem is None


async def test_a_vendor_that_is_down_is_asked_by_one_call_at_a_time(service: MemoryConnectorService) -> None:
    service.vendor.failing.append(ProviderDownError("Paper answered 503."))
    await service.refusal(a_call("cms.list_content", {}))
    service.vendor.slow = 0.05

    replies = await asyncio.gather(*(service.ask(a_call("cms.list_content", {})) for _ in range(3)))

    assert sorted(reply.problem.slug if reply.problem else "" for reply in replies) == ["", *["connection-busy"] * 2]


@pytest.mark.parametrize(
    ("operation", "arguments", "key", "slug", "field"),
    [
        ("cms.explode", {}, "k", "unknown-operation", "operation"),
        ("identity.get_profile", {}, "k", "unknown-operation", "operation"),
        ("cms.create_draft", {"body": "x"}, "k", "arguments-invalid", "arguments.title"),
        ("cms.create_draft", {"title": 7, "body": "x"}, "k", "arguments-invalid", "arguments.title"),
        ("cms.create_draft", {"title": "", "body": "x"}, "k", "arguments-invalid", "arguments.title"),
        ("cms.create_draft", {"title": "t", "body": "x", "why": 1}, "k", "arguments-invalid", "arguments.why"),
        ("cms.list_content", {"limit": 101}, "", "arguments-invalid", "arguments.limit"),
        ("cms.list_content", {"status": "lost"}, "", "arguments-invalid", "arguments.status"),
        ("cms.create_draft", {"title": "t", "body": "x"}, "", "idempotency-key-missing", "idempotency_key"),
        ("cms.create_draft", {"title": "t", "body": "x"}, "k" * 201, "idempotency-key-missing", "idempotency_key"),
    ],
)
async def test_what_cannot_be_called_is_refused_by_field_and_changes_nothing(
    service: MemoryConnectorService, operation: str, arguments: dict[str, Any], key: str, slug: str, field: str
) -> None:
    problem = await service.refusal(a_call(operation, arguments, key))

    assert (problem.slug, problem.kind, problem.field) == (slug, "invalid", field)
    assert problem.remedy
    assert service.vendor.calls == []
    assert await all_calls(service) == []


async def test_an_effect_waits_for_secret_svc_and_a_read_does_not(service: MemoryConnectorService) -> None:
    service.restart()  # nothing leased is in memory any more
    service.secret_svc.away = True

    problem = await service.refusal(a_call("cms.list_content", {}))
    with pytest.raises(TimeoutError):
        await service.ask(a_call())

    assert (problem.kind, problem.slug, problem.retry_after) == ("unavailable", "unavailable", 5)
    assert "vendor" not in problem.detail
    assert await all_calls(service) == []


async def test_a_leased_credential_is_used_again_for_a_minute(service: MemoryConnectorService) -> None:
    before = len(service.secret_svc.lent)

    for _ in range(5):
        await service.ask(a_call("cms.list_content", {}))

    assert len(service.secret_svc.lent) == before


async def test_a_credential_shows_in_no_repr(service: MemoryConnectorService) -> None:
    from connector_svc.adapters.secrets import SecretService
    from connector_svc.testing import PASSWORD, SECRET_KEY

    secrets = SecretService(service.bus, public_key=SECRET_KEY.public)
    credential = await secrets.store_value(a_context(), new_id(), "password", PASSWORD.encode(), "a test", id=new_id())

    assert PASSWORD not in f"{credential!r} {credential} {secrets!r} {vars(secrets)!r}"
