"""A recording folded into states, and assertions about them that say where a wrong value comes from."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from ..codec import Codec, type_of
from ..envelope import Envelope, Event
from .folding import Into, Step, fields_of, place_of, steps


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
        state = fields_of(self.states[stream])
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
            pytest.fail(f"{stream}\nexpected:{_listed(wanted)}\nrecorded:{_listed(found)}")

    def _told(self, stream: str, field: str, expected: Any, found: Any) -> str:
        since = next((step for step in reversed(self._of(stream)) if field in step.changes), None)
        when = (
            f", since {place_of(since.envelope)} at {since.envelope.time:%H:%M:%S}"
            if since
            else ", as in the beginning"
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


def _listed(types: Iterable[str]) -> str:
    return "".join(f"\n  {name}" for name in types) or " nothing"
