"""A verification of the journal: recorded, so that the history also tells who looked and what was found."""

from typing import ClassVar

from bizosaas_events import Command, Decider
from bizosaas_events.messages.audit import SERVICE, JournalVerified


class NoteVerification(Command, frozen=True, kw_only=True, tag="audit.internal.note-verification"):
    """What a verification found."""

    service: ClassVar[str] = SERVICE

    events: int
    partitions: int
    breaks: int


def decide(command: NoteVerification, done: bool) -> list[JournalVerified]:
    if done:
        return []
    return [JournalVerified(events=command.events, partitions=command.partitions, breaks=command.breaks)]


def evolve(_: bool, __: JournalVerified) -> bool:
    return True


VERIFICATION: Decider[NoteVerification, bool, JournalVerified] = Decider(
    category="journal", initial=lambda: False, decide=decide, evolve=evolve
)
