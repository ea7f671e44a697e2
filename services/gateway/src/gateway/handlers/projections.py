"""Events to the read model: the view of each object, and each tenant's feed.

The folds are the public views of the published language, so a new kind of
object needs nothing here.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

import msgspec
import structlog

from bizosaas_events import Codec, Envelope, Event
from bizosaas_events.messages import category_of, log_of
from bizosaas_events.personal import person_in
from bizosaas_events.projection import View
from bizosaas_events.words import actors_in, words_of

ALL_TENANTS = "*"
MEMBER = "member:"

# What was known before the batch: objects, and the events that the feed has. The condition that names no row is met
# before any row is looked at. Each round trip costs as much as a few events. One look into the index for each key,
# whatever PostgreSQL thinks of the table: it knows nothing of one that has just begun to grow, and reads all of it.
_UNLOCKED = f"(select set_config('app.tenant', '{ALL_TENANTS}', true)) is not null"
_KNOWN = f"""
select v.* from unnest($1::text[], $2::text[]) as k (kind, id) cross join lateral (
    select kind, id, tenant, version, state::text, created_at, updated_at from view
    where {_UNLOCKED} and kind = k.kind and id = k.id limit 1
) v
union all
select f.* from unnest($3::uuid[]) as e (id) cross join lateral (
    select '', event_id::text, '', 0, '', at, at from feed where {_UNLOCKED} and event_id = e.id limit 1
) f
"""
# Counters are locked in one order, so two instances cannot wait for each other.
_WRITE = """
with stored as (
    insert into view (kind, id, tenant, version, state, created_at, updated_at)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::jsonb[], $6::timestamptz[],
                         $7::timestamptz[])
    on conflict (kind, id) do update
    set tenant = excluded.tenant, version = excluded.version, state = excluded.state, updated_at = excluded.updated_at
), told as (
    select * from unnest($8::text[], $9::int[], $10::uuid[], $11::text[], $12::text[], $13::int[], $14::timestamptz[],
                         $15::text[], $16::text[], $17::text[], $18::text[], $19::text[])
        as t (tenant, later, event_id, type, subject, version, at, actor, words, position, correlation_id, causation_id)
), counted as (
    insert into feed_counter (tenant, number) select tenant, count(*) from told group by tenant order by tenant
    on conflict (tenant) do update set number = feed_counter.number + excluded.number
    returning tenant, number as last
)
insert into feed (tenant, number, event_id, type, subject, version, at, actor, words, position, correlation_id,
                  causation_id)
