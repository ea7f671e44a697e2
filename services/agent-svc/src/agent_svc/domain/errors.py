"""Why agent-svc refuses."""

from collections.abc import Iterable

from bizosaas_events import DomainError, Kind


class CatalogueError(Exception):
    """A file of the catalogue is wrong: the process must not start. Names the file and the field."""

    def __init__(self, file: str, field: str, problem: str) -> None:
        super().__init__(f"{file}: {field}: {problem}" if field else f"{file}: {problem}")
        self.file = file
        self.field = field


class AgentUnknownError(DomainError):
    kind = Kind.NOT_FOUND
    slug = "agent-unknown"

    def __init__(self, agent_id: str, known: Iterable[str]) -> None:
        super().__init__(
            f"There is no agent {agent_id!r}.", field="agent_id", remedy=f"Choose one of: {', '.join(sorted(known))}."
        )


class BriefTooLargeError(DomainError):
    slug = "brief-too-large"

    def __init__(self, largest: int) -> None:
        super().__init__(
            f"The brief is larger than {largest} bytes.", field="brief", remedy="Say it shorter, or link to it."
        )


class BriefInvalidError(DomainError):
    slug = "brief-invalid"

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(problem, field=f"brief.{field}", remedy=remedy)


class RunExistsError(DomainError):
    kind = Kind.CONFLICT
    slug = "run-exists"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is a run {run_id} already.", field="run_id", remedy="Use a new id for a new run.")


class RunUnfinishedError(DomainError):
    kind = Kind.CONFLICT
    slug = "run-unfinished"

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"The run {run_id} is still at work.",
            field="run_id",
            remedy="Ask again when it has finished.",
            retry_after=2,
        )


class RunFailedError(DomainError):
    """The run was handled, and ended without an output; why is in `reason` and in the message."""

    kind = Kind.CONFLICT
    slug = "run-failed"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"The agent's run failed ({reason}): {detail}", remedy="Start a new run.")
        self.reason = reason


class RunEndedError(DomainError):
    """Something wants to go on with a run that has ended."""

    kind = Kind.CONFLICT
    slug = "run-ended"

    def __init__(self) -> None:
        super().__init__("The run has ended.", remedy="Start a new run.")
