"""The commands of agent-svc."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from bizosaas_events import AlreadyHandledError, Context, Envelope, UnavailableError, execute, load_state
from bizosaas_events.bus import Answer
from bizosaas_events.messages.agent import StartRun
from bizosaas_events.store import EventStore
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_ports.agent import AgentDefinition, AgentFailedError
from bizosaas_ports.clock import Clock

from ..domain.definition import AGENT
from ..domain.errors import AgentUnknownError, BriefInvalidError, BriefTooLargeError, RunExistsError
from ..domain.gate import Grant
from ..domain.outputs import OUTPUTS
from ..domain.ports import Engine, Finished, Kept, Ledger
from ..domain.run import RUN, Begin, Complete, Fail, State
from . import queries

LARGEST_BRIEF = 64 * 1024

_log = structlog.get_logger(__name__)


async def start_run(
    command: StartRun, envelope: Envelope, *, store: EventStore, catalogue: Mapping[str, AgentDefinition],
    engine: Engine, ledger: Ledger, now: Clock,
) -> Answer:  # fmt: skip
    """Let an agent work on a brief to the end, and answer its output.

    A redelivery goes on where the ledger ends: no answer of the model and no
    effect is repeated. Raises ConnectionError when the platform itself fails
    in between, so that the command stays pending and is resumed.
    """
    connection_id = _checked(command)
    context = envelope.context()
    state = await _begun(command, envelope, store, catalogue, engine)
    if state.status == "running":
        try:
            agent, _ = await load_state(store, AGENT, state.agent_id, PLATFORM_TENANT)
            grant = Grant(
                run_id=state.id, definition=agent.version(state.agent_version), role=envelope.actorrole,
                connection_id=connection_id,
            )  # fmt: skip
            end = await _worked(grant, command.brief, context, engine, ledger)
            context = msgspec.structs.replace(context, time=now())
            state = (await execute(store, RUN, state.id, end, context)).state
        except UnavailableError as error:
            raise ConnectionError(str(error)) from error
    await ledger.scrub(state.id)
    last = (await store.load(RUN.stream(state.id)))[-1]
    return Answer(last, await queries.output_of(state, ledger))


def _checked(command: StartRun) -> str:
    """The connection the brief names, empty where it names none."""
    if len(msgspec.json.encode(command.brief)) > LARGEST_BRIEF:
        raise BriefTooLargeError(LARGEST_BRIEF)
    connection_id = command.brief.get("connection_id", "")
    if not isinstance(connection_id, str):
        raise BriefInvalidError("connection_id", "The connection_id is not a text.", "Give the connection's id.")
    return connection_id


async def _begun(
    command: StartRun, envelope: Envelope, store: EventStore, catalogue: Mapping[str, AgentDefinition], engine: Engine
) -> State:
    """The run, begun by this very command now or at an earlier delivery."""
    tenant = envelope.tenantid
    state, _ = await load_state(store, RUN, command.run_id, tenant)
    if not state.status:
        agent, _ = await load_state(store, AGENT, command.agent_id, PLATFORM_TENANT)
        if command.agent_id not in catalogue or agent.newest is None:
            raise AgentUnknownError(command.agent_id, catalogue)
        begin = Begin(
            run_id=command.run_id, agent_id=command.agent_id, agent_version=agent.newest.version, model=engine.model,
            simulated=engine.simulated,
        )  # fmt: skip
        try:
            handled = await execute(
                store, RUN, command.run_id, begin, envelope.context(), command_id=envelope.id, new=True
            )
            return handled.state
        except AlreadyHandledError:
            state, _ = await load_state(store, RUN, command.run_id, tenant)
    elif await store.handled(envelope.id) is None:
        raise RunExistsError(command.run_id)
    return state


async def _worked(
    grant: Grant, brief: dict[str, Any], context: Context, engine: Engine, ledger: Ledger
) -> Complete | Fail:
    """How the run ends. The output is kept before it is told, so that a crash in between loses nothing."""
    kept = await ledger.output(grant.run_id)
    if kept is None:
        try:
            finished = await engine.work(grant, brief, context)
        except AgentFailedError as error:
            _log.info("run failed", run_id=grant.run_id, reason=error.reason)
            return Fail(reason=error.reason, detail=str(error))
        kept = await ledger.keep_output(grant.run_id, _kept(grant.definition, finished))
    return Complete(
        output_type=kept.output_type, output_digest=hashlib.sha256(kept.output).hexdigest(), steps=kept.steps,
        tokens_in=kept.tokens_in, tokens_out=kept.tokens_out,
    )  # fmt: skip


def _kept(definition: AgentDefinition, finished: Finished) -> Kept:
    outcome = finished.outcome
    output = OUTPUTS[definition.output].model_validate(outcome.output).with_facts(finished.results)
    return Kept(
        output=msgspec.Raw(output.model_dump_json().encode()), output_type=definition.output, steps=outcome.steps,
        tokens_in=outcome.tokens_in, tokens_out=outcome.tokens_out,
    )  # fmt: skip


HANDLERS = (start_run, *queries.HANDLERS)
