"""Events of the past folded by the code of today, step by step."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..codec import Codec
from ..decider import Decider
from ..envelope import Envelope, Event
from ..projection import View

Into = Decider[Any, Any, Any] | Mapping[str, View]
"""What keeps a state: a decider, for the streams of its category, or public views by category."""


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
        before, after = fields_of(self.before), fields_of(self.after)
        return {
            name: (before.get(name), value)
            for name, value in after.items()
            if name not in before or before[name] != value
        }


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


def fields_of(state: Any) -> dict[str, Any]:
    """A state as its fields, whichever way it is made."""
    if isinstance(state, msgspec.Struct):
        return {name: getattr(state, name) for name in state.__struct_fields__}
    if hasattr(state, "__dataclass_fields__"):
        return {name: getattr(state, name) for name in state.__dataclass_fields__}
    if isinstance(state, Mapping):
        return {str(name): value for name, value in state.items()}
    return {} if state is None else {"state": state}


def place_of(envelope: Envelope) -> str:
    """Which event it is, for people."""
    return f"version {envelope.streamversion} of {envelope.subject} ({envelope.type})"
