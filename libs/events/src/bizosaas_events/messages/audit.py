"""audit-svc: questions to the journal of every event of every service."""

from datetime import datetime
from typing import ClassVar

import msgspec

from ..envelope import Command, Event, Result

SERVICE = "audit"


class AuditCommand(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = "manage_integrations"


class ReadHistory(AuditCommand, frozen=True, kw_only=True, tag="audit.read-history.v1"):
    """The tenant's history in words, newest first; answers History. Filters are combined; empty: all."""

    subject: str = ""
    """One object's stream, such as `connection-<id>`."""
    actor: str = ""
    correlation_id: str = ""
    before: str = ""
    """The cursor of the page before; empty: from now."""
    limit: int = 50


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    time: datetime
    actor: str
    actor_name: str
    """The person, agent or service in words."""
    type: str
    subject: str
    version: int
    position: str
    correlation_id: str
    causation_id: str
    words: str


class History(Result, frozen=True, kw_only=True, tag="audit.history.v1"):
    entries: list[HistoryEntry]
    next: str = ""
    """Cursor of the following page; empty: that was all."""


class ReadStateAt(AuditCommand, frozen=True, kw_only=True, tag="audit.read-state-at.v1"):
    """The public view of one object as it was at a moment, rebuilt from its events; answers StateAt."""

    kind: str
    id: str
    at: datetime


class StateAt(Result, frozen=True, kw_only=True, tag="audit.state-at.v1"):
    kind: str
    id: str
    at: datetime
    version: int
    state: msgspec.Raw
    """`null` when it did not exist then."""


class VerifyJournal(AuditCommand, frozen=True, kw_only=True, tag="audit.verify-journal.v1"):
    """Recompute the hash chain of every partition of every service; answers Verified."""

    permission: ClassVar[str | None] = "platform_management"


class ChainBreak(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    partition: int
    position: int
    reason: str


class Verified(Result, frozen=True, kw_only=True, tag="audit.verified.v1"):
    events: int
    partitions: int
    duration_ms: int
    breaks: list[ChainBreak] = []


class JournalVerified(Event, frozen=True, kw_only=True, tag="audit.journal.verified.v1"):
    says: ClassVar[str] = "{actor} verified the hash chains of {events} events: {breaks} broken"

    events: int
    partitions: int
    breaks: int
