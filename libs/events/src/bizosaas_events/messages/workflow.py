"""workflow-svc: long or human work on Temporal, and the approvals it waits for."""

from datetime import datetime
from typing import Any, ClassVar, Literal, assert_never

import msgspec

from ..envelope import Command, Envelope, Event
from ..projection import View

SERVICE = "workflow"


class WorkflowCommand(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = "service"


class StartWorkflow(WorkflowCommand, frozen=True, kw_only=True, tag="workflow.start.v1"):
    """Start the workflow `name` with its input; a second time with the same id starts nothing."""

    permission: ClassVar[str | None] = "view_agents"

    workflow_id: str
    name: str
    input: dict[str, Any]


class DecideApproval(WorkflowCommand, frozen=True, kw_only=True, tag="workflow.decide-approval.v1"):
    """A person's verdict on the exact arguments shown; refused with `already-decided` the second time."""

    permission: ClassVar[str | None] = "manage_integrations"

    approval_id: str
    verdict: Literal["approved", "rejected"]
    arguments_digest: str
    """Of the arguments that the person saw: refused with `arguments-changed` when it is another."""
    comment: str = ""


class RequestApproval(WorkflowCommand, frozen=True, kw_only=True, tag="workflow.request-approval.v1"):
    """Ask for a person's verdict on one call, by `deadline`."""

    approval_id: str
    workflow_id: str
    operation: str
    connection_id: str
    arguments: dict[str, Any]
    requested_by: str
    deadline: datetime


class ExpireApproval(WorkflowCommand, frozen=True, kw_only=True, tag="workflow.expire-approval.v1"):
    """Nobody decided by the deadline."""

    approval_id: str


class FinishWorkflow(WorkflowCommand, frozen=True, kw_only=True, tag="workflow.finish.v1"):
    """How a workflow ended."""

    workflow_id: str
    outcome: Literal["completed", "rejected", "expired", "failed"]
    detail: str


class WorkflowStarted(Event, frozen=True, kw_only=True, tag="workflow.workflow.started.v1"):
    says: ClassVar[str] = "{actor} started the workflow {name}"

    workflow_id: str
    name: str
    input: dict[str, Any]


class WorkflowFinished(Event, frozen=True, kw_only=True, tag="workflow.workflow.finished.v1"):
    says: ClassVar[str] = "the workflow ended as {outcome}: {detail}"

    workflow_id: str
    outcome: Literal["completed", "rejected", "expired", "failed"]
    detail: str


class ApprovalRequested(Event, frozen=True, kw_only=True, tag="workflow.approval.requested.v1"):
    says: ClassVar[str] = "{requested_by} asked for approval of {operation} with {arguments}"

    approval_id: str
    workflow_id: str
    operation: str
    connection_id: str
    arguments: dict[str, Any]
    arguments_digest: str
    requested_by: str
    deadline: datetime


class ApprovalDecided(Event, frozen=True, kw_only=True, tag="workflow.approval.decided.v1"):
    says: ClassVar[str] = "{actor} {verdict} {operation}"

    approval_id: str
    workflow_id: str
    operation: str
    verdict: Literal["approved", "rejected"]
    comment: str = ""
    arguments_digest: str = ""
    """Of the arguments that the person saw: only a call with these may follow."""
    decided_by: str = ""
    decided_at: datetime | None = None


class ApprovalExpired(Event, frozen=True, kw_only=True, tag="workflow.approval.expired.v1"):
    says: ClassVar[str] = "nobody decided on {operation} in time"

    approval_id: str
    workflow_id: str
    operation: str


WorkflowEvent = WorkflowStarted | WorkflowFinished
ApprovalEvent = ApprovalRequested | ApprovalDecided | ApprovalExpired


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    name: str
    input: dict[str, Any]
    started_by: str
    started_at: datetime
    status: Literal["running", "completed", "rejected", "expired", "failed"]
    finished_at: datetime | None = None
    detail: str = ""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    workflow_id: str
    operation: str
    connection_id: str
    arguments: dict[str, Any]
    arguments_digest: str
    requested_by: str
    requested_at: datetime
    deadline: datetime
    status: Literal["pending", "approved", "rejected", "expired"]
    decided_by: str = ""
    decided_at: datetime | None = None
    comment: str = ""


def evolve_workflow(view: Workflow | None, event: WorkflowEvent, envelope: Envelope) -> Workflow | None:
    match event:
        case WorkflowStarted():
            return Workflow(
                id=event.workflow_id, tenant_id=envelope.tenantid, name=event.name, input=event.input,
                started_by=envelope.actorid, started_at=envelope.time, status="running",
            )  # fmt: skip
        case WorkflowFinished():
            return view and msgspec.structs.replace(
                view, status=event.outcome, finished_at=envelope.time, detail=event.detail
            )
        case _:
            assert_never(event)


def evolve_approval(view: Approval | None, event: ApprovalEvent, envelope: Envelope) -> Approval | None:
    match event:
        case ApprovalRequested():
            return Approval(
                id=event.approval_id, tenant_id=envelope.tenantid, workflow_id=event.workflow_id,
                operation=event.operation, connection_id=event.connection_id, arguments=event.arguments,
                arguments_digest=event.arguments_digest, requested_by=event.requested_by,
                requested_at=envelope.time, deadline=event.deadline, status="pending",
            )  # fmt: skip
        case ApprovalDecided():
            return view and msgspec.structs.replace(
                view, status=event.verdict, decided_by=envelope.actorid, decided_at=envelope.time,
                comment=event.comment,
            )  # fmt: skip
        case ApprovalExpired():
            return view and msgspec.structs.replace(view, status="expired", decided_at=envelope.time)
        case _:
            assert_never(event)


VIEWS = {"workflow": View(Workflow, evolve_workflow), "approval": View(Approval, evolve_approval)}
