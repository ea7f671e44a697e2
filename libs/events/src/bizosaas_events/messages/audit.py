"""audit-svc: questions to the journal of every event of every service."""

from datetime import datetime
from typing import ClassVar, Literal

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
    """Recompute the hash chain of every partition of every service, and hold it against the signed heads; answers Verified.

    A long one goes on after nobody waits any more: ReadVerification, with this command's id, tells how far it is.
    """

    permission: ClassVar[str | None] = "platform_management"


class ChainBreak(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    """The log; `heads` for the signed heads themselves, whose positions are the numbers of their statements."""
    partition: int
    position: int
    reason: str


class Verified(Result, frozen=True, kw_only=True, tag="audit.verified.v1"):
    events: int
    partitions: int
    duration_ms: int
    breaks: list[ChainBreak] = []
    statements: int = 0
    """So many signed statements about the heads were read."""
    signed_until: datetime | None = None
    """When the newest was signed: whoever can write to the database could have changed what came after unseen."""


class ReadVerification(AuditCommand, frozen=True, kw_only=True, tag="audit.read-verification.v1"):
    """How far a verification is, or what it found; answers Verification."""

    permission: ClassVar[str | None] = "platform_management"

    id: str
    """Of the command that asked for it."""


class Verification(Result, frozen=True, kw_only=True, tag="audit.verification.v1"):
    id: str
    status: Literal["running", "done"]
    events: int
    of_events: int
    """As many as there were when it began."""
    partitions: int
    of_partitions: int
    result: Verified | None = None


class ReadHeads(AuditCommand, frozen=True, kw_only=True, tag="audit.read-heads.v1"):
    """Where every chain ended at a moment, as it was signed then; answers SignedHeads.

    This is the moment as the journal knows it: what stands up to these positions had been journalled, nothing else.
    """

    permission: ClassVar[str | None] = "platform_management"

    at: datetime


class ChainPosition(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    partition: int
    position: int


class ChainHead(ChainPosition, frozen=True, kw_only=True):
    hash: str


class SignedHeads(Result, frozen=True, kw_only=True, tag="audit.signed-heads.v1"):
    number: int
    """Of the statement; 0: nothing had been signed by then."""
    time: datetime | None = None
    heads: list[ChainHead] = []


class ReadHashes(AuditCommand, frozen=True, kw_only=True, tag="audit.read-hashes.v1"):
    """The hashes that stand at these positions of the journal now, to be held against signed heads; answers Hashes."""

    permission: ClassVar[str | None] = "platform_management"

    positions: list[ChainPosition]


class Hashes(Result, frozen=True, kw_only=True, tag="audit.hashes.v1"):
    hashes: list[str]
    """In the order asked for; empty where nothing stands."""


class ExportHistory(AuditCommand, frozen=True, kw_only=True, tag="audit.export-history.v1"):
    """The next page of the tenant's events, oldest first, whole and with their places in the chains; answers ExportPage."""

    until: datetime
    """What happened before this."""
    since: datetime | None = None
    format: Literal["ndjson", "cloudevents"] = "ndjson"
    after: str = ""
    """The cursor of the page before; empty: from the beginning."""


class ExportPage(Result, frozen=True, kw_only=True, tag="audit.export-page.v1"):
    lines: list[msgspec.Raw]
    """One event each; the last one is the signed seal of the page. Verified byte for byte: pass them on unchanged."""
    next: str = ""
    """Cursor of the following page; empty: that was all."""


class JournalVerified(Event, frozen=True, kw_only=True, tag="audit.journal.verified.v1"):
    says: ClassVar[str] = "{actor} verified the hash chains of {events} events: {breaks} broken"

    events: int
    partitions: int
    breaks: int
