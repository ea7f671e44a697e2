"""The workflow content_approval on a real Temporal; the streams, the log and connector-svc in memory."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bizosaas_events import Problem, new_id
from bizosaas_events.messages.workflow import ApprovalDecided, ApprovalExpired
from bizosaas_ports.workflow import Verdict
from bizosaas_sandbox.servers.temporal import Temporal
from workflow_svc.testing import SHORTLY, OnTemporal, a_context, a_start, first_approval, on_temporal


@pytest.fixture
async def bench(temporal_server: Temporal) -> AsyncIterator[OnTemporal]:
    async with on_temporal(temporal_server.url, temporal_server.namespace, f"q-{new_id()}") as bench:
        yield bench


@pytest.fixture
def id() -> str:
    return new_id()


async def test_approved_it_publishes_exactly_what_was_approved_in_the_name_of_who_approved(
    bench: OnTemporal, id: str
) -> None:
    story = a_context("tenant_user", "member:tom")
    await bench.service.ask(a_start(id), story)
    asked = await bench.asked(id)
    assert (asked.operation, asked.arguments, asked.requested_by) == ("cms.publish", {"id": "17"}, "member:tom")
    assert bench.connector.done == {}

    assert (await bench.decide(asked, "approved")).problem is None
    finished = await bench.finished(id)

    ((key, (call, envelope)),) = bench.connector.done.items()
    assert (key, call.connection_id, call.operation, call.arguments) == (
        asked.approval_id, "blog", "cms.publish", {"id": "17"},
    )  # fmt: skip
    decided = (await bench.service.store.load(f"approval-{asked.approval_id}"))[-1]
    assert (envelope.actorid, envelope.actorrole, envelope.tenantid, envelope.causationid, envelope.correlationid) == (
        "member:ann", "service", "acme-id", decided.id, story.correlation_id,
    )  # fmt: skip
    assert finished.outcome == "completed"
    assert await bench.client.get_workflow_handle(id).result() == "completed"


async def test_rejected_it_does_nothing(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id))
    await bench.decide(await bench.asked(id), "rejected")
    assert (await bench.finished(id)).outcome == "rejected"
    assert bench.connector.asked == 0


async def test_undecided_it_expires_at_the_deadline_and_does_nothing(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id, deadline_hours=SHORTLY))
    asked = await bench.asked(id)
    assert (await bench.finished(id)).outcome == "expired"
    await bench.seen(ApprovalExpired, f"approval-{asked.approval_id}")
    late = await bench.decide(asked, "approved")
    assert late.problem is not None
    assert late.problem.slug == "approval-expired"
    assert bench.connector.asked == 0


async def test_a_second_decision_is_refused_and_changes_nothing(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id))
    asked = await bench.asked(id)
    await bench.decide(asked, "approved")
    again = await bench.decide(asked, "rejected")
    assert again.problem is not None
    assert again.problem.slug == "already-decided"
    assert (await bench.finished(id)).outcome == "completed"


async def test_a_verdict_whose_news_comes_after_the_deadline_counts(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id, deadline_hours=SHORTLY))
    asked = await bench.asked(id)
    bench.delivers = False
    assert (await bench.decide(asked, "approved")).problem is None
    assert (await bench.finished(id)).outcome == "completed"
    assert len(bench.connector.done) == 1


async def test_a_worker_that_stops_while_a_person_thinks_goes_on_when_it_is_back(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id))
    asked = await bench.asked(id)
    await bench.stop_worker()
    await bench.decide(asked, "approved")
    await asyncio.sleep(0.3)
    assert bench.connector.asked == 0
    await bench.start_worker()
    assert (await bench.finished(id)).outcome == "completed"


async def test_redelivered_events_start_and_do_nothing_twice(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id))
    asked = await bench.asked(id)
    bench.service.reacted.clear()
    await bench.decide(asked, "approved")
    await bench.finished(id)
    bench.service.reacted.clear()
    await asyncio.sleep(0.5)
    assert bench.connector.asked == 1
    assert [type(event).__name__ for event in await bench.service.events(f"workflow-{id}")] == [
        "WorkflowStarted", "WorkflowFinished",
    ]  # fmt: skip
    assert len(await bench.service.events(f"approval-{asked.approval_id}")) == 2


async def test_a_vendor_that_is_down_is_tried_again_under_the_same_key(bench: OnTemporal, id: str) -> None:
    down = Problem(kind="unavailable", slug="provider-down", detail="The site does not answer.", retry_after=0.1)
    bench.connector.problems = [down, down]
    await bench.service.ask(a_start(id))
    await bench.decide(await bench.asked(id), "approved")
    assert (await bench.finished(id)).outcome == "completed"
    assert (bench.connector.asked, list(bench.connector.done)) == (3, [first_approval(id)])


async def test_a_refusal_ends_the_workflow_with_its_reason_and_without_the_vendors_words(
    bench: OnTemporal, id: str
) -> None:
    words, remedy = f"The vendor says: {bench.connector.secret}.", "Check the id."
    bench.connector.problems = [
        Problem(kind="unavailable", slug="provider-down", detail=words, retry_after=0.1),
        Problem(kind="not-found", slug="resource-not-found", detail=words, remedy=remedy),
    ]
    await bench.service.ask(a_start(id))
    await bench.decide(await bench.asked(id), "approved")
    finished = await bench.finished(id)
    assert (finished.outcome, finished.detail) == (
        "failed", "cms.publish was refused (resource-not-found). Check the id.",
    )  # fmt: skip
    assert bench.connector.asked == 2
    handle = bench.client.get_workflow_handle(id)
    await handle.result()
    assert bench.connector.secret not in (await handle.fetch_history()).to_json()


async def test_a_signal_that_no_recorded_decision_stands_behind_does_nothing(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id))
    asked = await bench.asked(id)
    await bench.engine.decide(id, Verdict(approval_id=asked.approval_id, verdict="approved"))
    finished = await bench.finished(id)
    assert (finished.outcome, finished.detail) == ("failed", "cms.publish is pending, and was not approved.")
    assert bench.connector.asked == 0


async def test_a_workflow_cancelled_in_temporal_closes_its_approval_and_says_so(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id))
    asked = await bench.asked(id)
    await bench.client.get_workflow_handle(id).cancel()
    finished = await bench.finished(id)
    assert (finished.outcome, finished.detail) == ("failed", "It was cancelled in the workflow engine.")
    late = await bench.decide(asked, "approved")
    assert late.problem is not None
    assert late.problem.slug == "approval-expired"


async def test_a_workflow_cancelled_before_it_heard_that_its_request_is_recorded_closes_it_too(
    bench: OnTemporal, id: str
) -> None:
    bench.answers.clear()
    await bench.service.ask(a_start(id))
    asked = await bench.asked(id)
    await bench.client.get_workflow_handle(id).cancel()
    await bench.told_to_cancel(id)
    bench.answers.set()
    assert (await bench.finished(id)).detail == "It was cancelled in the workflow engine."
    late = await bench.decide(asked, "approved")
    assert late.problem is not None
    assert late.problem.slug == "approval-expired"


async def test_nothing_an_external_system_answers_is_kept_by_temporal(bench: OnTemporal, id: str) -> None:
    await bench.service.ask(a_start(id))
    asked = await bench.asked(id)
    await bench.decide(asked, "approved")
    await bench.seen(ApprovalDecided, f"approval-{asked.approval_id}")
    await bench.client.get_workflow_handle(id).result()
    assert bench.connector.secret not in (await bench.client.get_workflow_handle(id).fetch_history()).to_json()
