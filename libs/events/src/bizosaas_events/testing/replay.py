"""Events of the past through the code of today: folds step by step, stores, consumers; and what differs then."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import pytest

from ..codec import Codec, type_of
from ..decider import Decider
from ..envelope import Envelope, Event
from ..errors import ConcurrencyError
from ..projection import View
from ..store.base import EventStore, Head
from .masking import PSEUDONYM

if TYPE_CHECKING:  # it needs what replaying to memory does not
    from ..consumer import Apply

Into = Decider[Any, Any, Any] | Mapping[str, View]
"""What keeps a state: a decider, for the streams of its category, or public views by category."""

COMPARED = ("id", "type", "time", "tenantid", "actorid", "actorrole", "correlationid", "causationid")
"""The attributes that `differences` compares beside the data: where an event is stored is no difference."""


@dataclass(frozen=True)
class Step:
    """One event and what it did. `event` is None for a type that is not known here: it changes nothing."""

    number: int
    envelope: Envelope
    event: Event | None
    before: Any
    after: Any

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """The fields of the state that this event changed, each with its value before and after."""
        before, after = _fields(self.before), _fields(self.after)
        return {
            name: (before.get(name), value)
            for name, value in after.items()
            if name not in before or before[name] != value
        }


class RestorableStore(EventStore, Protocol):
    """An event store that takes events as they once were; the memory and the PostgreSQL one do."""

    async def restore(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Record them with their ids, versions, times and actors, at the next free positions; all of them or none.

        Raises ConcurrencyError where a stream does not end right before its first of these events.
        """


class ReplayError(Exception):
    """This cannot be replayed there; the message says why and what to do."""


def steps(envelopes: Iterable[Envelope], codec: Codec, into: Into) -> Iterator[Step]:
    """Fold event after event, each stream on its own. Streams of other categories are left out."""
    states: dict[str, Any] = {}
    for number, envelope in enumerate(envelopes, 1):
        category = envelope.subject.partition("-")[0]
        event = decoded(envelope, codec)
        if isinstance(into, Decider):
            if category != into.category:
                continue
            before = states.get(envelope.subject, into.initial())
            after = before if event is None else into.evolve(before, event)
        else:
            if category not in into:
                continue
            before = states.get(envelope.subject)
            after = before if event is None else into[category].evolve(before, event, envelope)
        states[envelope.subject] = after
        yield Step(number, envelope, event, before, after)


def decoded(envelope: Envelope, codec: Codec) -> Event | None:
    """The event, upcast to today's type; None when its type is not known here. Raises UndecodableError."""
    if not codec.knows(envelope.type):
        return None
    event = codec.decode(envelope)
    return event if isinstance(event, Event) else None


async def feed(envelopes: Iterable[Envelope], apply: "Apply", connection: Any = None, *, batch: int = 200) -> int:
    """Hand events to a consumer as it gets them: partition by partition, in order, in batches; how many batches.

    Transactions are the caller's: `async with connection.transaction()`. What
    `apply` raises tells in a note which events it was given.
    """
    partitions: dict[int, list[Envelope]] = {}
    for envelope in envelopes:
        partitions.setdefault(envelope.partition, []).append(envelope)
    batches = [
        partition[n : n + batch] for _, partition in sorted(partitions.items()) for n in range(0, len(partition), batch)
    ]
    for each in batches:
        try:
            await apply(connection, each)
        except Exception as error:
            error.add_note(f"while applying {_place(each[0])} to {_place(each[-1])}")
            raise
    return len(batches)


async def load(envelopes: Sequence[Envelope], store: RestorableStore) -> "Loaded":
    """Record events in another store as they once were. Raises ReplayError where they do not fit on what is there."""
    try:
        restored = await store.restore(envelopes)
    except ConcurrencyError as error:
        there = len(await store.load(error.stream))
        remedy = (
            "load it into an empty store"
            if there > error.expected
            else "record it with its history, or load what came before"
        )
        raise ReplayError(
            f"{error.stream} goes on behind version {error.expected} here and is at version {there} there: {remedy}."
        ) from error
    return Loaded(store, restored, await store.heads())


