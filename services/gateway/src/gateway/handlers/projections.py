"""Events to the read model: the view of each object, and each tenant's feed.

The folds are the public views of the published language, so a new kind of
object needs nothing here.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
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

_LOAD = """select kind, id, tenant, version, state::text, created_at, updated_at from view
           where (kind, id) in (select * from unnest($1::text[], $2::text[]))"""
_STORE = """
insert into view (kind, id, tenant, version, state, created_at, updated_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::jsonb[], $6::timestamptz[], $7::timestamptz[])
on conflict (kind, id) do update
set tenant = excluded.tenant, version = excluded.version, state = excluded.state, updated_at = excluded.updated_at
"""
_NAMES = "select id, state->>'name' from view where kind = 'member' and id = any($1)"
_TOLD = "select event_id from feed where event_id = any($1)"
# Counters are locked in one order, so two instances cannot wait for each other.
_COUNT = """insert into feed_counter (tenant, number)
            select * from unnest($1::text[], $2::bigint[]) as u (tenant, number) order by tenant
            on conflict (tenant) do update set number = feed_counter.number + excluded.number
            returning tenant, number"""
_FEED = """
insert into feed (tenant, number, event_id, type, subject, version, at, actor, words, position, correlation_id,
                  causation_id)
select * from unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::timestamptz[],
                     $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
"""
# jsonb cannot hold NUL, and one such character in some vendor's account name must not hold up everything behind it.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

_log = structlog.get_logger(__name__)


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
        await connection.execute("select set_config('app.tenant', $1, true)", ALL_TENANTS)
        events = [self._decode(envelope) for envelope in envelopes]
        await self._fold(connection, envelopes, events)
        told = {str(row[0]) for row in await connection.fetch(_TOLD, [envelope.id for envelope in envelopes])}
        await self._tell(
            connection, [(e, event) for e, event in zip(envelopes, events, strict=True) if e.id not in told]
        )
        persons = {person_in(event) for event in events if event is not None and event.erases}
        if persons and self._erased is not None:
            await self._erased(persons)

    def _decode(self, envelope: Envelope) -> Event | None:
        if not self._codec.knows(envelope.type):
            _log.warning("an event of a newer service passes by", type=envelope.type, event_id=envelope.id)
            return None
        return cast(Event, self._codec.decode(envelope))

    async def _fold(self, connection: Any, envelopes: Sequence[Envelope], events: Sequence[Event | None]) -> None:
        keys = {key for e in envelopes if (key := key_of(e))[0] in self._views}
        if not keys:
            return
        kinds, ids = zip(*sorted(keys), strict=True)
        rows = {(row[0], row[1]): Row(*row) for row in await connection.fetch(_LOAD, list(kinds), list(ids))}
        states: dict[tuple[str, str], Any] = {key: self._decoders[key[0]](row.state) for key, row in rows.items()}
        changed: dict[tuple[str, str], Row] = {}
        for envelope, event in zip(envelopes, events, strict=True):
            key = key_of(envelope)
            if key not in keys:
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
        stored = [row._replace(state=storable(states[key])) for key, row in changed.items()]
        if stored:
            await connection.execute(_STORE, *map(list, zip(*stored, strict=True)))

    async def _tell(self, connection: Any, events: Sequence[tuple[Envelope, Event | None]]) -> None:
        if not events:
            return
        actors = {a for e, event in events for a in actors_in(event, e)}
        members = [actor.partition(":")[2] for actor in actors if actor.startswith("member:")]
        found = await connection.fetch(_NAMES, members) if members else ()
        names = {f"member:{id}": name for id, name in found}
        names |= {actor: "an agent" for actor in actors if actor.startswith("agent:")}
        told: dict[str, list[tuple[Any, ...]]] = {}
        for e, event in events:
            words = words_of(event, e, names)
            position = f"{log_of(e)}/{e.partition}@{e.sequence}"
            told.setdefault(e.tenantid, []).append(
                (e.id, e.type, e.subject, e.streamversion, e.time, e.actorid, words.replace("\0", ""), position,
                 e.correlationid, e.causationid)
            )  # fmt: skip
        rows: list[tuple[Any, ...]] = []
        counts = [len(of_tenant) for of_tenant in told.values()]
        for tenant, last in await connection.fetch(_COUNT, list(told), counts):
            first = last - len(told[tenant]) + 1
            rows += [(tenant, number, *row) for number, row in enumerate(told[tenant], first)]
        await connection.execute(_FEED, *map(list, zip(*rows, strict=True)))


def key_of(envelope: Envelope) -> tuple[str, str]:
    """The kind and the id of the object an event is about."""
    kind = category_of(envelope.subject)
    return kind, envelope.subject[len(kind) + 1 :]


def storable(state: msgspec.Struct) -> str:
    """A state as JSON text that PostgreSQL takes."""
    return _NUL.sub("\\1\\\\ufffd", msgspec.json.encode(state).decode())
