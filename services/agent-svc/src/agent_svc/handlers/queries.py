"""Questions to agent-svc."""

from bizosaas_events import Envelope, StreamNotFoundError, load_state
from bizosaas_events.bus import Answer
from bizosaas_events.messages.agent import ReadRunOutput, RunOutput
from bizosaas_events.store import EventStore

from ..domain.errors import RunFailedError, RunUnfinishedError
from ..domain.ports import Ledger
from ..domain.run import RUN, State


async def read_run_output(command: ReadRunOutput, envelope: Envelope, *, store: EventStore, ledger: Ledger) -> Answer:
    """The output of a finished run; another tenant's run does not exist."""
    state, _ = await load_state(store, RUN, command.run_id, envelope.tenantid)
    if not state.status:
        raise StreamNotFoundError(RUN.stream(command.run_id))
    if state.status == "running":
        raise RunUnfinishedError(command.run_id)
    return Answer(result=await output_of(state, ledger))


async def output_of(state: State, ledger: Ledger) -> RunOutput:
    """The answer of a run that has ended. Raises RunFailedError."""
    if state.status == "failed":
        raise RunFailedError(state.reason, state.detail)
    kept = await ledger.output(state.id)
    if kept is None:
        raise RunFailedError("output-lost", "its output is not in the ledger, where it was kept before it completed")
    return RunOutput(run_id=state.id, output_type=kept.output_type, output=kept.output, simulated=state.simulated)


HANDLERS = (read_run_output,)
