"""What operators do to a service, whichever it is: to its dead letters, to the versions of its projections.

Each service keeps in its own log what was done to it.
"""

from datetime import datetime
from typing import Any, ClassVar

from ..dead_letters import DeadLetter, Filter
from ..envelope import Command, Event, Result
from ..projection import Comparison, Progress, Version


class OperatorCommand(Command, frozen=True, kw_only=True):
    permission: ClassVar[str | None] = "platform_management"

    at: str
    """The service that it is for."""

    @property
    def service(self) -> str:  # type: ignore[override]  # of other commands the class says it
        return self.at


class ListDeadLetters(OperatorCommand, frozen=True, kw_only=True, tag="operations.list-dead-letters.v1"):
    """The service's dead letters, oldest first; answers DeadLetterPage."""

    which: Filter = Filter()
    after: str = ""
    """The id of the last one that was seen; empty: from the beginning."""
    limit: int = 50


class DeadLetterPage(Result, frozen=True, kw_only=True, tag="operations.dead-letter-page.v1"):
    items: list[DeadLetter]


class ShowDeadLetter(OperatorCommand, frozen=True, kw_only=True, tag="operations.show-dead-letter.v1"):
    """One dead letter with everything, and the first that are parked behind it; answers DeadLetterShown."""

    id: str


class DeadLetterShown(Result, frozen=True, kw_only=True, tag="operations.dead-letter-shown.v1"):
    letter: DeadLetter
    parked: list[DeadLetter]


class RetryDeadLetter(OperatorCommand, frozen=True, kw_only=True, tag="operations.retry-dead-letter.v1"):
    """Have one tried again: an event by its consumer, before what is parked behind it; anything else is sent again.

    With `payload` the handler gets that instead of the recorded one, which stays as it is.
    """

    id: str
    payload: dict[str, Any] | None = None


class DiscardDeadLetter(OperatorCommand, frozen=True, kw_only=True, tag="operations.discard-dead-letter.v1"):
    """Give one up for good, and say why; the next event of its key follows."""

    id: str
    reason: str


class SelectDeadLetters(OperatorCommand, frozen=True, kw_only=True, tag="operations.select-dead-letters.v1"):
    """How many wait that a filter finds, at most `limit`; answers DeadLettersSelected."""

    which: Filter = Filter()
    limit: int


class DeadLettersSelected(Result, frozen=True, kw_only=True, tag="operations.dead-letters-selected.v1"):
    letters: int
    confirmation: str
    """For RedriveDeadLetters: those that were counted, and none that came since."""


class RedriveDeadLetters(OperatorCommand, frozen=True, kw_only=True, tag="operations.redrive-dead-letters.v1"):
    """Have those tried again that SelectDeadLetters has counted; answers DeadLettersRetried."""

    which: Filter = Filter()
    limit: int
    confirmation: str


class DeadLettersRetried(Result, frozen=True, kw_only=True, tag="operations.dead-letters-retried.v1"):
    letters: int


class OperatorEvent(Event, frozen=True, kw_only=True):
    """About one dead letter."""

    letter_id: str
    consumer: str
    message_type: str
    """The type of what could not be handled."""
    subject: str


class DeadLetterRetried(OperatorEvent, frozen=True, kw_only=True, tag="operations.dead-letter.retried.v1"):
    says: ClassVar[str] = "{actor} had {message_type} of {subject} tried again, which {consumer} could not handle"


class DeadLetterEdited(OperatorEvent, frozen=True, kw_only=True, tag="operations.dead-letter.edited.v1"):
    says: ClassVar[str] = (
        "{actor} changed {fields} of {message_type} of {subject} for {consumer} and had it tried again"
    )

    fields: list[str]
    """The names of what was changed; never the values, which may be a person's."""


class DeadLetterDiscarded(OperatorEvent, frozen=True, kw_only=True, tag="operations.dead-letter.discarded.v1"):
    says: ClassVar[str] = "{actor} gave up {message_type} of {subject}, which {consumer} could not handle: {reason}"

    reason: str


class DeadLettersRedriven(Event, frozen=True, kw_only=True, tag="operations.dead-letters.redriven.v1"):
    says: ClassVar[str] = "{actor} had {letters} dead letters tried again"

    letters: int
    letter_ids: list[str]
    consumer: str
    """What was asked for; empty: all."""
    message_type: str
    tenant_id: str
    subject: str
    failure: str
    before: datetime | None = None


class ListProjections(OperatorCommand, frozen=True, kw_only=True, tag="operations.list-projections.v1"):
    """The versions of the service's projections, and how far each has come; answers ProjectionPage."""


class ProjectionPage(Result, frozen=True, kw_only=True, tag="operations.projection-page.v1"):
    items: list[Progress]


class ProjectionCommand(OperatorCommand, frozen=True, kw_only=True):
    projection: str
    """Its name, such as `gateway`."""


class BuildProjection(ProjectionCommand, frozen=True, kw_only=True, tag="operations.build-projection.v1"):
    """Begin to build another version from position 0, by the newest definition; answers ProjectionVersion."""


class SwapProjection(ProjectionCommand, frozen=True, kw_only=True, tag="operations.swap-projection.v1"):
    """Let this version be read, as soon as it has what the live one has; answers ProjectionVersion."""

    version: int
    limit: int = 1000
    """Refuse where it is so many events behind."""
    force: bool = False
    """Do not wait for it: readers may find less than before."""


class DropProjection(ProjectionCommand, frozen=True, kw_only=True, tag="operations.drop-projection.v1"):
    """Remove a version that is not read; answers ProjectionVersion."""

    version: int


class ProjectionVersion(Result, frozen=True, kw_only=True, tag="operations.projection-version.v1"):
    version: Version


class CompareProjections(ProjectionCommand, frozen=True, kw_only=True, tag="operations.compare-projections.v1"):
    """Which rows differ between two versions at the same positions; answers ProjectionsCompared."""

    old: int
    new: int
    first: int = 20
    """So many of the differences are shown."""


class ProjectionsCompared(Result, frozen=True, kw_only=True, tag="operations.projections-compared.v1"):
    comparison: Comparison


class ProjectionBuildStarted(Event, frozen=True, kw_only=True, tag="operations.projection.build-started.v1"):
    says: ClassVar[str] = "{actor} began to build version {version} of the projection {projection}"

    projection: str
    version: int
    definition_number: int


class ProjectionSwapped(Event, frozen=True, kw_only=True, tag="operations.projection.swapped.v1"):
    says: ClassVar[str] = "{actor} let version {version} of the projection {projection} be read"

    projection: str
    version: int
    forced: bool


class ProjectionDropped(Event, frozen=True, kw_only=True, tag="operations.projection.dropped.v1"):
    says: ClassVar[str] = "{actor} dropped version {version} of the projection {projection}"

    projection: str
    version: int
