"""The engine: one run, made of an engine for agents, a model, the tool gate and the tape."""

import asyncio
from typing import Any

from bizosaas_events import Context
from bizosaas_ports.agent import AgentFailedError, AgentPort
from bizosaas_ports.model import ModelPort

from ..domain.gate import Grant
from ..domain.ports import Finished, Ledger
from .tape import Tape, TapedModel
from .tools import ToolGate, results_of


class TapedEngine:
    """See `Engine`."""

    def __init__(self, agents: AgentPort, model: ModelPort, gate: ToolGate, ledger: Ledger) -> None:
        self.model = model.name
        self.simulated = model.simulated
        self._agents = agents
        self._model = model
        self._gate = gate
        self._ledger = ledger

    async def work(self, grant: Grant, brief: dict[str, Any], context: Context) -> Finished:
        tape = await Tape.open(self._ledger, grant.run_id)
        use_tool = self._gate.open(grant, context, tape)
        definition = grant.definition
        try:
            async with asyncio.timeout(definition.timeout_s) as limit:
                outcome = await self._agents.run(definition, brief, use_tool, TapedModel(self._model, tape))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise AgentFailedError("timeout", f"the run took longer than {definition.timeout_s} s") from error
        return Finished(outcome=outcome, results=results_of(tape))
