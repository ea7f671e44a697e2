"""An event store in memory, for tests of handlers and for trying things out; it keeps every promise but durability."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..chain import GENESIS, link
from ..codec import Codec, type_of
from ..envelope import Context, Envelope, new_id, partition_of
from ..errors import AlreadyHandledError, ConcurrencyError
from ..personal import PersonErasedError, PersonKey, closed, new_key, person_in
from .base import Head, Write


class MemoryEventStore:
    """See `EventStore`."""

    def __init__(self, codec: Codec, *, category: str, source: str, partitions: int = 64) -> None:
        self.codec = codec
        self.category = category
        self.partitions = partitions
        self._source = source
        self._log: list[list[tuple[Envelope, bytes]]] = [[] for _ in range(partitions)]
        self._streams: dict[str, list[Envelope]] = {}
        self._commands: dict[str, Envelope] = {}
        self._person_keys: dict[str, PersonKey] = {}
        self.appended = asyncio.Event()

    async def append(
        self, writes: Sequence[Write], context: Context, *, command_id: str | None = None
    ) -> list[Envelope]:
        writes = [write for write in writes if write.events]
        if writes and command_id in self._commands:
            raise AlreadyHandledError(command_id)
        versions: dict[str, int] = {}
        for write in writes:
            version = versions.get(write.stream, len(self._streams.get(write.stream, ())))
            if version != write.expected:
                raise ConcurrencyError(write.stream, write.expected)
            versions[write.stream] = version + len(write.events)
        self._take_keys(writes, context.tenant)
        recorded = [self._record(write, n, context) for write in writes for n in range(len(write.events))]
        if command_id is not None and recorded:
            self._commands[command_id] = recorded[-1]
        self.appended.set()
        return recorded

    async def restore(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Record events as they once were, at the next free positions: `testing.replay.RestorableStore`."""
        versions: dict[str, int] = {}
        for envelope in envelopes:
            version = versions.get(envelope.subject, len(self._streams.get(envelope.subject, ())))
            if envelope.streamversion != version + 1:
                raise ConcurrencyError(envelope.subject, envelope.streamversion - 1)
            versions[envelope.subject] = envelope.streamversion
        restored = [self._keep(envelope) for envelope in envelopes]
        self.appended.set()
        return restored

    def _take_keys(self, writes: Sequence[Write], tenant: str) -> None:
        events = [event for write in writes for event in write.events]
        for person in (person_in(event) for event in events if event.personal):
            if self._person_keys.setdefault(person, PersonKey(tenant, new_key())).key is None:
                raise PersonErasedError(person)

    def _record(self, write: Write, n: int, context: Context) -> Envelope:
        event, id = write.events[n], new_id()
        person = person_in(event)
        if event.personal and (key := self._person_keys[person].key) is not None:
            event = closed(event, id, key)
        if event.erases:
            self._person_keys[person] = PersonKey(context.tenant, None)
        return self._keep(
            Envelope(
                id=id, source=self._source, type=type_of(event), subject=write.stream, time=context.time,
                tenantid=context.tenant, actorid=context.actor, actorrole=context.role,
                correlationid=context.correlation_id, causationid=context.causation_id,
                traceparent=context.traceparent, streamversion=write.expected + n + 1, data=self.codec.encode(event),
            )
        )  # fmt: skip

    def _keep(self, envelope: Envelope) -> Envelope:
        """At the next position of its partition."""
        partition = partition_of(envelope.tenantid, envelope.subject, self.partitions)
        log = self._log[partition]
        envelope = msgspec.structs.replace(envelope, partition=partition, sequence=len(log) + 1)
        log.append((envelope, link(log[-1][1] if log else GENESIS, envelope)))
        self._streams.setdefault(envelope.subject, []).append(envelope)
        return envelope

    async def load(
        self, stream: str, *, until_version: int | None = None, until_time: datetime | None = None
    ) -> list[Envelope]:
        return [
            envelope
            for envelope in self._streams.get(stream, ())
            if (until_version is None or envelope.streamversion <= until_version)
            and (until_time is None or envelope.time <= until_time)
        ]

    async def read(self, partition: int, after: int, limit: int) -> list[Envelope]:
        return [envelope for envelope, _ in self._log[partition][after : after + limit]]

    async def heads(self) -> list[Head]:
        return [Head(n, len(log), log[-1][1]) for n, log in enumerate(self._log) if log]

    async def person_keys(self, persons: Sequence[str]) -> dict[str, PersonKey]:
        return {person: self._person_keys[person] for person in persons if person in self._person_keys}

    async def handled(self, command_id: str) -> Envelope | None:
        return self._commands.get(command_id)
