"""Event sourcing for Python teams: deciders, a PostgreSQL store with a hash chain, delivery that loses nothing."""

from .codec import Codec, UndecodableError, UnknownTypeError, Upcaster
from .decider import Decider, fold
from .envelope import Command, Context, Envelope, Event, Message, Problem, Reply, Result, new_id
from .errors import (
    AlreadyHandledError,
    ConcurrencyError,
    DomainError,
    Kind,
    ReplyTimeoutError,
    StreamNotFoundError,
    UnavailableError,
    problem_of,
)
from .handling import Handled, execute, load_state

__all__ = [
    "AlreadyHandledError",
    "Codec",
    "Command",
    "ConcurrencyError",
    "Context",
    "Decider",
    "DomainError",
    "Envelope",
    "Event",
    "Handled",
    "Kind",
    "Message",
    "Problem",
    "Reply",
    "ReplyTimeoutError",
    "Result",
    "StreamNotFoundError",
    "UnavailableError",
    "UndecodableError",
    "UnknownTypeError",
    "Upcaster",
    "execute",
    "fold",
    "load_state",
    "new_id",
    "problem_of",
]
