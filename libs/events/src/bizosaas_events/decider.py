"""An aggregate as three pure functions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .envelope import Command, Event

C = TypeVar("C", bound=Command)
S = TypeVar("S")
E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Decider(Generic[C, S, E]):
    """What an aggregate decides and how it remembers.

    `decide` returns the events that follow from a command, none when nothing
    changes, or raises a DomainError; `evolve` cannot fail. Neither reads a
    clock, makes an id or does I/O: time and ids come with the command.
    """

    category: str
    """The first word of its streams: `secret` for `secret-<id>`."""
    initial: Callable[[], S]
    decide: Callable[[C, S], Sequence[E]]
    evolve: Callable[[S, E], S]

    def stream(self, id: str) -> str:
        """The stream of one object."""
        return f"{self.category}-{id}"


def fold(decider: Decider[C, S, E], events: Iterable[E]) -> S:
    """The state that these events lead to."""
    state = decider.initial()
    for event in events:
        state = decider.evolve(state, event)
    return state
