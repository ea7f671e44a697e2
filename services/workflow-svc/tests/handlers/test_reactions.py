"""The consumer workflow-starter on memory adapters."""

import pytest

from bizosaas_events import UnavailableError
from bizosaas_events.messages.workflow import FinishWorkflow
from bizosaas_ports.memory import MemoryWorkflows
from bizosaas_ports.workflow import Verdict
from workflow_svc.testing import MemoryWorkflowService, a_context, a_request, a_start, a_verdict

SERVICE = a_context("service", "service:workflow-svc")


async def test_a_wanted_workflow_is_started_for_whom_wanted_it() -> None:
    workflows = MemoryWorkflows()
    service = MemoryWorkflowService(workflows=workflows)
    context = a_context("tenant_user", "member:tom")
    await service.ask(a_start(), context)
    await service.react()
    name, input, origin = workflows.started["w1"]
    assert (name, input["deadline_hours"], origin.actor, origin.tenant) == (
        "content_approval", 72, "member:tom", "acme-id",
    )  # fmt: skip
    assert origin.correlation_id == context.correlation_id


async def test_a_redelivered_start_starts_nothing_twice() -> None:
    workflows = MemoryWorkflows()
    service = MemoryWorkflowService(workflows=workflows)
    await service.ask(a_start())
    for _ in range(3):
        await service.react()
        service.reacted.clear()
    assert workflows.starts == ["w1"]


async def test_a_workflow_that_has_ended_is_not_started_by_a_late_redelivery() -> None:
    service = MemoryWorkflowService()
    await service.ask(a_start())
    await service.react()
    await service.ask(FinishWorkflow(workflow_id="w1", outcome="completed", detail="Done."), SERVICE)
    forgetful = MemoryWorkflows()
    service.workflows = forgetful
    service.reacted.clear()
    await service.react()
    assert forgetful.starts == []


async def test_a_verdict_is_told_to_the_waiting_workflow() -> None:
    workflows = MemoryWorkflows()
    service = MemoryWorkflowService(workflows=workflows)
    await service.ask(a_start())
    await service.react()
    await service.ask(a_request(), SERVICE)
    await service.ask(a_verdict("rejected"))
    await service.react()
    assert workflows.told == {"w1": [Verdict(approval_id="a1", verdict="rejected")]}


async def test_an_engine_that_is_away_delays_a_start_and_loses_nothing() -> None:
    workflows = MemoryWorkflows()
    service = MemoryWorkflowService(workflows=workflows)
    workflows.away = True
    assert (await service.ask(a_start())).problem is None
    with pytest.raises(UnavailableError):
        await service.react()
    workflows.away = False
    await service.react()
    assert workflows.starts == ["w1"]
