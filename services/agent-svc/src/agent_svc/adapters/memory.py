"""The ledger and the connections in memory, and an engine for agents without CrewAI: for tests and for trying things out."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bizosaas_ports.agent import AgentDefinition, AgentOutcome, UseTool
from bizosaas_ports.model import ChatMessage, ModelPort

from ..domain.gate import Connection
from ..domain.ports import Kept, Step
from .briefing import Answers, offers, opening, schema_of


class MemoryLedger:
    """See `Ledger`."""

    def __init__(self) -> None:
        self._steps: dict[str, list[Step]] = {}
        self._outputs: dict[str, Kept] = {}

    async def steps(self, run_id: str) -> list[Step]:
        return list(self._steps.get(run_id, []))

    async def record(self, run_id: str, step: Step) -> Step:
        kept = self._steps.setdefault(run_id, [])
        if step.n >= len(kept):
            kept.append(step)
        return kept[step.n]

    async def keep_output(self, run_id: str, output: Kept) -> Kept:
        return self._outputs.setdefault(run_id, output)

    async def output(self, run_id: str) -> Kept | None:
        return self._outputs.get(run_id)

    async def scrub(self, run_id: str) -> None:
        self._steps[run_id] = [
            msgspec.structs.replace(step, payload=b"") if step.kind == "tool" else step
            for step in self._steps.get(run_id, [])
        ]

    async def scrub_abandoned(self, hours: int) -> int:
        return 0


class MemoryConnections:
    """See `Connections`."""

    def __init__(self, connections: dict[str, Sequence[Connection]] | None = None) -> None:
        self.connections = connections or {}

    async def of(self, tenant: str) -> list[Connection]:
        return list(self.connections.get(tenant, ()))


class LoopAgents:
    """See `AgentPort`: the plain loop of model and tools."""

    async def run(
        self, definition: AgentDefinition, brief: dict[str, Any], use_tool: UseTool, model: ModelPort
    ) -> AgentOutcome:
        answers = Answers(definition, model)
        schema = schema_of(definition)
        messages = opening(definition, brief)
        while True:
            said = await answers.complete(messages, offers(definition), schema)
            if not said.tool_requests:
                return await answers.outcome(messages, said.text)
            messages.append(ChatMessage(role="assistant", content=said.text, tool_calls=said.tool_requests))
            for request in said.tool_requests:
                text = await answers.use(use_tool, request.name, request.arguments)
                messages.append(ChatMessage(role="tool", content=text, tool_call_id=request.id))
