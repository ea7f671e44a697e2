"""The errors of the kit: refusals with a kind and a slug, and what a store or a bus may raise.

DomainError            a refusal: a normal outcome, told to the caller
 ├─ StreamNotFoundError     no such object, or another tenant's
 └─ UnavailableError        something we need is away; worth trying again
     └─ ReplyTimeoutError   the command was accepted, its answer did not come in time
ConcurrencyError       the stream moved on since it was loaded
AlreadyHandledError    this command id has been recorded before
"""

from enum import StrEnum
from typing import ClassVar

from .envelope import Problem


class Kind(StrEnum):
    """What a refusal means to a caller; `bizosaas_runtime.problems` is the only place that knows HTTP statuses."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"


class DomainError(Exception):
    """A refusal: `kind` and `slug` are stable, the message is one plain sentence.

    `field` names what was wrong in the caller's input, `remedy` what to do
    about it, `retry_after` (seconds) when trying again makes sense.
    """

    kind: ClassVar[Kind] = Kind.INVALID
    slug: ClassVar[str] = "invalid"

    def __init__(self, message: str, *, field: str = "", remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.remedy = remedy
        self.retry_after = retry_after


class StreamNotFoundError(DomainError):
    """No such object for this tenant. Another tenant's object is answered in the very same words."""

    kind = Kind.NOT_FOUND
    slug = "not-found"

    def __init__(self, stream: str) -> None:
        super().__init__(f"There is no {stream.replace('-', ' ', 1)}.", remedy="Check the id; list what there is.")
        self.stream = stream


class UnavailableError(DomainError):
    """Something needed for this is away for now; nothing was changed."""

    kind = Kind.UNAVAILABLE
    slug = "unavailable"


class ReplyTimeoutError(UnavailableError):
    """The command was accepted, but its answer did not come within the time the caller wanted to wait."""

    slug = "no-answer-yet"


class RefusedError(DomainError):
    """Another service's refusal, passed on as it was told."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, field=problem.field, remedy=problem.remedy, retry_after=problem.retry_after)
        self.problem = problem


class ConcurrencyError(Exception):
    """The stream is not at the expected version: load again and decide anew."""

    def __init__(self, stream: str, expected: int) -> None:
        super().__init__(f"{stream} is not at version {expected}")
        self.stream = stream
        self.expected = expected


class AlreadyHandledError(Exception):
    """The command's events have been recorded before; nothing was written this time."""

    def __init__(self, command_id: str) -> None:
        super().__init__(f"command {command_id} has been handled")
        self.command_id = command_id


def problem_of(error: DomainError) -> Problem:
    """The refusal as it goes over the wire."""
    if isinstance(error, RefusedError):
        return error.problem
    return Problem(
        kind=error.kind, slug=error.slug, detail=str(error), field=error.field, remedy=error.remedy,
        retry_after=error.retry_after,
    )  # fmt: skip
