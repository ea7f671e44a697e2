"""Published agents, and letting them work."""

from typing import Any

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events.messages.agent import RunOutput, StartRun
from bizosaas_ports.access import Feature

from ..answers import Answer
from ..auth import needs
from ..body import Body
from ..call import ApiRequest
from ..reading import one, page
from ..writing import Written, write


class NewRun(Body, frozen=True, kw_only=True):
    brief: dict[str, Any]
    """What the agent is asked for; its fields are the agent's own."""


class Agents(Controller):
    path = "/v1/agents"
    tags = ("Agents",)

    @get("/", opt=needs(Feature.VIEW_AGENTS, page="agent"))
    async def list_agents(self, request: ApiRequest) -> Answer:
        """The published agents."""
        return await page(request, "agent")

    @get("/{agent_id:str}", opt=needs(Feature.VIEW_AGENTS, one="agent"))
    async def show_agent(self, request: ApiRequest, agent_id: FromPath[str]) -> Answer:
        """One agent."""
        return await one(request, "agent", agent_id)

    @post("/{agent_id:str}/runs", opt=needs(StartRun, writes=True, result=RunOutput))
    async def start_run(self, request: ApiRequest, agent_id: FromPath[str], data: JSONBody[NewRun]) -> Answer:
        """Let an agent work on a brief; waiting for it answers its output."""
        written = Written(request.call)
        id = written.new("run")
        command = StartRun(run_id=id, agent_id=agent_id, brief=data.brief)
        return await write(request, written, command, made=f"/v1/runs/{id}", id=id)
