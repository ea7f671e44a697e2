"""The handlers on memory adapters."""

import msgspec
import pytest

from bizosaas_events import Command, Context, Reply
from bizosaas_events.messages.workflow import ExpireApproval, FinishWorkflow, StartWorkflow
from workflow_svc.testing import MemoryWorkflowService, a_context, a_request, a_start, a_verdict

SERVICE = a_context("service", "service:workflow-svc")
USER = a_context("tenant_user", "member:tom")
FINISH = FinishWorkflow(workflow_id="w1", outcome="completed", detail="Done.")


@pytest.fixture
def service() -> MemoryWorkflowService:
    return MemoryWorkflowService()


async def asked(service: MemoryWorkflowService) -> None:
    """A workflow that waits for an approval."""
    for command, context in ((a_start(), USER), (a_request(), SERVICE)):
        assert (await service.ask(command, context)).problem is None


def slug(reply: Reply) -> str:
    return reply.problem.slug if reply.problem else ""


async def test_a_tenant_user_starts_a_workflow(service: MemoryWorkflowService) -> None:
    reply = await service.ask(a_start(), USER)
    assert (reply.problem, reply.subject, reply.version) == (None, "workflow-w1", 1)
    (envelope,) = await service.store.load("workflow-w1")
    assert (envelope.actorid, envelope.type) == ("member:tom", "workflow.workflow.started.v1")


async def test_an_unknown_workflow_is_refused_with_the_names_of_those_there_are(service: MemoryWorkflowService) -> None:
    reply = await service.ask(StartWorkflow(workflow_id="w1", name="rm_rf", input={}), USER)
    assert reply.problem is not None
    assert (reply.problem.slug, reply.problem.field) == ("unknown-workflow", "name")
    assert "content_approval" in reply.problem.remedy


async def test_an_input_that_does_not_fit_changes_nothing(service: MemoryWorkflowService) -> None:
    reply = await service.ask(a_start(content_id=17), USER)
    assert reply.problem is not None
    assert (reply.problem.slug, reply.problem.field) == ("input-invalid", "input.content_id")
    assert await service.events("workflow-w1") == []


async def test_another_tenants_workflow_is_unknown(service: MemoryWorkflowService) -> None:
    await asked(service)
    stranger = a_context("tenant_admin", "member:eve", tenant="evil-id")
    theirs = msgspec.structs.replace(SERVICE, tenant="evil-id")
    for command, context in ((a_start(), stranger), (a_verdict(), stranger), (a_request("a2"), theirs)):
        assert slug(await service.ask(command, context)) == "not-found"


@pytest.mark.parametrize("command", [a_request(), ExpireApproval(approval_id="a1"), FINISH])
async def test_what_only_our_services_do_is_closed_to_people(service: MemoryWorkflowService, command: Command) -> None:
    assert slug(await service.ask(command, a_context("super_admin"))) == "permission-missing"


async def test_a_tenant_user_cannot_decide(service: MemoryWorkflowService) -> None:
    await asked(service)
    assert slug(await service.ask(a_verdict(), USER)) == "permission-missing"


async def test_an_approval_for_a_workflow_that_nobody_started_is_refused(service: MemoryWorkflowService) -> None:
    assert slug(await service.ask(a_request(), SERVICE)) == "not-found"


async def test_a_second_decision_is_refused(service: MemoryWorkflowService) -> None:
    await asked(service)
    assert slug(await service.ask(a_verdict())) == ""
    assert slug(await service.ask(a_verdict("rejected"), a_context(actor="member:bob"))) == "already-decided"
    assert len(await service.events("approval-a1")) == 2


async def test_a_decision_that_is_delivered_twice_is_answered_as_the_first_time(service: MemoryWorkflowService) -> None:
    await asked(service)
    id = "0192d4e0-7c41-7bbb-8000-000000000001"
    first = await service.ask(a_verdict(), id=id)
    assert (first.problem, await service.ask(a_verdict(), id=id)) == (None, first)


async def test_who_decided_in_time_decided_however_late_the_command_is_handled(service: MemoryWorkflowService) -> None:
    await service.ask(a_start(), USER)
    in_time: Context = a_context()
    await service.ask(a_request(deadline=in_time.time.replace(year=in_time.time.year + 1)), SERVICE)
    late = msgspec.structs.replace(in_time, time=in_time.time.replace(year=in_time.time.year + 2))
    assert slug(await service.ask(a_verdict(), late)) == "approval-expired"
    assert slug(await service.ask(a_verdict(), in_time)) == ""


async def test_a_workflow_finishes_once(service: MemoryWorkflowService) -> None:
    await service.ask(a_start(), USER)
    for _ in range(2):
        assert slug(await service.ask(FINISH, SERVICE)) == ""
    assert len(await service.events("workflow-w1")) == 2
