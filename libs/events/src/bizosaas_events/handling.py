"""The one write path: load, decide, append, and again when the stream moved on meanwhile."""

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from .decider import C, Decider, E, S, fold
from .envelope import Context, Envelope
from .errors import ConcurrencyError, StreamNotFoundError, UnavailableError
from .store.base import EventStore, Write

ATTEMPTS = 8

T = TypeVar("T")


@dataclass(frozen=True)
class Handled(Generic[T]):
    """What came of a command: the state after it and the events it recorded (none when nothing changed)."""

    state: T
    version: int
    recorded: list[Envelope]


async def load_state(store: EventStore, decider: Decider[C, S, E], id: str, tenant: str) -> tuple[S, int]:
    """The state of one object and its version, 0 when it does not exist.

    Raises StreamNotFoundError for an object of another tenant.
    """
    stream = decider.stream(id)
    envelopes = await store.load(stream)
    if envelopes and envelopes[0].tenantid != tenant:
        raise StreamNotFoundError(stream)
    events = [cast(E, store.codec.decode(envelope)) for envelope in envelopes]
    return fold(decider, events), len(events)


async def execute(
    store: EventStore,
    decider: Decider[C, S, E],
    id: str,
    command: C,
    context: Context,
    *,
    command_id: str | None = None,
) -> Handled[S]:
    """Let the object `id` decide on a command and record what follows.

    With `command_id` the command is recorded with its events, and a second
    time raises AlreadyHandledError. A lost race is decided anew; after
    `ATTEMPTS` of them UnavailableError says so.
    """
    stream = decider.stream(id)
    for _ in range(ATTEMPTS):
        state, version = await load_state(store, decider, id, context.tenant)
        events = decider.decide(command, state)
        if not events:
            return Handled(state, version, [])
        try:
            recorded = await store.append([Write(stream, version, events)], context, command_id=command_id)
        except ConcurrencyError:
            continue
        for event in events:
            state = decider.evolve(state, event)
        return Handled(state, version + len(events), recorded)
    raise UnavailableError(f"{stream} is changing too often.", remedy="Try again.", retry_after=1)
