"""What waits for a person's verdict."""

from typing import Annotated, Literal

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events.messages.workflow import DecideApproval
from bizosaas_ports.access import Feature

from ..answers import Answer
from ..auth import needs
from ..body import Body
from ..call import ApiRequest
from ..reading import one, page
from ..writing import Written, write


class Decision(Body, frozen=True, kw_only=True):
    verdict: Literal["approved", "rejected"]
    arguments_digest: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """Of the arguments that the person saw, as the approval shows it."""
    comment: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class Approvals(Controller):
    path = "/v1/approvals"
    tags = ("Workflows",)

    @get("/", opt=needs(Feature.VIEW_DASHBOARD, page="approval"))
    async def list_approvals(self, request: ApiRequest) -> Answer:
        """What waits, or waited, for a verdict."""
        return await page(request, "approval")

    @get("/{approval_id:str}", opt=needs(Feature.VIEW_DASHBOARD, one="approval"))
    async def show_approval(self, request: ApiRequest, approval_id: FromPath[str]) -> Answer:
        """One approval with its exact arguments."""
        return await one(request, "approval", approval_id)

    @post("/{approval_id:str}/decision", opt=needs(DecideApproval, writes=True))
    async def decide_approval(
        self, request: ApiRequest, approval_id: FromPath[str], data: JSONBody[Decision]
    ) -> Answer:
        """Approve or reject exactly what was shown."""
        command = DecideApproval(
            approval_id=approval_id, verdict=data.verdict, arguments_digest=data.arguments_digest, comment=data.comment
        )
        return await write(request, Written(request.call), command, id=approval_id)