select tenant, last - later, event_id, type, subject, version, at, actor, words, position, correlation_id, causation_id
from told join counted using (tenant)
"""
# jsonb cannot hold NUL, and one such character in some vendor's account name must not hold up everything behind it.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

_log = structlog.get_logger(__name__)


Key = tuple[str, str]
"""The kind and the id of an object."""
Pair = tuple[Envelope, Event | None]


class Row(NamedTuple):
    """A row of the table `view`."""

    kind: str
    id: str
    tenant: str
    version: int
    state: str
    created_at: datetime
    updated_at: datetime


class ReadModel:
    """Applies events.

    The views are in the tables of the version that is written. The feed is one for all versions, and what it tells
    it tells once: its numbers are what clients resume by, and its words are as they were said then.

    `erased` is told who was erased, and may be told again. Names and addresses stand in views and feeds as they came:
    closed.
    """

    def __init__(
        self, codec: Codec, views: dict[str, View], *, erased: Callable[[set[str]], Awaitable[None]] | None = None
    ) -> None:
        self._erased = erased
        self._codec = codec
        self._views = views
        self._decoders = {kind: msgspec.json.Decoder(view.state).decode for kind, view in views.items()}

    async def apply(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        """Fold a batch, each partition's events in order, within the connection's transaction."""
        events = [self._decode(envelope) for envelope in envelopes]
        pairs = list(zip(envelopes, events, strict=True))
        actors = {actor for envelope, event in pairs for actor in actors_in(event, envelope)}
        members = {actor: key_of_member(actor) for actor in actors if actor.startswith(MEMBER)}
        keys = {key_of(envelope) for envelope in envelopes} | set(members.values())
        rows, told = await self._known(connection, keys, envelopes)
        states: dict[Key, Any] = {key: self._decoders[key[0]](row.state) for key, row in rows.items()}
        stored = self._fold(pairs, rows, states)
        names = {actor: states[key].name for actor, key in members.items() if key in states}
        names |= {actor: "an agent" for actor in actors if actor.startswith("agent:")}
        news = _news([pair for pair in pairs if pair[0].id not in told], names)
        if stored or news:
            await connection.execute(_WRITE, *_columns(stored, 7), *_columns(news, 12))
        persons = {person_in(event) for event in events if event is not None and event.erases}
        if persons and self._erased is not None:
            await self._erased(persons)

    def _decode(self, envelope: Envelope) -> Event | None:
        if not self._codec.knows(envelope.type):
            _log.warning("an event of a newer service passes by", type=envelope.type, event_id=envelope.id)
            return None
        return cast(Event, self._codec.decode(envelope))

    async def _known(
        self, connection: Any, keys: set[Key], envelopes: Sequence[Envelope]
    ) -> tuple[dict[Key, Row], set[str]]:
        """The rows of these objects, and which events were told before. From here on the tables are open."""
        wanted = [key for key in keys if key[0] in self._views]
        kinds, ids = [kind for kind, _ in wanted], [id for _, id in wanted]
        found = [Row(*row) for row in await connection.fetch(_KNOWN, kinds, ids, [e.id for e in envelopes])]
        return {(row.kind, row.id): row for row in found if row.kind}, {row.id for row in found if not row.kind}

    def _fold(self, pairs: Sequence[Pair], rows: Mapping[Key, Row], states: dict[Key, Any]) -> list[Row]:
        """Bring `states` to where the events lead; returns what changed."""
        changed: dict[Key, Row] = {}
        for envelope, event in pairs:
            key = key_of(envelope)
            if key[0] not in self._views:
                continue
            before = states.get(key)
            state = before if event is None else self._views[key[0]].evolve(before, event, envelope)
            if state is None:
                continue
            states[key] = state
            first = changed.get(key) or rows.get(key)
            changed[key] = Row(
                *key, first.tenant if first else envelope.tenantid, envelope.streamversion, "",
                first.created_at if first else envelope.time, envelope.time,
            )  # fmt: skip
        return [row._replace(state=storable(states[key])) for key, row in changed.items()]


def _news(pairs: Sequence[Pair], names: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """Of each tenant's feed the new rows, in the order of the batch, each with how many of the tenant come later."""
    told: dict[str, list[tuple[Any, ...]]] = {}
    for e, event in pairs:
        words = words_of(event, e, names)
        position = f"{log_of(e)}/{e.partition}@{e.sequence}"
        told.setdefault(e.tenantid, []).append(
            (e.id, e.type, e.subject, e.streamversion, e.time, e.actorid, words.replace("\0", ""), position,
             e.correlationid, e.causationid)
        )  # fmt: skip
    return [
        (tenant, later, *row)
        for tenant, of_tenant in told.items()
        for later, row in zip(range(len(of_tenant) - 1, -1, -1), of_tenant, strict=True)
    ]


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """One array for each column."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def key_of(envelope: Envelope) -> Key:
    """The kind and the id of the object an event is about."""
    kind = category_of(envelope.subject)
    return kind, envelope.subject[len(kind) + 1 :]


def key_of_member(actor: str) -> Key:
    """The object that says what a member is called."""
    return MEMBER[:-1], actor.removeprefix(MEMBER)


def storable(state: msgspec.Struct) -> str:
    """A state as JSON text that PostgreSQL takes."""
    return _NUL.sub("\\1\\\\ufffd", msgspec.json.encode(state).decode())
