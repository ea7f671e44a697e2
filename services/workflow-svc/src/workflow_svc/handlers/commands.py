"""The commands of workflow-svc."""

from bizosaas_events import Envelope, StreamNotFoundError, execute, load_state
from bizosaas_events.bus import Answer
from bizosaas_events.messages.workflow import (
    DecideApproval,
    ExpireApproval,
    FinishWorkflow,
    RequestApproval,
    StartWorkflow,
)
from bizosaas_events.store import EventStore

from ..domain.approval import APPROVAL, ApprovalCommand, Decide
from ..domain.errors import UnknownWorkflowError
from ..domain.ports import Catalogue
from ..domain.run import RUN, RunCommand, fitted


async def start_workflow(
    command: StartWorkflow, envelope: Envelope, *, store: EventStore, catalogue: Catalogue
) -> Answer:
    """Record that a workflow is wanted. It is started by the reaction to that, so Temporal may be away now."""
    input = catalogue.get(command.name)
    if input is None:
        raise UnknownWorkflowError(command.name, catalogue)
    return await _run(store, command.workflow_id, fitted(command, input), envelope)


async def finish_workflow(command: FinishWorkflow, envelope: Envelope, *, store: EventStore) -> Answer:
    """Record how a workflow ended; the first outcome stands."""
    return await _run(store, command.workflow_id, command, envelope)


async def request_approval(command: RequestApproval, envelope: Envelope, *, store: EventStore) -> Answer:
    """Ask people for a verdict, on behalf of one of the tenant's workflows."""
    _, version = await load_state(store, RUN, command.workflow_id, envelope.tenantid)
    if version == 0:
        raise StreamNotFoundError(RUN.stream(command.workflow_id))
    return await _approval(store, command.approval_id, command, envelope)


async def decide_approval(command: DecideApproval, envelope: Envelope, *, store: EventStore) -> Answer:
    """Record a person's verdict; in time is who decided in time, however long the command then waited."""
    decide = Decide(request=command, by=envelope.actorid, at=envelope.time)
    return await _approval(store, command.approval_id, decide, envelope)


async def expire_approval(command: ExpireApproval, envelope: Envelope, *, store: EventStore) -> Answer:
    """Close an approval that nobody decided on; a verdict that was faster stands."""
    return await _approval(store, command.approval_id, command, envelope)


async def _run(store: EventStore, id: str, command: RunCommand, envelope: Envelope) -> Answer:
    handled = await execute(store, RUN, id, command, envelope.context(), command_id=envelope.id)
    return Answer(handled.recorded[-1] if handled.recorded else None)


async def _approval(store: EventStore, id: str, command: ApprovalCommand, envelope: Envelope) -> Answer:
    handled = await execute(store, APPROVAL, id, command, envelope.context(), command_id=envelope.id)
    return Answer(handled.recorded[-1] if handled.recorded else None)


HANDLERS = (start_workflow, finish_workflow, request_approval, decide_approval, expire_approval)
