"""Long or human work."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events.messages.workflow import StartWorkflow
from bizosaas_ports.access import Feature

from ..answers import Answer
from ..auth import needs
from ..body import Body
from ..call import ApiRequest
from ..reading import one, page
from ..writing import Written, write


class NewWorkflow(Body, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    input: dict[str, Any] = {}


class Workflows(Controller):
    path = "/v1/workflows"
    tags = ("Workflows",)

    @post("/", opt=needs(StartWorkflow, writes=True))
    async def start_workflow(self, request: ApiRequest, data: JSONBody[NewWorkflow]) -> Answer:
        """Start a workflow."""
        written = Written(request.call)
        id = written.new("workflow")
        command = StartWorkflow(workflow_id=id, name=data.name, input=data.input)
        return await write(request, written, command, made=f"/v1/workflows/{id}", id=id)

    @get("/", opt=needs(Feature.VIEW_AGENTS, page="workflow"))
    async def list_workflows(self, request: ApiRequest) -> Answer:
        """The tenant's workflows."""
        return await page(request, "workflow")

    @get("/{workflow_id:str}", opt=needs(Feature.VIEW_AGENTS, one="workflow"))
    async def show_workflow(self, request: ApiRequest, workflow_id: FromPath[str]) -> Answer:
        """One workflow."""
        return await one(request, "workflow", workflow_id)
