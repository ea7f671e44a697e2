"""content_approval: make a draft public, once a tenant's admin has approved it."""

from datetime import timedelta
from typing import Annotated

import msgspec
from temporalio import workflow

from bizosaas_ports.workflow import Origin, Verdict

from ._definition import WorkflowDefinition
from ._steps import Outcome, Steps

NAME = "content_approval"


class ContentApprovalInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    connection_id: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    """Of the CMS that holds the draft."""
    content_id: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    """The CMS's own id of the draft."""
    deadline_hours: Annotated[float, msgspec.Meta(gt=0, le=24 * 365)] = 72
    """How long the approval waits for a verdict; fractions are hours too."""


@workflow.defn(name=NAME)
class ContentApproval:
    @workflow.init
    def __init__(self, input: ContentApprovalInput, origin: Origin) -> None:
        self._steps = Steps(origin)

    @workflow.signal
    def decide(self, verdict: Verdict) -> None:
        self._steps.decided(verdict)

    @workflow.run
    async def run(self, input: ContentApprovalInput, origin: Origin) -> str:
        return await self._steps.conclude(self._publish(input))

    async def _publish(self, input: ContentApprovalInput) -> tuple[Outcome, str]:
        approval = await self._steps.ask_approval(
            "cms.publish",
            connection_id=input.connection_id,
            arguments={"id": input.content_id},
            within=timedelta(hours=input.deadline_hours),
        )
        if approval.status == "rejected":
            return "rejected", f"Publishing {input.content_id} was not approved."
        if approval.status != "approved":
            return "expired", f"Nobody decided in time on publishing {input.content_id}."
        call_id = await self._steps.call(approval)
        return "completed", f"{input.content_id} was published (call {call_id})."


DEFINITION = WorkflowDefinition(name=NAME, input=ContentApprovalInput, run=ContentApproval)
