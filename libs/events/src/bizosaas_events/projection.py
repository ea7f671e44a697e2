"""Folding events into what readers see: the public views, and the versions of a projection as operators see them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from .envelope import Envelope

State = Literal["building", "live", "kept", "dropped"]
"""Never read yet; the one that is read; read once, and kept up to date to go back to; gone."""


class View(NamedTuple):
    """The public state of one kind of object: its shape, and the pure fold that keeps it.

    The gateway folds views into its read model, audit-svc folds the same ones
    to show a past moment; that is why both always show the same.
    """

    state: type[msgspec.Struct]
    evolve: Callable[[Any, Any, Envelope], Any]
    """The state after an event; the state before is None for the first. Cannot fail."""
    personal: tuple[str, ...] = ()
    """The fields that hold closed values, see `personal.py`."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version: made by which definition of the code, and in which state since when."""

    name: str
    number: int
    definition: int
    state: State
    created_at: datetime
    changed_at: datetime

    @property
    def consumer(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def schema(self) -> str:
        """Raises ValueError for a name that is no identifier."""
        schema = f"{self.name.replace('-', '_')}_{self.number}"
        if not schema.isidentifier() or not schema.isascii() or schema != schema.lower():
            raise ValueError(f"{self.name!r} is no name for a projection: use small letters, digits and hyphens")
        return schema


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far a version has come in one partition, and where that ends."""

    category: str
    partition: int
    position: int
    end: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A version on its way. `rate`: events a second since it was created; `seconds_left` at that rate."""

    version: Version
    instances: list[str]
    """The processes that consume it; none: nobody has its code any more."""
    places: list[Place]
    events_done: int
    events_behind: int
    rate: float
    seconds_left: float | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not the same in both: what differs, also within an object, or None where there is no such row."""

    table: str
    key: dict[str, Any]
    old: dict[str, Any] | None
    new: dict[str, Any] | None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One table: its rows in either version, and how many differ, by the value of the columns that were asked for."""

    table: str
    old_rows: int
    new_rows: int
    differing: int
    differing_by: dict[str, int]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions at the very same positions."""

    old: int
    new: int
    events: int
    """How many both have applied."""
    tables: list[Compared]
    differences: list[Difference]
