"""The tool gate at work: every tool call decided, recorded, and sent to connector-svc as a command."""

import asyncio
import hashlib
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from bizosaas_events import Context, execute
from bizosaas_events.bus import CommandBus
from bizosaas_events.errors import RefusedError, ReplyTimeoutError
from bizosaas_events.messages.connector import CallOperation, OperationResult
from bizosaas_events.store import EventStore
from bizosaas_ports.access import Role
from bizosaas_ports.agent import ToolDenial, ToolFailure, UseTool
from bizosaas_ports.capabilities import operations

from ..domain import gate
from ..domain.gate import Call, Grant
from ..domain.ports import Connections
from ..domain.run import OPERATION_UNKNOWN, RUN, DecideToolCall, FinishToolCall, State
from .tape import Tape

CALL_SECONDS = 60.0
CALL_TRIES = 3
PATIENCE = 10.0
"""Seconds the gate itself waits when connector-svc says that trying again soon makes sense. Longer is told to the model."""


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool call came to, as it stands on the tape."""

    verdict: str
    data: msgspec.Raw
    call_id: str = ""


_decode_given = msgspec.json.Decoder(_Given).decode


class ToolGate:
    """Opens the gate of one run. Tenant, run and person come from the run's context, never from the model."""

    def __init__(self, store: EventStore, bus: CommandBus, connections: Connections) -> None:
        self._store = store
        self._bus = bus
        self._connections = connections

    def open(self, grant: Grant, context: Context, tape: Tape) -> UseTool:
        """`context` is that of the command that started the run."""

        async def use_tool(operation: str, arguments: dict[str, Any]) -> msgspec.Raw:
            async def take(step: int) -> bytes:
                return msgspec.json.encode(await self._use(grant, context, step, operation, arguments))

            digest = gate.digest_of(operation, arguments)
            name = operation if operation in operations() else OPERATION_UNKNOWN
            payload, step = await tape.step("tool", name, digest, take)
            given = _decode_given(payload)
            if given.verdict != "denied":
                finish = FinishToolCall(
                    step=step, outcome="succeeded" if given.verdict == "succeeded" else "failed",
                    digest=hashlib.sha256(given.data).hexdigest(), call_id=given.call_id,
                )  # fmt: skip
                await execute(self._store, RUN, grant.run_id, finish, context)
            return given.data

        return use_tool

    async def _use(
        self, grant: Grant, context: Context, step: int, operation: str, arguments: dict[str, Any]
    ) -> _Given:
        decide = DecideToolCall(
            step=step, operation=operation, arguments=arguments, grant=grant,
            connections=await self._connections.of(context.tenant),
        )  # fmt: skip
        state = (await execute(self._store, RUN, grant.run_id, decide, context)).state
        call = next(call for call in state.calls if call.step == step)
        if call.verdict == "denied":
            return _denied(call, operation, arguments)
        return await self._call(grant, context, call, state, arguments)

    async def _call(
        self, grant: Grant, context: Context, call: Call, state: State, arguments: dict[str, Any]
    ) -> _Given:
        request = operations()[call.operation].request
        command = CallOperation(
            connection_id=call.connection_id, operation=call.operation,
            arguments=msgspec.to_builtins(msgspec.convert(arguments, request)),
            idempotency_key=gate.idempotency_key(grant, call, state.calls),
        )  # fmt: skip
        acting = msgspec.structs.replace(context, actor=f"agent:{grant.run_id}", role=Role.SERVICE)
        failed = _failed("no-result", "it was done before, and what came of it cannot be told any more")
        for attempt in range(CALL_TRIES):
            try:
                result = await self._ask(command, acting, f"bizosaas:{grant.run_id}:{call.step}:{attempt}")
            except ReplyTimeoutError:
                return _failed("no-answer", "no answer came in time; it may have happened all the same")
            except RefusedError as error:
                problem = error.problem
                failed = _failed(problem.slug, problem.detail)
                if problem.retry_after is None or problem.retry_after > PATIENCE or attempt == CALL_TRIES - 1:
                    return failed
                await asyncio.sleep(problem.retry_after)
                continue
            if result is not None:
                return _Given(verdict="succeeded", data=result.data, call_id=result.call_id)
        return failed

    async def _ask(self, command: CallOperation, context: Context, name: str) -> OperationResult | None:
        """Ask connector-svc under an id that a resumed run uses again.

        None: the command was handled before an interruption, and its answer
        is gone, as nobody stores it. Asked again under another id, the
        idempotency key makes connector-svc find what was done.
        """
        reply = await self._bus.ask(command, context, id=str(uuid5(NAMESPACE_URL, name)), timeout=CALL_SECONDS)
        if reply.problem is not None:
            raise RefusedError(reply.problem)
        return None if bytes(reply.result) == b"null" else msgspec.json.decode(reply.result, type=OperationResult)


def results_of(tape: Tape) -> list[tuple[str, dict[str, Any]]]:
    """What the run's tools gave, in order: of those that succeeded."""
    given = [(step.name, _decode_given(step.payload)) for step in tape.steps if step.kind == "tool"]
    return [(name, msgspec.json.decode(g.data)) for name, g in given if g.verdict == "succeeded"]


def _denied(call: Call, operation: str, arguments: dict[str, Any]) -> _Given:
    detail = call.reason
    if call.rule == "arguments":
        detail = f"{detail}: {gate.argument_problem(operations()[operation], arguments)}"
    return _Given(verdict="denied", data=_raw(ToolDenial(rule=call.rule, detail=detail)))


def _failed(reason: str, detail: str) -> _Given:
    return _Given(verdict="failed", data=_raw(ToolFailure(reason=reason, detail=detail)))


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
