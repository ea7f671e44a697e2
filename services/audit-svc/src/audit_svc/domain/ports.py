"""What audit-svc alone needs from outside."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, Self
from uuid import UUID

from bizosaas_events import Envelope
from bizosaas_events.chain import Link
from bizosaas_events.exported import Exported
from bizosaas_events.heads import Line
from bizosaas_events.messages.audit import Verification, Verified

from .entry import Entry, Head


class Cursor(NamedTuple):
    """The last entry of a page: the next one begins behind it."""

    at: datetime
    id: str

    @classmethod
    def before_all(cls) -> Self:
        """The cursor that everything is behind."""
        return cls(datetime(1, 1, 1, tzinfo=UTC), str(UUID(int=0)))


class Filters(NamedTuple):
    """What a page of the history is about; empty: everything of the tenant."""

    subject: str = ""
    actor: str = ""
    correlation_id: str = ""


class Ledger(Protocol):
    """The journal. Entries are only ever added; positions of a chain have no gaps."""

    async def record(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        """Journal the next events of one or several partitions, within the transaction of `connection`.

        What is journalled already is left out. Raises `chain.GapError`.
        """

    async def page(self, tenant: str, filters: Filters, before: Cursor | None, limit: int) -> list[Envelope]:
        """The tenant's events, newest first, behind a cursor."""

    async def stream(self, category: str, subject: str, after_version: int, limit: int) -> list[Envelope]:
        """The next events of one object by version, of whatever tenant."""

    async def of_types(self, subjects: Sequence[str], types: Sequence[str]) -> list[Envelope]:
        """The events of these types in these streams, oldest first."""

    async def heads(self) -> list[Head]:
        """The end of each chain as it was recorded beside it; one without entries has position 0.

        Also chains of which only the entries are left.
        """

    async def entries(self, category: str, partition: int, after: int, limit: int) -> list[Entry]:
        """The next entries of a chain as they are now, by position."""

    async def links(self, category: str, partition: int, take: Callable[[list[Link]], None]) -> None:
        """Hand the whole chain as it is now to `take` in batches, by position, in constant memory."""

    async def hashes(self, positions: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        """The hashes stored at positions of chains (category, partition, position); None where there is no entry."""

    async def export(
        self, tenant: str, since: datetime | None, until: datetime, after: Cursor | None, limit: int
    ) -> list[Exported]:
        """The tenant's next events of a time behind a cursor, oldest first, each with the hash before it."""


class Statements(Protocol):
    """The signed statements about the heads of the chains, numbered from 1 without gaps."""

    def exclusively(self) -> AbstractAsyncContextManager[bool]:
        """True inside, when nobody else is signing meanwhile, in whatever process."""

    async def after(self, number: int, limit: int) -> list[bytes]:
        """The next statements, each a line as it was signed."""

    async def add(self, line: Line, raw: bytes) -> None:
        """Keep the next statement, and the line it was signed in. Raises ValueError when it is not the next one."""

    async def at(self, moment: datetime | None = None) -> list[bytes]:
        """The statements that tell all heads at a moment, or now: from the last whole one before it on."""


class Export(Protocol):
    """Where the statements go, outside the database; one line each. Every method may block, and raises OSError."""

    def last(self) -> bytes | None:
        """The last whole line, or None."""

    def append(self, last: bytes | None, lines: Iterable[bytes]) -> bool:
        """Add lines behind `last`, so that they are still there after a power cut; False when it is no longer the last.

        A line cut short by a crash is removed before.
        """

    def lines(self) -> Iterator[bytes]:
        """All whole lines from the first one."""


class Verifications(Protocol):
    """How far verifications are, and what they found."""

    async def begin(self, id: str, events: int, partitions: int) -> None:
        """One begins, for the first time or again, with so much before it."""

    async def advance(self, id: str, events: int, partitions: int) -> None:
        """It has come so far."""

    async def end(self, id: str, result: Verified) -> None:
        """It is done."""

    async def find(self, id: str) -> Verification | None:
        """How far it is."""
