"""What workflow-svc does about its own events: it hands them to the workflow engine.

An engine that is away raises, which holds the event's partition back until it
can be handed over: a start or a verdict is delayed, and never lost.
"""

from collections.abc import Sequence
from typing import Any

from bizosaas_events import Envelope, UnavailableError, load_state
from bizosaas_events.codec import type_of
from bizosaas_events.messages.workflow import ApprovalDecided, WorkflowStarted
from bizosaas_events.store import EventStore
from bizosaas_ports.workflow import Origin, Verdict, WorkflowPort, WorkflowUnavailableError

from ..domain.run import RUN


async def start(event: WorkflowStarted, envelope: Envelope, *, store: EventStore, workflows: WorkflowPort) -> None:
    """Start the workflow under our id, so that a redelivery starts nothing twice.

    One that we know to have ended is left out: the engine forgets ended ones after its retention period.
    """
    state, _ = await load_state(store, RUN, event.workflow_id, envelope.tenantid)
    if not state.running:
        return
    origin = Origin(
        tenant=envelope.tenantid, actor=envelope.actorid, correlation_id=envelope.correlationid,
        causation_id=envelope.id, traceparent=envelope.traceparent,
    )  # fmt: skip
    await workflows.start(event.workflow_id, event.name, event.input, origin)


async def tell(event: ApprovalDecided, *, workflows: WorkflowPort) -> None:
    """Tell the waiting workflow the verdict."""
    verdict = Verdict(approval_id=event.approval_id, verdict=event.verdict)
    await workflows.decide(event.workflow_id, verdict)


class WorkflowStarter:
    """The ordered consumer `workflow-starter`: `apply` takes the events of this service's own log."""

    name = "workflow-starter"

    def __init__(self, store: EventStore, workflows: WorkflowPort) -> None:
        self._store = store
        self._workflows = workflows

    async def apply(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        """The consumer. Raises UnavailableError, and is then called again later."""
        try:
            for envelope in envelopes:
                if envelope.type in _WANTED:
                    await self._hand_over(envelope)
        except WorkflowUnavailableError as error:
            raise UnavailableError(str(error)) from error

    async def _hand_over(self, envelope: Envelope) -> None:
        match self._store.codec.decode(envelope):
            case WorkflowStarted() as event:
                await start(event, envelope, store=self._store, workflows=self._workflows)
            case ApprovalDecided() as event:
                await tell(event, workflows=self._workflows)


_WANTED = {type_of(WorkflowStarted), type_of(ApprovalDecided)}
