"""Given these events, when this command, then these events: one readable line per rule of an aggregate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from ..codec import type_of
from ..decider import C, Decider, E, S, fold
from ..envelope import Message
from ..errors import DomainError

X = TypeVar("X", bound=DomainError)


def given(decider: Decider[C, S, E], *events: E) -> "Given[C, S, E]":
    """What has happened to the object so far."""
    return Given(decider, events)


@dataclass(frozen=True)
class Given(Generic[C, S, E]):
    decider: Decider[C, S, E]
    events: Sequence[E]

    def when(self, command: C) -> "When[C, S, E]":
        """What is asked of it now."""
        return When(self.decider, self.events, command)


@dataclass(frozen=True)
class When(Generic[C, S, E]):
    decider: Decider[C, S, E]
    events: Sequence[E]
    command: C

    def then(self, *events: E) -> S:
        """It decides on exactly these events, in this order; returns the state after them."""
        __tracebackhide__ = True
        before = fold(self.decider, self.events)
        try:
            decided = list(self.decider.decide(self.command, before))
        except DomainError as error:
            pytest.fail(f"{self._story()}\nexpected:{_listed(events)}\nbut it was refused: {_refusal(error)}")
        if decided != list(events):
            pytest.fail(
                f"{self._story()}\nexpected:{_listed(events)}\ndecided:{_listed(decided)}{_first(events, decided)}"
            )
        state = before
        for event in decided:
            state = self.decider.evolve(state, event)
        return state

    def then_nothing(self) -> S:
        """It accepts the command, and nothing changes."""
        __tracebackhide__ = True
        return self.then()

    def then_refused(self, error: type[X], *, slug: str | None = None, field: str | None = None) -> X:
        """It refuses with exactly this class, and this slug and field where they are given; returns the refusal."""
        __tracebackhide__ = True
        try:
            decided = self.decider.decide(self.command, fold(self.decider, self.events))
        except DomainError as refused:
            said = {"slug": refused.slug, "field": refused.field}
            wanted = {name: value for name, value in {"slug": slug, "field": field}.items() if value is not None}
            if type(refused) is error and all(said[name] == value for name, value in wanted.items()):
                return refused
            expected = ", ".join([error.__name__, *(f"{name}={value!r}" for name, value in wanted.items())])
            pytest.fail(f"{self._story()}\nexpected the refusal {expected}\nbut it was {_refusal(refused)}")
        pytest.fail(f"{self._story()}\nexpected the refusal {error.__name__}\ndecided:{_listed(decided)}")

    def _story(self) -> str:
        return f"given:{_listed(self.events)}\nwhen:\n  {self.command!r}"


def _listed(events: Sequence[Any]) -> str:
    return "".join(f"\n  {event!r}" for event in events) or " nothing"


def _refusal(error: DomainError) -> str:
    field = f", field={error.field!r}" if error.field else ""
    return f"{type(error).__name__}, slug={error.slug!r}{field}: {error}"


def _first(expected: Sequence[Message], decided: Sequence[Message]) -> str:
    """The first difference, field by field: two long events side by side hide it."""
    for n, (wanted, got) in enumerate(zip(expected, decided, strict=False), 1):
        if type(wanted) is not type(got):
            return f"\nevent {n}: expected {type_of(wanted)}, decided {type_of(got)}"
        if wanted != got:
            old, new = msgspec.structs.asdict(wanted), msgspec.structs.asdict(got)
            differing = [f"{key}: expected {old[key]!r}, decided {new[key]!r}" for key in old if old[key] != new[key]]
            return f"\nevent {n}: " + "; ".join(differing)
    return f"\nexpected {len(expected)} events, decided {len(decided)}"
