"""The port of an event store."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from ..codec import Codec
from ..envelope import Context, Envelope, Event
from ..personal import PersonKey


class Write(NamedTuple):
    """New events for one stream, which must be at version `expected` (0: it does not exist yet)."""

    stream: str
    expected: int
    events: Sequence[Event]


class Head(NamedTuple):
    """The end of one partition: its last position and the hash that covers everything before."""

    partition: int
    position: int
    hash: bytes


class EventStore(Protocol):
    """An append-only log in partitions, each with gapless positions and a hash chain.

    All events of a stream are in one partition, in the order of their
    versions. What `read` returned once it returns for ever: a position is
    never skipped, filled in later or given twice, so a reader that remembers
    its last position misses nothing.
    """

    codec: Codec
    category: str
    partitions: int

    async def append(
        self, writes: Sequence[Write], context: Context, *, command_id: str | None = None
    ) -> list[Envelope]:
        """Record all the writes, or none of them, and return the recorded envelopes in the order of the writes.

        Personal values are closed, and an event that erases a person destroys
        their key, in the same transaction.
        Raises ConcurrencyError when a stream is not at its expected version,
        AlreadyHandledError when `command_id` was recorded before,
        PersonErasedError for personal data of somebody who was erased.
        """

    async def load(
        self, stream: str, *, until_version: int | None = None, until_time: datetime | None = None
    ) -> list[Envelope]:
        """The events of one stream by version, all of them or up to a version or a time, both inclusive."""

    async def read(self, partition: int, after: int, limit: int) -> list[Envelope]:
        """The next events of a partition behind position `after`."""

    async def heads(self) -> list[Head]:
        """The end of each partition that has events, by partition."""

    async def person_keys(self, persons: Sequence[str]) -> dict[str, PersonKey]:
        """The keys that open these persons' closed values; who is not known is left out."""

    async def handled(self, command_id: str) -> Envelope | None:
        """The last event that this command recorded, or None when it has not been handled."""
