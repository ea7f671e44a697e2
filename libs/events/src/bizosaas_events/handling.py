"""The one write path: load, decide, append, and again when the stream moved on meanwhile."""

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from .decider import C, Decider, E, S, fold
from .envelope import Context, Envelope
from .errors import AlreadyHandledError, ConcurrencyError, DomainError, StreamNotFoundError, UnavailableError
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
    new: bool = False,
) -> Handled[S]:
    """Let the object `id` decide on a command and record what follows.

    `new` says that there is most likely no such object yet, and saves looking
    for it before something is recorded: whatever comes of it is the same.
    With `command_id` the command is recorded with its events, and a second
    time raises AlreadyHandledError. A lost race is decided anew; after
    `ATTEMPTS` of them UnavailableError says so.
    """
    stream = decider.stream(id)
    for attempt in range(ATTEMPTS):
        guess = new and attempt == 0
        state, version = (decider.initial(), 0) if guess else await load_state(store, decider, id, context.tenant)
        try:
            events = decider.decide(command, state)
        except DomainError:
            if guess:
                continue
            await _refuse_repeated(store, command_id)
            raise
        if not events:
            if guess:
                continue
            await _refuse_repeated(store, command_id)
            return Handled(state, version, [])
        try:
            recorded = await store.append([Write(stream, version, events)], context, command_id=command_id)
        except ConcurrencyError:
            continue
        for event in events:
            state = decider.evolve(state, event)
        return Handled(state, version + len(events), recorded)
    raise UnavailableError(f"{stream} is changing too often.", remedy="Try again.", retry_after=1)


async def _refuse_repeated(store: EventStore, command_id: str | None) -> None:
    """A command that is delivered again meets the state it led to, and must not be refused because of it."""
    if command_id is not None and await store.handled(command_id) is not None:
        raise AlreadyHandledError(command_id)
