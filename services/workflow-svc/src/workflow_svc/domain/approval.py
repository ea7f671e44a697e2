"""A person's verdict on one call with exactly these arguments, asked for by a workflow."""

import hashlib
from datetime import datetime
from typing import Any, ClassVar, Literal, assert_never

import msgspec

from bizosaas_events import Command, Decider, StreamNotFoundError
from bizosaas_events.messages.workflow import (
    SERVICE,
    ApprovalDecided,
    ApprovalEvent,
    ApprovalExpired,
    ApprovalRequested,
    DecideApproval,
    ExpireApproval,
    RequestApproval,
)

from .errors import AlreadyDecidedError, ApprovalExpiredError, ApprovalIdTakenError, ArgumentsChangedError


class Decide(Command, frozen=True, kw_only=True, tag="workflow.internal.decide"):
    """DecideApproval with what its envelope says: who decides, and when they did."""

    service: ClassVar[str] = SERVICE

    request: DecideApproval
    by: str
    at: datetime


ApprovalCommand = RequestApproval | Decide | ExpireApproval
Status = Literal["none", "pending", "approved", "rejected", "expired"]


class State(msgspec.Struct, frozen=True, kw_only=True):
    status: Status = "none"
    workflow_id: str = ""
    operation: str = ""
    connection_id: str = ""
    arguments: dict[str, Any] = {}
    arguments_digest: str = ""
    deadline: datetime | None = None
    decided_digest: str = ""
    """Of the arguments that the person saw."""
    decided_by: str = ""
    decided_at: datetime | None = None


def digest_of(arguments: dict[str, Any]) -> str:
    """SHA-256, in hex, of the arguments as canonical JSON: keys sorted at every depth, no spaces, UTF-8."""
    return hashlib.sha256(msgspec.json.encode(arguments, order="sorted")).hexdigest()


def decide(command: ApprovalCommand, state: State) -> list[ApprovalEvent]:
    match command:
        case RequestApproval():
            return _request(command, state)
        case Decide():
            return _decide(command, state)
        case ExpireApproval():
            if state.status == "none":
                raise StreamNotFoundError(APPROVAL.stream(command.approval_id))
            # Somebody was faster than the deadline: their verdict stands, and the workflow reads it.
            if state.status != "pending":
                return []
            return [
                ApprovalExpired(
                    approval_id=command.approval_id, workflow_id=state.workflow_id, operation=state.operation
                )
            ]
        case _:
            assert_never(command)


def _request(command: RequestApproval, state: State) -> list[ApprovalEvent]:
    digest = digest_of(command.arguments)
    wanted = (command.workflow_id, command.operation, command.connection_id, digest)
    if state.status != "none":
        if wanted != (state.workflow_id, state.operation, state.connection_id, state.arguments_digest):
            raise ApprovalIdTakenError(command.approval_id)
        return []
    return [
        ApprovalRequested(
            approval_id=command.approval_id, workflow_id=command.workflow_id, operation=command.operation,
            connection_id=command.connection_id, arguments=command.arguments, arguments_digest=digest,
            requested_by=command.requested_by, deadline=command.deadline,
        )
    ]  # fmt: skip


def _decide(command: Decide, state: State) -> list[ApprovalEvent]:
    request = command.request
    if state.status == "none" or state.deadline is None:
        raise StreamNotFoundError(APPROVAL.stream(request.approval_id))
    if state.decided_at is not None:
        raise AlreadyDecidedError(state.status, state.decided_by, state.decided_at)
    if state.status == "expired" or command.at >= state.deadline:
        raise ApprovalExpiredError(state.deadline)
    if request.arguments_digest != state.arguments_digest:
        raise ArgumentsChangedError
    return [
        ApprovalDecided(
            approval_id=request.approval_id, workflow_id=state.workflow_id, operation=state.operation,
            verdict=request.verdict, comment=request.comment, arguments_digest=request.arguments_digest,
            decided_by=command.by, decided_at=command.at,
        )
    ]  # fmt: skip


def evolve(state: State, event: ApprovalEvent) -> State:
    match event:
        case ApprovalRequested():
            return State(
                status="pending", workflow_id=event.workflow_id, operation=event.operation,
                connection_id=event.connection_id, arguments=event.arguments,
                arguments_digest=event.arguments_digest, deadline=event.deadline,
            )  # fmt: skip
        case ApprovalDecided():
            return msgspec.structs.replace(
                state, status=event.verdict, decided_digest=event.arguments_digest, decided_by=event.decided_by,
                decided_at=event.decided_at,
            )  # fmt: skip
        case ApprovalExpired():
            return msgspec.structs.replace(state, status="expired")
        case _:
            assert_never(event)


APPROVAL: Decider[ApprovalCommand, State, ApprovalEvent] = Decider(
    category="approval", initial=State, decide=decide, evolve=evolve
)
