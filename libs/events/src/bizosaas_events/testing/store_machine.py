"""A store against a model of one: whatever is asked in whatever order, both say the same."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from ..chain import GENESIS, link
from ..envelope import Envelope, new_id, partition_of
from ..errors import AlreadyHandledError, ConcurrencyError
from ..store.base import EventStore, Head, Write
from .account import Deposited, a_context
from .machine import AsyncMachine

PARTITIONS = 3
STREAMS = {f"account-{n}": ("acme", "bolt")[n % 2] for n in range(4)}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

_streams = st.sampled_from(sorted(STREAMS))
_deposits = st.lists(st.integers(0, 9), max_size=3)
_off = st.sampled_from([0, 0, 0, 0, 0, 1, -1])


class EventStoreMachine(AsyncMachine):
    """Subclass it, open an empty store with `PARTITIONS` partitions and `account.CODEC`, and hand the subclass to
    hypothesis' `run_state_machine_as_test`."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[EventStore]:
        """A store of its own for each play."""

    async def begin(self, stack: AsyncExitStack) -> None:
        self._store = await stack.enter_async_context(self.open())
        self._log: list[list[Envelope]] = [[] for _ in range(PARTITIONS)]
        self._of: dict[str, list[Envelope]] = {stream: [] for stream in STREAMS}
        self._handled: dict[str, Envelope] = {}
        self._clock = BEGIN

    @rule(
        stream=_streams,
        deposits=_deposits,
        off=_off,
        command=st.sampled_from(["none", "new", "old"]),
        later=st.booleans(),
    )
    def append(self, stream: str, deposits: list[int], off: int, command: str, later: bool) -> None:
        self._append([self._write(stream, deposits, off)], STREAMS[stream], command, later)

    @rule(
        tenant=st.sampled_from(["acme", "bolt"]),
        parts=st.lists(st.tuples(st.integers(0, 1), _deposits, _off), min_size=2, max_size=3),
    )
    def append_to_several(self, tenant: str, parts: list[tuple[int, list[int], int]]) -> None:
        streams = [stream for stream, of in STREAMS.items() if of == tenant]
        writes: list[Write] = []
        for n, deposits, off in parts:
            before = sum(len(write.events) for write in writes if write.stream == streams[n])
            writes.append(self._write(streams[n], deposits, off + before))
        self._append(writes, tenant, "new", True)

    @rule(stream=_streams, version=st.none() | st.integers(0, 6), seconds=st.none() | st.integers(0, 20))
    def load(self, stream: str, version: int | None, seconds: int | None) -> None:
        until = None if seconds is None else BEGIN + timedelta(seconds=seconds)
        expected = [
            e for e in self._of[stream]
            if (version is None or e.streamversion <= version) and (until is None or e.time <= until)
        ]  # fmt: skip
        assert self.run(self._store.load(stream, until_version=version, until_time=until)) == expected

    @rule(partition=st.integers(0, PARTITIONS - 1), after=st.integers(0, 8), limit=st.integers(1, 5))
    def read(self, partition: int, after: int, limit: int) -> None:
        assert self.run(self._store.read(partition, after, limit)) == self._log[partition][after : after + limit]

    @rule()
    def an_unknown_command_was_not_handled(self) -> None:
        assert self.run(self._store.handled(new_id())) is None

    @invariant()
    def commands_lead_to_their_last_event(self) -> None:
        for command, event in list(self._handled.items())[-2:]:
            assert self.run(self._store.handled(command)) == event

    @invariant()
    def the_heads_cover_the_log(self) -> None:
        expected = []
        for partition, log in enumerate(self._log):
            head = GENESIS
            for envelope in log:
                head = link(head, envelope)
            if log:
                expected.append(Head(partition, len(log), head))
        assert self.run(self._store.heads()) == expected

    def _write(self, stream: str, deposits: Sequence[int], off: int) -> Write:
        expected = max(0, len(self._of[stream]) + off)
        return Write(stream, expected, [Deposited(cents=cents) for cents in deposits])

    def _append(self, writes: list[Write], tenant: str, command: str, later: bool) -> None:
        self._clock += timedelta(seconds=later)
        context = msgspec.structs.replace(a_context(tenant), time=self._clock)
        id = {"none": None, "new": new_id(), "old": next(iter(self._handled), None)}[command]
        refusals = self._refusals(writes, id)
        if refusals:
            with pytest.raises(refusals):
                self.run(self._store.append(writes, context, command_id=id))
            return
        recorded = self.run(self._store.append(writes, context, command_id=id))
        asked = [(write.stream, event) for write in writes for event in write.events]
        for envelope, (stream, event) in zip(recorded, asked, strict=True):
            log, versions = self._log[partition_of(tenant, stream, PARTITIONS)], self._of[stream]
            assert (envelope.subject, envelope.streamversion) == (stream, len(versions) + 1)
            assert (envelope.sequence, envelope.tenantid, envelope.time) == (len(log) + 1, tenant, self._clock)
            assert self._store.codec.decode(envelope) == event
            log.append(envelope)
            versions.append(envelope)
        if id is not None and recorded:
            self._handled[id] = recorded[-1]

    def _refusals(self, writes: list[Write], command_id: str | None) -> tuple[type[Exception], ...]:
        """What an append may be refused with; a store chooses where there are two reasons."""
        found: list[type[Exception]] = []
        versions = {stream: len(events) for stream, events in self._of.items()}
        for write in (write for write in writes if write.events):
            if versions[write.stream] != write.expected:
                found.append(ConcurrencyError)
            versions[write.stream] += len(write.events)
        if command_id in self._handled and any(write.events for write in writes):
            found.append(AlreadyHandledError)
        return tuple(found)
