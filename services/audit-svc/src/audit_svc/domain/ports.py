"""What audit-svc alone needs from outside."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from bizosaas_events import Envelope

from .entry import Entry, Head


class Cursor(NamedTuple):
    """The last entry of a page: the next one begins behind it."""

    at: datetime
    id: str


class Filters(NamedTuple):
    """What a page of the history is about; empty: everything of the tenant."""

    subject: str = ""
    actor: str = ""
    correlation_id: str = ""


class Ledger(Protocol):
    """The journal. Entries are only ever added; positions of a chain have no gaps."""

    async def record(self, connection: Any, category: str, envelopes: Sequence[Envelope]) -> None:
        """Journal the next events of one partition, within the transaction of `connection`.

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
