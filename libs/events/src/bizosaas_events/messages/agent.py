"""agent-svc: published agents, and their runs."""

from datetime import datetime
from typing import Any, ClassVar, Literal, assert_never

import msgspec

from ..envelope import Command, Envelope, Event, Result
from ..projection import View
from .connector import Effect

SERVICE = "agent"


class AgentCommand(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = "view_agents"


class StartRun(AgentCommand, frozen=True, kw_only=True, tag="agent.start-run.v1"):
    """Let an agent work on a brief; answers RunOutput when it is done. Handled until then: a crash resumes it."""

    run_id: str
    agent_id: str
    brief: dict[str, Any]


class ReadRunOutput(AgentCommand, frozen=True, kw_only=True, tag="agent.read-run-output.v1"):
    """The output of a finished run; answers RunOutput."""

    run_id: str


class RunOutput(Result, frozen=True, kw_only=True, tag="agent.run-output.v1"):
    run_id: str
    output_type: str
    output: msgspec.Raw
    simulated: bool


class AgentPublished(Event, frozen=True, kw_only=True, tag="agent.agent.published.v1"):
    says: ClassVar[str] = "version {version} of the agent {agent_id} was published"

    agent_id: str
    version: int
    name: str
    category: str
    goal: str
    tier: str
    tools: list[str]
    output: str
    digest: str
    definition: dict[str, Any] = {}
    """The whole `bizosaas_ports.agent.AgentDefinition`, so that a run stays with the version it began with."""


class RunStarted(Event, frozen=True, kw_only=True, tag="agent.run.started.v1"):
    says: ClassVar[str] = "{actor} started the agent {agent_id} (version {agent_version}, model {model})"

    run_id: str
    agent_id: str
    agent_version: int
    model: str
    simulated: bool


class ToolCallDecided(Event, frozen=True, kw_only=True, tag="agent.run.tool-call-decided.v1"):
    says: ClassVar[str] = "the tool gate {verdict} {operation}: {reason}"

    run_id: str
    step: int
    operation: str
    effect: Effect | None = None
    """None: there is no such operation."""
    verdict: Literal["allowed", "denied"]
    reason: str = ""
    rule: str = ""
    """The slug of the rule that decided."""
    arguments_digest: str
    connection_id: str = ""


class ToolCallFinished(Event, frozen=True, kw_only=True, tag="agent.run.tool-call-finished.v1"):
    says: ClassVar[str] = "{operation} {outcome} for the agent"

    run_id: str
    step: int
    operation: str
    outcome: Literal["succeeded", "failed"]
    digest: str
    call_id: str = ""


class RunCompleted(Event, frozen=True, kw_only=True, tag="agent.run.completed.v1"):
    says: ClassVar[str] = "the agent delivered a {output_type} after {steps} steps"

    run_id: str
    output_type: str
    output_digest: str
    steps: int
    tokens_in: int
    tokens_out: int
    simulated: bool


class RunFailed(Event, frozen=True, kw_only=True, tag="agent.run.failed.v1"):
    says: ClassVar[str] = "the agent's run failed: {detail}"

    run_id: str
    reason: str
    detail: str


AgentEvent = AgentPublished
RunEvent = RunStarted | ToolCallDecided | ToolCallFinished | RunCompleted | RunFailed


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    version: int
    name: str
    category: str
    goal: str
    tier: str
    tools: list[str]
    output: str
    published_at: datetime


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    step: int
    operation: str
    verdict: str
    reason: str = ""
    outcome: str = ""
    call_id: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    agent_id: str
    agent_version: int
    model: str
    simulated: bool
    started_by: str
    started_at: datetime
    status: Literal["running", "completed", "failed"]
    tool_calls: list[ToolCall] = []
    finished_at: datetime | None = None
    output_type: str = ""
    detail: str = ""
    tokens_in: int = 0
    tokens_out: int = 0


def evolve_agent(_: Agent | None, event: AgentEvent, envelope: Envelope) -> Agent:
    return Agent(
        id=event.agent_id, version=event.version, name=event.name, category=event.category, goal=event.goal,
        tier=event.tier, tools=event.tools, output=event.output, published_at=envelope.time,
    )  # fmt: skip


def evolve_run(view: Run | None, event: RunEvent, envelope: Envelope) -> Run | None:
    if isinstance(event, RunStarted):
        return Run(
            id=event.run_id, tenant_id=envelope.tenantid, agent_id=event.agent_id, agent_version=event.agent_version,
            model=event.model, simulated=event.simulated, started_by=envelope.actorid, started_at=envelope.time,
            status="running",
        )  # fmt: skip
    if view is None:
        return None
    match event:
        case ToolCallDecided():
            call = ToolCall(step=event.step, operation=event.operation, verdict=event.verdict, reason=event.reason)
            return msgspec.structs.replace(view, tool_calls=[*view.tool_calls, call])
        case ToolCallFinished():
            calls = [
                msgspec.structs.replace(call, outcome=event.outcome, call_id=event.call_id)
                if call.step == event.step
                else call
                for call in view.tool_calls
            ]
            return msgspec.structs.replace(view, tool_calls=calls)
        case RunCompleted():
            return msgspec.structs.replace(
                view, status="completed", finished_at=envelope.time, output_type=event.output_type,
                tokens_in=event.tokens_in, tokens_out=event.tokens_out,
            )  # fmt: skip
        case RunFailed():
            return msgspec.structs.replace(view, status="failed", finished_at=envelope.time, detail=event.detail)
        case _:
            assert_never(event)


VIEWS = {"agent": View(Agent, evolve_agent), "run": View(Run, evolve_run)}
