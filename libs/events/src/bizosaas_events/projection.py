"""Folding events into what readers see."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from .envelope import Envelope


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