@dataclass(frozen=True)
class Loaded:
    """A store with a recording in it: `news` is what has been recorded since."""

    store: RestorableStore
    restored: Sequence[Envelope]
    heads: Sequence[Head]

    async def news(self) -> list[Envelope]:
        """What was recorded after the recording, in order by partition."""
        known = {head.partition: head.position for head in self.heads}
        return [
            envelope
            for head in await self.store.heads()
            for envelope in await self.store.read(head.partition, known.get(head.partition, 0), head.position)
        ]

    async def expect(self, *events: Event) -> None:
        """Exactly these events were recorded since, in this order within each partition."""
        __tracebackhide__ = True
        recorded = [decoded(envelope, self.store.codec) for envelope in await self.news()]
        if recorded != list(events):
            pytest.fail(f"expected to be recorded:{_listed(events)}\nrecorded:{_listed(recorded)}")

    async def expect_as_recorded(self, envelopes: Sequence[Envelope], *, ignoring: Iterable[str] = ()) -> None:
        """Since then happened what happened when `envelopes` were recorded, but for the fields in `ignoring`.

        Ids and times are those of the rerun and never compared.
        """
        __tracebackhide__ = True
        known = {envelope.id for envelope in self.restored}
        then = [envelope for envelope in envelopes if envelope.id not in known]
        rerun = {"id", "time", "correlationid", "causationid", *ignoring}
        if found := differences(then, await self.news(), self.store.codec, ignoring=rerun, names=("then", "now")):
            pytest.fail("it went another way than it did then:\n" + "\n".join(f"  {each}" for each in found))


class Difference(NamedTuple):
    """Where two recordings differ: at one version of one stream, in one field (`""`: only one of them has it)."""

    stream: str
    version: int
    field: str
    one: Any
    other: Any
    names: tuple[str, str] = ("one", "other")

    def __str__(self) -> str:
        where = f"{self.stream} version {self.version}"
        if not self.field:
            has = 0 if self.other is None else 1
            return f"{where}: only {self.names[has]} has {self.one or self.other}"
        return f"{where}: {self.field}: {self.names[0]} {self.one!r}, {self.names[1]} {self.other!r}"


def differences(
    one: Iterable[Envelope], other: Iterable[Envelope], codec: Codec, *, ignoring: Iterable[str] = (),
    names: tuple[str, str] = ("one", "other"),
) -> list[Difference]:  # fmt: skip
    """Where two runs differ, event by event and field by field; `ignoring` names attributes and paths in the data.

    Events are compared as today's code reads them. Pseudonyms are equal when
    each always meets the same other one: two recordings of the same events
    have different ones.
    """
    ignored, known = set(ignoring), _Pseudonyms()
    ours, theirs = ({(e.subject, e.streamversion): e for e in side} for side in (one, other))
    found: list[Difference] = []
    for stream, version in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get((stream, version)), theirs.get((stream, version))
        if a is None or b is None:
            found.append(Difference(stream, version, "", a and a.type, b and b.type, names))
            continue
        a, b = _today(a, codec), _today(b, codec)
        pairs = [(name, getattr(a, name), getattr(b, name)) for name in COMPARED]
        pairs += _pairs(msgspec.json.decode(a.data), msgspec.json.decode(b.data), "")
        found += [
            Difference(stream, version, field, mine, yours, names)
            for field, mine, yours in pairs
            if field not in ignored and not known.alike(mine, yours)
        ]
    return found


class _Pseudonyms:
    """Which pseudonym of one side is which on the other."""

    def __init__(self) -> None:
        self._met: tuple[dict[str, str], dict[str, str]] = ({}, {})

    def alike(self, a: Any, b: Any) -> bool:
        if not (isinstance(a, str) and isinstance(b, str)):
            return bool(a == b)
        if PSEUDONYM.fullmatch(a) or PSEUDONYM.fullmatch(b):
            return self._same(a, b)
        return PSEUDONYM.split(a) == PSEUDONYM.split(b) and all(
            self._same(x, y) for x, y in zip(PSEUDONYM.findall(a), PSEUDONYM.findall(b), strict=True)
        )

    def _same(self, a: str, b: str) -> bool:
        return self._met[0].setdefault(a, b) == b and self._met[1].setdefault(b, a) == a


