"""The activities: each sends one command on the streams and waits for its answer.

A command's id comes from the workflow's id and the step, so an activity that
is tried again repeats its command instead of sending another one. A refusal
ends the step; what is away is waited for. Nothing an external system says is
returned or raised, because Temporal and the log keep everything they are given.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn
from uuid import NAMESPACE_URL, uuid5

import msgspec
from temporalio import activity
from temporalio.exceptions import ApplicationError

from bizosaas_events import Command, Context, Kind, Problem, Reply, UnavailableError, load_state, problem_of
from bizosaas_events.bus import CommandBus
from bizosaas_events.messages.connector import CallOperation, OperationResult
from bizosaas_events.messages.workflow import ExpireApproval, FinishWorkflow, RequestApproval
from bizosaas_events.store import EventStore
from bizosaas_ports.access import Role
from bizosaas_ports.clock import Clock
from bizosaas_ports.workflow import Origin

from ..domain.approval import APPROVAL, State, digest_of
from ..workflows._steps import Approval, ApprovalWanted, Ending

ASK_SECONDS = 60.0
HEARTBEAT_SECONDS = 5.0
OURSELVES = "service:workflow-svc"


class Activities:
    """What workflows do in the world."""

    def __init__(self, bus: CommandBus, store: EventStore, now: Clock) -> None:
        self._bus = bus
        self._store = store
        self._now = now

    @activity.defn
    async def request_approval(self, wanted: ApprovalWanted) -> Approval:
        """Record the request and return it as it stands: it may have been decided before, in an earlier try."""
        command = RequestApproval(
            approval_id=wanted.approval_id, workflow_id=activity.info().workflow_id or "", operation=wanted.operation,
            connection_id=wanted.connection_id, arguments=wanted.arguments, requested_by=wanted.origin.actor,
            deadline=wanted.deadline,
        )  # fmt: skip
        await self._tell(command, wanted.origin, wanted.origin.actor, wanted.approval_id)
        state = await self._approval(wanted.approval_id, wanted.origin)
        return _seen(state, wanted.approval_id, wanted.origin)

    @activity.defn
    async def expire_approval(self, approval: Approval) -> Approval:
        """Close the approval unless somebody was faster, and return it as it stands."""
        await self._tell(
            ExpireApproval(approval_id=approval.approval_id), approval.origin, OURSELVES, approval.approval_id
        )
        state = await self._approval(approval.approval_id, approval.origin)
        return _seen(state, approval.approval_id, approval.origin)

    @activity.defn
    async def call_operation(self, approval: Approval) -> str:
        """Have connector-svc do what was approved, and nothing else, in the name of who approved it.

        What counts is the record of the approval, not what the workflow was told. The approval's id is the
        idempotency key; the try is part of the command's id, because a try that failed has used up its id.
        """
        state = await self._approval(approval.approval_id, approval.origin)
        if state.status != "approved":
            _refuse("not-approved", f"{state.operation} is {state.status}, and was not approved.")
        if not digest_of(state.arguments) == state.decided_digest == approval.arguments_digest:
            _refuse("arguments-changed", f"The arguments of {state.operation} are not those that were approved.")
        decided = (await self._store.load(APPROVAL.stream(approval.approval_id)))[-1]
        command = CallOperation(
            connection_id=state.connection_id, operation=state.operation, arguments=state.arguments,
            idempotency_key=approval.approval_id,
        )  # fmt: skip
        origin = msgspec.structs.replace(approval.origin, causation_id=decided.id)
        reply = await self._tell(
            command, origin, state.decided_by, f"{approval.approval_id}/{activity.info().attempt}", quoted=False
        )
        try:
            return msgspec.json.decode(reply.result, type=OperationResult).call_id
        except msgspec.ValidationError as error:
            # Handled before, and the answer is gone: under a new id the same key finds what came of it.
            raise ApplicationError("connector-svc no longer has the answer; asking again.", type="no-answer") from error

    @activity.defn
    async def finish(self, ending: Ending) -> str:
        """Record how the workflow ended."""
        workflow_id = activity.info().workflow_id or ""
        command = FinishWorkflow(workflow_id=workflow_id, outcome=ending.outcome, detail=ending.detail)
        await self._tell(command, ending.origin, OURSELVES, ending.outcome)
        return ending.outcome

    @property
    def all(self) -> Sequence[Callable[..., Any]]:
        """What a worker has to be given."""
        return (self.request_approval, self.expire_approval, self.call_operation, self.finish)

    async def _approval(self, approval_id: str, origin: Origin) -> State:
        state, _ = await load_state(self._store, APPROVAL, approval_id, origin.tenant)
        return state

    async def _tell(self, command: Command, origin: Origin, actor: str, key: str, *, quoted: bool = True) -> Reply:
        """Send a command under the id of this step and wait for its answer, showing that we are alive.

        Raises the refusal; `quoted` False: without its words, which may be an external system's.
        """
        info = activity.info()
        id = str(uuid5(NAMESPACE_URL, f"bizosaas:activity:{info.workflow_id}/{info.activity_type}/{key}"))
        context = Context(
            tenant=origin.tenant, actor=actor, role=Role.SERVICE, time=self._now(),
            correlation_id=origin.correlation_id, causation_id=origin.causation_id, traceparent=origin.traceparent,
        )  # fmt: skip
        asking = asyncio.ensure_future(self._bus.ask(command, context, id=id, timeout=ASK_SECONDS))
        try:
            while not asking.done():
                activity.heartbeat()
                await asyncio.wait([asking], timeout=HEARTBEAT_SECONDS)
            reply = asking.result()
        except UnavailableError as error:
            _fail(problem_of(error), str(error))
        finally:
            asking.cancel()
        if reply.problem is not None:
            _fail(reply.problem, reply.problem.detail if quoted else _unquoted(command, reply.problem))
        return reply


def _seen(state: State, approval_id: str, origin: Origin) -> Approval:
    if state.status == "none":
        raise ApplicationError("The approval is not recorded yet.", type="not-recorded")
    return Approval(
        approval_id=approval_id, operation=state.operation, arguments_digest=state.arguments_digest,
        status=state.status, origin=origin,
    )  # fmt: skip


def _unquoted(command: Command, problem: Problem) -> str:
    operation = command.operation if isinstance(command, CallOperation) else type(command).__name__
    return f"{operation} was refused ({problem.slug}). {problem.remedy}".strip()


def _fail(problem: Problem, words: str) -> NoReturn:
    """An outage is tried again, after the time it asks for; a refusal is not."""
    away = problem.kind == Kind.UNAVAILABLE
    pause = timedelta(seconds=problem.retry_after) if away and problem.retry_after else None
    raise ApplicationError(words, type=problem.slug, non_retryable=not away, next_retry_delay=pause)


def _refuse(slug: str, detail: str) -> NoReturn:
    raise ApplicationError(detail, type=slug, non_retryable=True)
