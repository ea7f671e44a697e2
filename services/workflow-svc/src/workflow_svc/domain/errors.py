"""Why workflow-svc refuses."""

from collections.abc import Iterable
from datetime import datetime

from bizosaas_events import DomainError, Kind


class UnknownWorkflowError(DomainError):
    slug = "unknown-workflow"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"There is no workflow {name!r}.", field="name", remedy=f"Use one of: {', '.join(sorted(known))}."
        )


class InputInvalidError(DomainError):
    slug = "input-invalid"

    def __init__(self, field: str, reason: str, workflow: str) -> None:
        super().__init__(
            f"The input does not fit the workflow {workflow}: {reason}.", field=field, remedy="Correct this field."
        )


class WorkflowIdInvalidError(DomainError):
    slug = "workflow-id-invalid"

    def __init__(self, longest: int) -> None:
        super().__init__(f"A workflow's id has 1 to {longest} characters.", field="workflow_id", remedy="Use a UUID.")


class WorkflowIdTakenError(DomainError):
    kind = Kind.CONFLICT
    slug = "workflow-id-taken"

    def __init__(self, workflow_id: str, name: str) -> None:
        super().__init__(
            f"The id {workflow_id} belongs to a workflow {name} with another input.",
            field="workflow_id",
            remedy="Use a new id.",
        )


class ApprovalIdTakenError(DomainError):
    kind = Kind.CONFLICT
    slug = "approval-id-taken"

    def __init__(self, approval_id: str) -> None:
        super().__init__(
            f"The id {approval_id} belongs to an approval of something else.",
            field="approval_id",
            remedy="Use a new id.",
        )


class AlreadyDecidedError(DomainError):
    kind = Kind.CONFLICT
    slug = "already-decided"

    def __init__(self, verdict: str, by: str, at: datetime) -> None:
        super().__init__(
            f"This was {verdict} by {by} at {at:%Y-%m-%d %H:%M:%S} UTC.", remedy="Nothing is left to decide here."
        )
        self.by = by
        self.at = at


class ApprovalExpiredError(DomainError):
    kind = Kind.CONFLICT
    slug = "approval-expired"

    def __init__(self, deadline: datetime) -> None:
        super().__init__(
            f"The time to decide ended at {deadline:%Y-%m-%d %H:%M:%S} UTC.", remedy="Start the workflow again."
        )


class ArgumentsChangedError(DomainError):
    kind = Kind.CONFLICT
    slug = "arguments-changed"

    def __init__(self) -> None:
        super().__init__(
            "The arguments shown are not those that would be executed.",
            field="arguments_digest",
            remedy="Load the approval again, look at its arguments, and decide on those.",
        )
