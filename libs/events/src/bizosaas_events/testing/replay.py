"""Events of the past in the stores and consumers of today, and what comes of it there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from ..envelope import Envelope, Event
from ..errors import ConcurrencyError
from ..store.base import EventStore, Head
from .comparing import differences
from .folding import decoded, place_of

if TYPE_CHECKING:  # it needs what replaying to memory does not
    from ..consumer import Apply


class RestorableStore(EventStore, Protocol):
    """An event store that takes events as they once were; the memory and the PostgreSQL one do."""

    async def restore(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Record them with their ids, versions, times and actors, at the next free positions; all of them or none.

        Raises ConcurrencyError where a stream does not end right before its first of these events.
        """


class ReplayError(Exception):
    """This cannot be replayed there; the message says why and what to do."""


async def feed(envelopes: Iterable[Envelope], apply: "Apply", connection: Any = None, *, batch: int = 200) -> int:
    """Hand events to a consumer as it gets them: partition by partition, in order, in batches; how many batches.

    Transactions are the caller's: `async with connection.transaction()`. What
    `apply` raises tells in a note which events it was given.
    """
    partitions: dict[int, list[Envelope]] = {}
    for envelope in envelopes:
        partitions.setdefault(envelope.partition, []).append(envelope)
    batches = [
        partition[n : n + batch] for _, partition in sorted(partitions.items()) for n in range(0, len(partition), batch)
    ]
    for each in batches:
        try:
            await apply(connection, each)
        except Exception as error:
            error.add_note(f"while applying {place_of(each[0])} to {place_of(each[-1])}")
            raise
    return len(batches)


async def load(envelopes: Sequence[Envelope], store: RestorableStore) -> "Loaded":
    """Record events in another store as they once were. Raises ReplayError where they do not fit on what is there."""
    try:
        restored = await store.restore(envelopes)
    except ConcurrencyError as error:
        there = len(await store.load(error.stream))
        remedy = (
            "load it into an empty store"
            if there > error.expected
            else "record it with its history, or load what came before"
        )
        raise ReplayError(
            f"{error.stream} goes on behind version {error.expected} here and is at version {there} there: {remedy}."
        ) from error
    return Loaded(store, restored, await store.heads())


@dataclass(frozen=True)
class Loaded:
    """A store with a recording in it: `news` is what has been recorded since."""

    store: RestorableStore
    restored: Sequence[Envelope]
    heads: Sequence[Head]

    async def news(self) -> list[Envelope]:
        """What was recorded after the recording, in order by partition."""
        known = {head.partition: head.position for head in self.heads}
        return [
            envelope
            for head in await self.store.heads()
            for envelope in await self.store.read(head.partition, known.get(head.partition, 0), head.position)
        ]

    async def expect(self, *events: Event) -> None:
        """Exactly these events were recorded since, in this order within each partition."""
        __tracebackhide__ = True
        recorded = [decoded(envelope, self.store.codec) for envelope in await self.news()]
        if recorded != list(events):
            pytest.fail(f"expected to be recorded:{_listed(events)}\nrecorded:{_listed(recorded)}")

    async def expect_as_recorded(self, envelopes: Sequence[Envelope], *, ignoring: Iterable[str] = ()) -> None:
        """Since then happened what happened when `envelopes` were recorded, but for the fields in `ignoring`.

        Ids and times are those of the rerun and never compared.
        """
        __tracebackhide__ = True
        known = {envelope.id for envelope in self.restored}
        then = [envelope for envelope in envelopes if envelope.id not in known]
        rerun = {"id", "time", "correlationid", "causationid", *ignoring}
        if found := differences(then, await self.news(), self.store.codec, ignoring=rerun, names=("then", "now")):
            pytest.fail("it went another way than it did then:\n" + "\n".join(f"  {each}" for each in found))


def _listed(events: Iterable[Event | None]) -> str:
    return "".join(f"\n  {event!r}" for event in events) or " nothing"
