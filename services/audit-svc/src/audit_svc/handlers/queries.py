"""Questions to the journal. Each is answered from the entries alone, and for the caller's tenant only."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from bizosaas_events import Codec, Envelope, Event, StreamNotFoundError, UndecodableError
from bizosaas_events.bus import Answer
from bizosaas_events.codec import type_of
from bizosaas_events.messages import modules
from bizosaas_events.messages.agent import AgentPublished, RunStarted
from bizosaas_events.messages.audit import History, HistoryEntry, ReadHistory, ReadStateAt, StateAt
from bizosaas_events.messages.tenant import MemberAdded
from bizosaas_events.projection import View
from bizosaas_events.words import actors_in, name_of, words_of

from ..domain.cursor import cursor_of, parse_cursor
from ..domain.entry import position_of
from ..domain.errors import KindUnknownError, LimitInvalidError, TimeInvalidError
from ..domain.ports import Filters, Ledger

LARGEST_PAGE = 200
BATCH = 1000

_NAMING = {"member:": "member-", "agent:": "run-"}
"""The stream whose events say what an actor is called."""


async def read_history(command: ReadHistory, envelope: Envelope, *, ledger: Ledger, codec: Codec) -> Answer:
    """A page of the tenant's history in words, newest first.

    The words are made from the chained bytes now and not kept beside them:
    whatever the verification of the journal finds whole, is told truly.
    """
    if not 1 <= command.limit <= LARGEST_PAGE:
        raise LimitInvalidError(LARGEST_PAGE)
    before = parse_cursor(command.before) if command.before else None
    filters = Filters(command.subject, command.actor, command.correlation_id)
    found = await ledger.page(envelope.tenantid, filters, before, command.limit + 1)
    page = found[: command.limit]
    events = [_decoded(codec, each) for each in page]
    actors = {actor for event, each in zip(events, page, strict=True) for actor in actors_in(event, each)}
    names = await _names(ledger, codec, sorted(actors))
    entries = [
        HistoryEntry(
            id=each.id, time=each.time, actor=each.actorid, actor_name=name_of(each.actorid, names), type=each.type,
            subject=each.subject, version=each.streamversion, position=position_of(each),
            correlation_id=each.correlationid, causation_id=each.causationid, words=words_of(event, each, names),
        )
        for event, each in zip(events, page, strict=True)
    ]  # fmt: skip
    following = cursor_of(page[-1]) if len(found) > len(page) else ""
    return Answer(None, History(entries=entries, next=following))


async def read_state_at(command: ReadStateAt, envelope: Envelope, *, ledger: Ledger, codec: Codec) -> Answer:
    """The public view of one object at a moment, folded by the very function that keeps the read model.

    Versions are folded up to the first that is later than the moment: it was
    recorded after it, and so was everything behind it.
    """
    category, view = _view(command.kind)
    if command.at.tzinfo is None:
        raise TimeInvalidError
    state: Any = None
    version = 0
    exists = False
    async for each in _events(ledger, category, f"{command.kind}-{command.id}"):
        if each.tenantid != envelope.tenantid:
            break
        exists = True
        if each.time > command.at:
            break
        event = _decoded(codec, each)
        if event is not None:
            state = view.evolve(state, event, each)
        version = each.streamversion
    if not exists:
        raise StreamNotFoundError(f"{command.kind}-{command.id}")
    encoded = msgspec.Raw(msgspec.json.encode(state))
    return Answer(None, StateAt(kind=command.kind, id=command.id, at=command.at, version=version, state=encoded))


def _view(kind: str) -> tuple[str, View]:
    views = {name: (m.SERVICE, view) for m in modules() for name, view in getattr(m, "VIEWS", {}).items()}
    if kind not in views:
        raise KindUnknownError(kind, sorted(views))
    return views[kind]


async def _events(ledger: Ledger, category: str, subject: str) -> AsyncIterator[Envelope]:
    version = 0
    while batch := await ledger.stream(category, subject, version, BATCH):
        for envelope in batch:
            yield envelope
        version = batch[-1].streamversion


async def _names(ledger: Ledger, codec: Codec, actors: Sequence[str]) -> dict[str, str]:
    """What people and agents are called, as the journal itself knows it."""
    streams = {actor: _stream_of(actor) for actor in actors}
    found = await ledger.of_types(
        [stream for stream in streams.values() if stream], [type_of(MemberAdded), type_of(RunStarted)]
    )
    events = {envelope.subject: _decoded(codec, envelope) for envelope in found}
    agents = await _agent_names(ledger, codec, [e.agent_id for e in events.values() if isinstance(e, RunStarted)])
    names = {}
    for actor, stream in streams.items():
        match events.get(stream):
            case MemberAdded(name=name):
                names[actor] = name
            case RunStarted(agent_id=agent_id):
                names[actor] = f"the agent {agents.get(agent_id, agent_id)}"
    return names


async def _agent_names(ledger: Ledger, codec: Codec, agent_ids: Sequence[str]) -> dict[str, str]:
    found = await ledger.of_types([f"agent-{id}" for id in agent_ids], [type_of(AgentPublished)])
    events = (_decoded(codec, envelope) for envelope in found)
    return {event.agent_id: event.name for event in events if isinstance(event, AgentPublished)}


def _stream_of(actor: str) -> str:
    kind, colon, id = actor.partition(":")
    return _NAMING[kind + colon] + id if kind + colon in _NAMING else ""


def _decoded(codec: Codec, envelope: Envelope) -> Event | None:
    """The event, or None for one that this version does not know or cannot read: the history goes on."""
    if not codec.knows(envelope.type):
        return None
    try:
        message = codec.decode(envelope)
    except UndecodableError:
        return None
    return message if isinstance(message, Event) else None


HANDLERS = (read_history, read_state_at)
