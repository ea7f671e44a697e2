"""Runs of agents."""

from litestar import Controller, get
from litestar.params import FromPath

from bizosaas_events.messages.agent import ReadRunOutput, RunOutput
from bizosaas_ports.access import Feature

from ..answers import Answer
from ..auth import needs
from ..call import ApiRequest
from ..reading import caught_up, find, one, page
from ..writing import ask


class Runs(Controller):
    path = "/v1/runs"
    tags = ("Agents",)

    @get("/", opt=needs(Feature.VIEW_AGENTS, page="run"))
    async def list_runs(self, request: ApiRequest) -> Answer:
        """The tenant's runs."""
        return await page(request, "run")

    @get("/{run_id:str}", opt=needs(Feature.VIEW_AGENTS, one="run"))
    async def show_run(self, request: ApiRequest, run_id: FromPath[str]) -> Answer:
        """One run: what the agent did, step by step."""
        return await one(request, "run", run_id)

    @get("/{run_id:str}/output", opt=needs(ReadRunOutput, answers=RunOutput))
    async def read_output(self, request: ApiRequest, run_id: FromPath[str]) -> Answer:
        """What a finished run delivered."""
        await caught_up(request.call)
        await find(request.call, "run", run_id)
        return await ask(request.call, ReadRunOutput(run_id=run_id))
