"""A run: one agent's work on one brief, with every decision of the tool gate."""

from typing import Any, ClassVar, Literal, assert_never

import msgspec

from bizosaas_events import Command, Decider
from bizosaas_events.messages.agent import (
    SERVICE,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    ToolCallDecided,
    ToolCallFinished,
)
from bizosaas_ports.capabilities import operations

from . import gate
from .errors import RunEndedError, RunExistsError
from .gate import Call, Connection, Grant

OPERATION_UNKNOWN = "unknown"
"""Written instead of what a model invented: its words may be an external system's data."""


class RunCommand(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = SERVICE


class Begin(RunCommand, frozen=True, kw_only=True, tag="agent.internal.begin-run"):
    run_id: str
    agent_id: str
    agent_version: int
    model: str
    simulated: bool


class DecideToolCall(RunCommand, frozen=True, kw_only=True, tag="agent.internal.decide-tool-call"):
    """The model wants a tool. A step that was decided before stays decided, also when the world has changed since."""

    step: int
    operation: str
    arguments: dict[str, Any]
    grant: Grant
    connections: list[Connection]


class FinishToolCall(RunCommand, frozen=True, kw_only=True, tag="agent.internal.finish-tool-call"):
    step: int
    outcome: Literal["succeeded", "failed"]
    digest: str
    call_id: str = ""


class Complete(RunCommand, frozen=True, kw_only=True, tag="agent.internal.complete-run"):
    output_type: str
    output_digest: str
    steps: int
    tokens_in: int
    tokens_out: int


class Fail(RunCommand, frozen=True, kw_only=True, tag="agent.internal.fail-run"):
    reason: str
    detail: str


Internal = Begin | DecideToolCall | FinishToolCall | Complete | Fail


class State(msgspec.Struct, frozen=True, kw_only=True):
    id: str = ""
    agent_id: str = ""
    agent_version: int = 0
    simulated: bool = False
    status: Literal["", "running", "completed", "failed"] = ""
    calls: tuple[Call, ...] = ()
    output_type: str = ""
    reason: str = ""
    detail: str = ""

    def call(self, step: int) -> Call | None:
        return next((call for call in self.calls if call.step == step), None)


def decide(command: Internal, state: State) -> list[RunEvent]:
    match command:
        case Begin():
            if state.status:
                raise RunExistsError(state.id)
            return [
                RunStarted(
                    run_id=command.run_id, agent_id=command.agent_id, agent_version=command.agent_version,
                    model=command.model, simulated=command.simulated,
                )
            ]  # fmt: skip
        case DecideToolCall():
            return _decide_tool_call(command, state)
        case FinishToolCall():
            return _finish_tool_call(command, state)
        case Complete():
            if state.status != "running":
                return []
            return [
                RunCompleted(
                    run_id=state.id, output_type=command.output_type, output_digest=command.output_digest,
                    steps=command.steps, tokens_in=command.tokens_in, tokens_out=command.tokens_out,
                    simulated=state.simulated,
                )
            ]  # fmt: skip
        case Fail():
            if state.status != "running":
                return []
            return [RunFailed(run_id=state.id, reason=command.reason, detail=command.detail)]
        case _:
            assert_never(command)


def _decide_tool_call(command: DecideToolCall, state: State) -> list[RunEvent]:
    if state.call(command.step):
        return []
    if state.status != "running":
        raise RunEndedError
    verdict = gate.judge(command.operation, command.arguments, command.grant, command.connections, state.calls)
    found = operations().get(command.operation)
    return [
        ToolCallDecided(
            run_id=state.id, step=command.step, operation=command.operation if found else OPERATION_UNKNOWN,
            effect=found.effect if found else None, verdict="allowed" if verdict.allowed else "denied",
            reason=verdict.reason, rule=verdict.rule,
            arguments_digest=gate.digest_of(command.operation, command.arguments), connection_id=verdict.connection_id,
        )
    ]  # fmt: skip


def _finish_tool_call(command: FinishToolCall, state: State) -> list[RunEvent]:
    call = state.call(command.step)
    if call is None or call.verdict == "denied" or call.outcome or state.status != "running":
        return []
    return [
        ToolCallFinished(
            run_id=state.id, step=command.step, operation=call.operation, outcome=command.outcome,
            digest=command.digest, call_id=command.call_id,
        )
    ]  # fmt: skip


def evolve(state: State, event: RunEvent) -> State:
    match event:
        case RunStarted():
            return State(
                id=event.run_id, agent_id=event.agent_id, agent_version=event.agent_version,
                simulated=event.simulated, status="running",
            )  # fmt: skip
        case ToolCallDecided():
            call = Call(
                step=event.step, operation=event.operation, arguments_digest=event.arguments_digest,
                verdict=event.verdict, rule=event.rule, reason=event.reason, connection_id=event.connection_id,
            )  # fmt: skip
            return msgspec.structs.replace(state, calls=(*state.calls, call))
        case ToolCallFinished():
            calls = tuple(
                msgspec.structs.replace(call, outcome=event.outcome) if call.step == event.step else call
                for call in state.calls
            )
            return msgspec.structs.replace(state, calls=calls)
        case RunCompleted():
            return msgspec.structs.replace(state, status="completed", output_type=event.output_type)
        case RunFailed():
            return msgspec.structs.replace(state, status="failed", reason=event.reason, detail=event.detail)
        case _:
            assert_never(event)


RUN: Decider[Internal, State, RunEvent] = Decider(category="run", initial=State, decide=decide, evolve=evolve)
