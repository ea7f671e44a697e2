"""The steps that workflows are made of: ask a person, call an operation, and come to an end.

This is workflow code: Temporal runs it again from its history, so it reads no
clock but the workflow's, makes no random ids and does no I/O. What a step
does in the world is an activity (`adapters/activities.py`), named and typed here.
"""

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import NAMESPACE_URL, uuid5

import msgspec
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from bizosaas_ports.workflow import Origin, Verdict

RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=1)
)
"""Until it succeeds: what is away comes back. A refusal is raised as not to be retried."""
ONE_TRY = timedelta(seconds=90)
SILENT = timedelta(seconds=20)
"""A step whose worker has been silent for so long is tried by another."""
CALL_WITHIN = timedelta(hours=24)
"""How long an operation is tried while the vendor is away."""

T = TypeVar("T")

Status = Literal["pending", "approved", "rejected", "expired"]
Outcome = Literal["completed", "rejected", "expired", "failed"]


class ApprovalWanted(msgspec.Struct, frozen=True, kw_only=True):
    """Input of the activity `request_approval`."""

    approval_id: str
    operation: str
    connection_id: str
    arguments: dict[str, Any]
    deadline: datetime
    origin: Origin


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """An approval as it stands; input of the activities `expire_approval` and `call_operation`."""

    approval_id: str
    operation: str
    arguments_digest: str
    status: Status
    origin: Origin


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a workflow ends; input of the activity `finish`."""

    outcome: Outcome
    detail: str
    """One plain sentence."""
    origin: Origin


class Steps:
    """The steps of one running workflow, each done on behalf of whom it was started by."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._asked = 0
        self._verdicts: dict[str, Status] = {}
        self._open: list[Approval] = []

    def decided(self, verdict: Verdict) -> None:
        """What the signal `decide` says; it may come more than once, and only the first counts."""
        self._verdicts.setdefault(verdict.approval_id, verdict.verdict)

    async def ask_approval(
        self, operation: str, *, connection_id: str, arguments: dict[str, Any], within: timedelta
    ) -> Approval:
        """Ask for a person's verdict on one call, and wait for it until the deadline.

        Returns the approval with the status approved, rejected or expired.
        """
        self._asked += 1
        workflow_id = workflow.info().workflow_id
        deadline = workflow.now() + within
        wanted = ApprovalWanted(
            approval_id=approval_id(workflow_id, self._asked),
            operation=operation, connection_id=connection_id, arguments=arguments, deadline=deadline,
            origin=self._origin,
        )  # fmt: skip
        asking = asyncio.create_task(self._do("request_approval", wanted, Approval))
        try:
            approval = await asyncio.shield(asking)
        except asyncio.CancelledError:
            # It may be recorded with its answer still on the way: nobody would ever close what is not known to be open.
            self._open.append(await asking)
            raise
        if approval.status != "pending":
            return approval
        self._open.append(approval)
        try:
            await workflow.wait_condition(
                lambda: approval.approval_id in self._verdicts, timeout=max(deadline - workflow.now(), timedelta())
            )
            status = self._verdicts[approval.approval_id]
        except TimeoutError:
            # A verdict may have been recorded in time and its signal still be on the way: what is recorded counts.
            status = (await self._do("expire_approval", approval, Approval)).status
        self._open.remove(approval)
        return msgspec.structs.replace(approval, status=status)

    async def call(self, approval: Approval) -> str:
        """Do the approved operation, with exactly the approved arguments, in the name of who approved; its call's id.

        What the operation answers stays out of the workflow: Temporal keeps everything it is given.
        """
        return await self._do("call_operation", approval, str, within=CALL_WITHIN)

    async def conclude(self, work: Awaitable[tuple[Outcome, str]]) -> str:
        """Do the work of the workflow and record how it ended, also when a step was refused or it was cancelled."""
        try:
            outcome, detail = await work
        except (ActivityError, asyncio.CancelledError) as error:
            detail = "It was cancelled in the workflow engine." if is_cancelled_exception(error) else reason_of(error)
            outcome = "failed"
            for approval in self._open:
                await self._do("expire_approval", approval, Approval)
        ending = Ending(outcome=outcome, detail=detail, origin=self._origin)
        await self._do("finish", ending, str)
        return outcome

    async def _do(self, activity: str, input: msgspec.Struct, returns: type[T], within: timedelta | None = None) -> T:
        result: T = await workflow.execute_activity(
            activity, input, result_type=returns, start_to_close_timeout=ONE_TRY, schedule_to_close_timeout=within,
            heartbeat_timeout=SILENT, retry_policy=RETRIES,
        )  # fmt: skip
        return result


def approval_id(workflow_id: str, n: int) -> str:
    """The id of the nth approval that a workflow asks for: the same in every replay and every reset."""
    return str(uuid5(NAMESPACE_URL, f"bizosaas:approval:{workflow_id}/{n}"))


def reason_of(error: BaseException) -> str:
    """The sentence at the bottom of a failed step."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ApplicationError):
        cause = cause.__cause__
    return cause.message if cause is not None else str(error)
