"""Why audit-svc refuses."""

from collections.abc import Sequence

from bizosaas_events import DomainError


class CursorInvalidError(DomainError):
    slug = "cursor-invalid"

    def __init__(self, field: str = "before") -> None:
        super().__init__(
            "This is not a cursor of the history.",
            field=field,
            remedy="Send `next` of the page before, or leave it empty for the first page.",
        )


class LimitInvalidError(DomainError):
    slug = "limit-invalid"

    def __init__(self, largest: int, field: str = "limit") -> None:
        super().__init__(f"A page has 1 to {largest} entries.", field=field, remedy=f"Ask for {largest} at most.")


class KindUnknownError(DomainError):
    slug = "kind-unknown"

    def __init__(self, kind: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no kind of object named {kind[:50]!r}.", field="kind", remedy=f"Known: {', '.join(known)}."
        )


class TimeInvalidError(DomainError):
    slug = "time-invalid"

    def __init__(self, field: str = "at") -> None:
        super().__init__("The moment has no time zone.", field=field, remedy="Write it as 2026-11-24T08:52:00Z.")
