"""What an error says about who is to blame: the surroundings, the message, or the code."""

import random
from enum import StrEnum

import asyncpg

from .codec import UndecodableError, UnknownTypeError
from .errors import DomainError, Kind, RefusedError, UnavailableError
from .outages import OUTAGES


class Failure(StrEnum):
    """Decides what is done: a transient one is waited out, poison is put aside at once, a bug after some attempts."""

    TRANSIENT = "transient"
    POISON = "poison"
    BUG = "bug"


def failure_of(error: Exception) -> Failure:
    """Transient: something is away. Poison: unreadable, or rejected with a DomainError. Anything else is a bug."""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Failure.BUG  # how asyncpg says that a value does not fit its column
    if isinstance(error, (UnavailableError, *OUTAGES)):
        return Failure.TRANSIENT
    if isinstance(error, RefusedError) and error.problem.kind == Kind.UNAVAILABLE:
        return Failure.TRANSIENT
    if isinstance(error, DomainError | UndecodableError | UnknownTypeError):
        return Failure.POISON
    return Failure.BUG


class HandlerError(Exception):
    """Whatever a handler raised, its cause, told apart from what the database does around it."""


def spread(seconds: float) -> float:
    """Half to one and a half of a pause, so that what failed together does not come back together."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311  # no secret depends on it