class Replayed:
    """A recording folded into states, to make assertions about."""

    def __init__(self, envelopes: Sequence[Envelope], codec: Codec, into: Into) -> None:
        self.steps = list(steps(envelopes, codec, into))
        self.states: dict[str, Any] = {step.envelope.subject: step.after for step in self.steps}

    def state(self, stream: str = "") -> Any:
        """The last state of a stream; without a name, of the only one there is."""
        __tracebackhide__ = True
        return self.states[self._stream(stream)]

    def expect(self, stream: str = "", **fields: Any) -> None:
        """The last state has these values; what has not says since which event it has another one."""
        __tracebackhide__ = True
        stream = self._stream(stream)
        state = _fields(self.states[stream])
        if unknown := fields.keys() - state.keys():
            pytest.fail(f"{stream} has no field {', '.join(sorted(unknown))}; it has {', '.join(state)}")
        if wrong := [name for name, value in fields.items() if state[name] != value]:
            told = (self._told(stream, name, fields[name], state[name]) for name in wrong)
            pytest.fail(f"{stream} after version {self._of(stream)[-1].envelope.streamversion}:\n" + "\n".join(told))

    def expect_events(self, *types: type[Event] | str, stream: str = "") -> None:
        """The events of the stream are of exactly these types, in this order."""
        __tracebackhide__ = True
        stream = self._stream(stream)
        wanted = [each if isinstance(each, str) else type_of(each) for each in types]
        found = [type_of(step.event) if step.event else step.envelope.type for step in self._of(stream)]
        if wanted != found:
            pytest.fail(f"{stream}\nexpected:{_lines(wanted)}\nrecorded:{_lines(found)}")

    def _told(self, stream: str, field: str, expected: Any, found: Any) -> str:
        since = next((step for step in reversed(self._of(stream)) if field in step.changes), None)
        when = (
            f", since {_place(since.envelope)} at {since.envelope.time:%H:%M:%S}" if since else ", as in the beginning"
        )
        return f"  {field}: expected {expected!r}\n  {' ' * len(field)}  is       {found!r}{when}"

    def _of(self, stream: str) -> list[Step]:
        return [step for step in self.steps if step.envelope.subject == stream]

    def _stream(self, stream: str) -> str:
        __tracebackhide__ = True
        if stream in self.states:
            return stream
        if not stream and len(self.states) == 1:
            return next(iter(self.states))
        asked = f"there is no {stream}" if stream else "which stream?"
        pytest.fail(f"{asked}: replayed were {', '.join(self.states) or 'none'}")


def _fields(state: Any) -> dict[str, Any]:
    """A state as its fields, whichever way it is made."""
    if isinstance(state, msgspec.Struct):
        return {name: getattr(state, name) for name in state.__struct_fields__}
    if hasattr(state, "__dataclass_fields__"):
        return {name: getattr(state, name) for name in state.__dataclass_fields__}
    if isinstance(state, Mapping):
        return {str(name): value for name, value in state.items()}
    return {} if state is None else {"state": state}


def _today(envelope: Envelope, codec: Codec) -> Envelope:
    """With fields that came later and in place of a retired type the new one."""
    event = decoded(envelope, codec)
    if event is None:
        return envelope
    return msgspec.structs.replace(envelope, type=type_of(event), data=codec.encode(event))


def _pairs(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The leaves of two payloads side by side; None where one has nothing."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            if path or key != "type":
                yield from _pairs(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for n, (mine, yours) in enumerate(zip(a, b, strict=True)):
            yield from _pairs(mine, yours, f"{path}[{n}]")
    else:
        yield path, a, b


def _place(envelope: Envelope) -> str:
    return f"version {envelope.streamversion} of {envelope.subject} ({envelope.type})"


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"\n  {line}" for line in lines) or " nothing"


def _listed(events: Iterable[Event | None]) -> str:
    return _lines(map(repr, events))
