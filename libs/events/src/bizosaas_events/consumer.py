"""The ordered consumer: events of a partition one after another, their effect and the checkpoint in one transaction.

Each partition has a lease and a fencing number in the consumer's own
database, so that instances share the partitions fairly and one that was
thought dead cannot write any more. No group, no pending list, no inbox rows:
measured 77 times the rate of a transaction per event.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import asyncpg

from . import dead_letters
from .bus.base import Names
from .bus.connecting import Client, Pipeline
from .bus.reading import Entry, Streams
from .dead_letters import Ready, Report
from .envelope import Envelope, from_fields
from .failures import Failure, HandlerError, failure_of, spread
from .leases import FencedError, Key, Lease, Leases
from .outages import STORAGE_ERRORS
from .stopping import stop
from .store.base import EventStore

Apply = Callable[[Any, Sequence[Envelope]], Awaitable[None]]
"""Takes a connection inside a transaction and events of one partition in order; where a consumer is `together`, of
several, each one's in order. What it writes there happens once; whatever else it does may happen again after a crash,
so it needs an idempotency key derived from the event's id."""

Enter = Callable[[Any, Mapping[Key, int]], Awaitable[None]]
"""Called first in each transaction, with the positions the partitions go to; may raise NotYetError."""

TTL_SECONDS = 5.0
BATCH = 200
REPORT_SECONDS = 1.0
AT_ONCE = 4
"""Transactions at the same time: what is one event each, such as what people do, has a commit each, and then they
share the disk's syncs. Measured 1.9 to 3.7 times as many as one after another."""
BLOCK_MS = 500
"""How long a read waits at most: partitions that were taken over meanwhile are read from the next read on."""
LONGEST_PAUSE = 10.0
NOT_YET_SECONDS = 0.02
PATIENCE = 1.0
"""How long a catch-up stream may give nothing before the partition's own stream is looked at again."""
ATTEMPTS = 5
"""How often an event is tried that a bug keeps from being applied, before it becomes a dead letter."""
LOOK_SECONDS = 0.5
"""How often to look whether a dead letter is to be tried again."""

_log = logging.getLogger(__name__)


class NotYetError(Exception):
    """For now, these partitions may be consumed up to a position only."""

    def __init__(self, positions: Mapping[Key, int]) -> None:
        super().__init__(positions)
        self.positions = positions


class Feed(NamedTuple):
    """An event log to consume; `store` where it is our own, to read what Redis no longer has without waiting."""

    category: str
    partitions: int
    store: EventStore | None = None


@dataclass
class Held:
    """A partition this instance holds, and when it may be tried again after a failure.

    `parked`: the keys that stand still behind a dead letter. While we hold the
    partition nobody else adds one; an operator only takes letters away.
    """

    lease: Lease
    stream: bytes
    """The partition's own."""
    parked: set[str] = field(default_factory=set)
    entry: str = field(init=False)
    """The id of the last entry we have had, as a read names it: hundreds of partitions are read at once."""
    retry_at: float = 0.0
    pause: float = 0.0
    meets: int = 0
    """Where the partition's stream was seen to begin, when that is behind our next event: until there we read
    the catch-up stream that its relay lays for us."""
    read_at: float = 0.0
    looking: bool = False
    """Nothing came from the catch-up stream, such as after a flush: what the partition's has says where we stand."""
    told: int = -1
    """The position that the relay was last told, -1: it was told none."""
    attempts: int = 0

    def __post_init__(self) -> None:
        self.entry = f"{self.position}-0"

    @property
    def position(self) -> int:
        return self.lease.position

    def wait(self, seconds: float) -> None:
        self.pause, self.retry_at = seconds, time.monotonic() + seconds

    def fall_behind(self, begins: int) -> None:
        self.meets, self.read_at, self.looking, self.told = begins, time.monotonic(), False, -1

    def come_to(self, position: int) -> None:
        self.lease = self.lease._replace(position=position)
        self.entry = f"{position}-0"
        self.pause, self.attempts, self.read_at = 0.0, 0, time.monotonic()
        if self.looking or position + 1 >= self.meets:
            self.meets, self.looking = 0, False


class Batch(NamedTuple):
    """The next events of a partition that we hold."""

    key: Key
    held: Held
    events: list[Envelope]


class OrderedConsumer:
    """Consumes logs under one name, together with all other instances of that name.

    What is away is waited for. An event that is rejected, or that a bug keeps
    from being applied `attempts` times, becomes a dead letter: later events of
    its key are parked behind it, other keys go on. `attempts` None is for an
    effect that must be whole, such as a journal: there, an event that cannot be
    applied holds up its partition until it can. `failing` says which, for readiness.

    `together` is for an effect within the database alone: what comes from
    several partitions at once shares a transaction, up to `batch` events.
    `pace` is for an effect that nobody waits for: while little comes, so many
    seconds lie between two reads, and what came meanwhile is applied at once.
    """

    def __init__(
        self, name: str, feeds: Iterable[Feed], apply: Apply, *, pool: "asyncpg.Pool[Any]", redis: Client,
        env: str, instance: str, ttl: float = TTL_SECONDS, batch: int = BATCH, at_once: int = AT_ONCE,
        together: bool = False, pace: float = 0.0, attempts: int | None = ATTEMPTS, version: str = "",
        enter: Enter | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.feeds = {feed.category: feed for feed in feeds}
        self.failing: dict[Key, str] = {}
        self.applied = 0
        self.retried = 0
        """How often something was tried again."""
        self.committed: Callable[[Sequence[Envelope]], None] = lambda events: None
        """Called after each commit with what was applied or parked, such as to wake whoever waits for it."""
        self._apply = apply
        self._pool = pool
        self._redis = redis
        self._names = Names(env)
        self._leases = Leases(name, instance, pool, ttl=ttl)
        self._batch = batch
        self._together = together
        self._pace = pace
        self._attempts = attempts
        self._version = version
        self._enter = enter
        self._look_at = 0.0
        # What is applied may need a second connection: with all of them in transactions, it would wait for ever.
        self._room = asyncio.Semaphore(max(1, min(at_once, pool.get_max_size() // 2)))
        self._held: dict[Key, Held] = {}
        self._reported: dict[Key, int] = {}

    @property
    def held(self) -> dict[Key, int]:
        """The partitions this instance holds and how far each has come."""
        return {key: held.position for key, held in self._held.items()}

    def position(self, category: str, partition: int) -> int | None:
        """How far one partition has come, None where this instance does not hold it."""
        held = self._held.get((category, partition))
        return None if held is None else held.position

    @property
    def fences(self) -> dict[Key, int]:
        """The fence of each lease this instance holds."""
        return {key: held.lease.fence for key, held in self._held.items()}

    async def run(self) -> None:
        """Consume until cancelled, then give the leases back. Outages are waited out with growing pauses."""
        await self._steadily(self._register)
        tasks = [asyncio.create_task(self._steadily(part)) for part in (self._lease, self._report, self._consume)]
        try:
            await asyncio.gather(*tasks)
        finally:
            await stop(tasks)
            with contextlib.suppress(*STORAGE_ERRORS):
                await self._leases.release(list(self._held))
                await self._leases.leave()
            self._held.clear()

    async def _steadily(self, part: Callable[[], Awaitable[None]]) -> None:
        pause = 0.1
        while True:
            began = time.monotonic()
            try:
                return await part()
            except STORAGE_ERRORS as error:
                _log.warning("%s: %s paused: %s", self.name, part.__name__.strip("_"), error)
                pause = 0.1 if time.monotonic() - began > 10 else min(pause * 2, 2.0)
                await asyncio.sleep(pause)

    async def _register(self) -> None:
        await self._leases.register((feed.category, feed.partitions) for feed in self.feeds.values())

    async def _lease(self) -> None:
        while True:
            mine, pause = await self._leases.renew()
            for key in [key for key in self._held if key not in mine]:
                self._drop(key)
            new = [key for key, lease in mine.items() if not self._holds(key, lease)]
            if new:
                # After the fence has grown: whatever a former holder parked is committed.
                parked = await dead_letters.parked_keys(self._pool, self.name, new)
                pipeline = self._redis.pipeline(transaction=False)
                for key in new:
                    self._withdraw(pipeline, key)  # what a former holder asked for
                await pipeline.execute()
                self._held |= {key: Held(mine[key], self._names.partition(*key).encode(), parked[key]) for key in new}
            await asyncio.sleep(pause)

    def _holds(self, key: Key, lease: Lease) -> bool:
        held = self._held.get(key)
        return held is not None and held.lease.fence == lease.fence

    def _drop(self, key: Key) -> None:
        self._held.pop(key, None)
        self.failing.pop(key, None)

    async def _report(self) -> None:
        """Say in Redis how far we have come: the relay trims by it."""
        while True:
            changed = {
                key: held.position for key, held in self._held.items() if self._reported.get(key) != held.position
            }
            categories = {category for category, _ in changed}
            for category in categories:
                await self._redis.hset(
                    self._names.checkpoints(category),
                    mapping={f"{self.name}|{part}": p for (c, part), p in changed.items() if c == category},
                )
            self._reported |= changed
            await asyncio.sleep(REPORT_SECONDS)
            for category, part in {category: key for key in self._held for category in [key[0]]}.values():
                # A flushed Redis has forgotten what we said: say all of it again.
                if not await self._redis.hexists(self._names.checkpoints(category), f"{self.name}|{part}"):
                    self._reported = {key: p for key, p in self._reported.items() if key[0] != category}

    async def _consume(self) -> None:
        async with Streams(self._redis) as reading:
            await self._consume_from(reading)

    async def _consume_from(self, reading: Streams) -> None:
        while True:
            now = time.monotonic()
            if now >= self._look_at and any(held.parked for held in self._held.values()):
                self._look_at = now + LOOK_SECONDS
                await self._look()
            streams = {self._source(key, held, now): key for key, held in self._held.items() if now >= held.retry_at}
            if not streams:
                await asyncio.sleep(0.05)
                continue
            wanted = {name: self._held[key].entry for name, key in streams.items()}
            # A shorter wait while a partition is held up, so that it is tried again when its time has come.
            block = BLOCK_MS if len(wanted) == len(self._held) else 50
            found = await reading.read(wanted, count=self._batch, block_ms=block)
            batches = [await self._next(streams[name], name, entries) for name, entries in found]
            done = await asyncio.gather(
                *map(self._take_in_turn, self._grouped([batch for batch in batches if batch is not None])),
                return_exceptions=True,
            )
            for error in done:
                if error is not None:
                    raise error
            await self._tell()
            if 0 < sum(len(entries) for _, entries in found) < self._batch:
                await asyncio.sleep(now + self._pace - time.monotonic())

    def _source(self, key: Key, held: Held, now: float) -> bytes:
        """The stream to read: the partition's own, or while that lacks our next events, the one laid for us."""
        if held.meets:
            held.looking = now - held.read_at > PATIENCE
            if not held.looking:
                return self._names.again(*key, self.name).encode()
        return held.stream

    async def _tell(self) -> None:
        """Say to the relay how far we have come where we are behind, and where we are no more."""
        news = [
            (key, held, position)
            for key, held in self._held.items()
            if held.told != (position := held.position if held.meets else -1)
        ]
        if not news:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for key, held, position in news:
            if held.meets:
                pipeline.hset(self._names.behind(*key), self.name, str(position))
            else:
                self._withdraw(pipeline, key)
        await pipeline.execute()
        for _, held, position in news:
            held.told = position

    def _withdraw(self, pipeline: Pipeline, key: Key) -> None:
        """Need no catch-up stream any more. In this order: a relay that comes between sees that nobody asks."""
        pipeline.hdel(self._names.behind(*key), self.name)
        pipeline.delete(self._names.again(*key, self.name))

    async def _next(self, key: Key, stream: bytes, entries: Sequence[Entry]) -> Batch | None:
        """What is to be applied next, from the store where Redis lacks it; None when there is nothing yet."""
        events: list[Envelope] = []
        try:
            for entry, fields in entries:
                events.append(from_fields(fields, key[1]))
                if not entry.startswith(b"%d-" % events[-1].sequence):
                    raise ValueError(f"its sequence is {events.pop().sequence}")
        except ValueError as error:
            await self._remove(key, stream, entries[len(events)][0], error)
        if events and events[-1].sequence - events[0].sequence >= len(events):  # somebody deleted an entry
            events = [event for n, event in enumerate(events, events[0].sequence) if event.sequence == n]
        held = self._held.get(key)
        if held is None or not events:
            return None
        if events[0].sequence != held.position + 1:
            store = self.feeds[key[0]].store
            if store is None:
                held.fall_behind(events[0].sequence)
                return None
            events = await store.read(key[1], held.position, self._batch)
            if not events:  # Redis has what the log has not
                held.wait(0.25)
                return None
        if held.pause:
            events = events[:1]  # it failed before, and is tried by itself
        return Batch(key, held, events)

    def _grouped(self, batches: Iterable[Batch]) -> list[list[Batch]]:
        """What shares a transaction. What failed before has one of its own."""
        groups: list[list[Batch]] = []
        room = 0
        for batch in batches:
            alone = not self._together or batch.held.pause > 0
            if alone or len(batch.events) > room:
                groups.append([])
                room = 0 if alone else self._batch
            groups[-1].append(batch)
            room -= len(batch.events)
        return groups

    async def _remove(self, key: Key, stream: bytes, entry: bytes, error: ValueError) -> None:
        """Remove an entry that is no event, and what stands before it: all of it comes anew from the log."""
        _log.error("%s found the entry %s of %s unreadable: %s", self.name, entry.decode(), stream.decode(), error)
        if stream.decode() != self._names.partition(*key):
            await self._redis.delete(stream)
            return
        time_, _, number = entry.decode().partition("-")
        await self._redis.xtrim(stream, minid=f"{time_}-{int(number) + 1}", approximate=False)

    async def _take_in_turn(self, group: list[Batch]) -> None:
        async with self._room:
            await self._take(group)

    async def _take(self, group: list[Batch]) -> None:
        """Apply what shares a transaction, or as much of it as can be."""
        failed: FencedError | HandlerError | None = None
        try:
            await self._commit(group)
        except NotYetError as limits:
            await self._take_allowed(group, limits.positions)
        except (FencedError, HandlerError) as error:
            failed = error
        if failed is None:
            return
        if len(group) > 1:
            for batch in group:
                await self._take([batch])
            return
        ((key, held, events),) = group
        if isinstance(failed, FencedError):
            self._drop(key)
        elif len(events) == 1:
            await self._fail(key, held, events[0], cast(Exception, failed.__cause__))
        else:
            for event in events:
                await self._take([Batch(key, held, [event])])
                if self._held.get(key) is not held or held.position < event.sequence:
                    return

    async def _take_allowed(self, group: list[Batch], limits: Mapping[Key, int]) -> None:
        allowed: list[Batch] = []
        for key, held, events in group:
            if key in limits:
                held.retry_at = time.monotonic() + NOT_YET_SECONDS
                events = [event for event in events if event.sequence <= limits[key]]
            if events:
                allowed.append(Batch(key, held, events))
        if allowed:
            await self._take(allowed)

    async def _fail(self, key: Key, held: Held, event: Envelope, error: Exception) -> None:
        failure = failure_of(error)
        if failure is Failure.BUG:
            held.attempts += 1
        if (
            self._attempts is None
            or failure is Failure.TRANSIENT
            or (failure is Failure.BUG and held.attempts < self._attempts)
        ):
            self._hold_up(key, held, f"{event.type} {event.id}: {error!r}", error)
            return
        report = Report.of(error, failure, self._version)
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await self._leases.advance(connection, {key: (held.lease, event.sequence)})
                await dead_letters.keep(connection, self.name, key[0], event, report, max(held.attempts, 1))
        except FencedError:
            self._drop(key)
            return
        _log.error("%s keeps %s %s as a dead letter", self.name, event.type, event.id, exc_info=error)
        held.parked.add(event.subject)
        self._moved(key, held, event.sequence)

    def _hold_up(self, key: Key, held: Held, what: str, error: Exception) -> None:
        held.wait(spread(min(max(held.pause * 2, 0.1), LONGEST_PAUSE)))
        self.retried += 1
        seen_before, self.failing[key] = self.failing.get(key) == what, what
        # The traceback once: an event may be tried for as long as an outage lasts.
        level, trace = (logging.WARNING, None) if seen_before else (logging.ERROR, error)
        _log.log(level, "%s cannot apply %s, trying again in %.1f s", self.name, what, held.pause, exc_info=trace)

    async def _commit(self, group: Sequence[Batch]) -> None:
        free: list[Envelope] = []
        async with self._pool.acquire() as connection, connection.transaction():
            await self._begin(connection, {key: (held.lease, events[-1].sequence) for key, held, events in group})
            for key, held, events in group:
                if parked := [event for event in events if event.subject in held.parked]:
                    await dead_letters.park(connection, self.name, key[0], parked)
                free += [event for event in events if event.subject not in held.parked] if parked else events
            if free:
                await self._call(connection, free)
        for key, held, events in group:
            self._moved(key, held, events[-1].sequence)
        self.applied += len(free)
        self.committed([event for _, _, events in group for event in events])

    async def _begin(self, connection: Any, moves: Mapping[Key, tuple[Lease, int]]) -> None:
        await self._leases.advance(connection, moves)
        if self._enter is not None:
            await self._enter(connection, {key: to for key, (_, to) in moves.items()})

    async def _call(self, connection: Any, events: Sequence[Envelope]) -> None:
        try:
            await self._apply(connection, events)
        except Exception as error:
            # Any bug in `apply` ends here: it must stop its own events and nothing else.
            raise HandlerError from error

    def _moved(self, key: Key, held: Held, to: int) -> None:
        held.come_to(to)
        self.failing.pop(key, None)

    async def _look(self) -> None:
        """Go on with the keys whose first dead letter does not wait any more.

        In the task that parks, so that nothing is parked behind a key that is being released.
        """
        holding = dict(self._held)
        keys = [(key, parked) for key, held in holding.items() for parked in held.parked]
        for key, parked in await dead_letters.unblocked(self._pool, self.name, keys):
            try:
                await self._go_on(key, holding[key], parked)
            except FencedError:
                self._drop(key)

    async def _go_on(self, key: Key, held: Held, parked: str) -> None:
        """Apply the dead letters of a key in order, until one waits or none is left."""
        size = self._batch
        for _ in range(self._batch):
            if self._held.get(key) is not held:
                return
            letters = await dead_letters.sequence(self._pool, self.name, key, parked, size)
            if not letters:
                held.parked.discard(parked)
                return
            if letters[0].state == "waiting":
                return
            try:
                await self._apply_letters(key, held, letters)
            except dead_letters.ChangedError:
                continue
            except NotYetError:
                return
            except HandlerError as failed:
                if len(letters) == 1:
                    await self._fail_again(key, held, letters[0], cast(Exception, failed.__cause__))
                    return
                size = 1

    async def _apply_letters(self, key: Key, held: Held, letters: Sequence[Ready]) -> None:
        self.retried += 1
        events = [letter.envelope for letter in letters]
        async with self._pool.acquire() as connection, connection.transaction():
            # It stays where it is: what counts is that the fence is still ours, until we commit.
            await self._begin(connection, {key: (held.lease, held.position)})
            await dead_letters.take(connection, letters)
            await self._call(connection, events)
        self.applied += len(events)
        self.committed(events)

    async def _fail_again(self, key: Key, held: Held, letter: Ready, error: Exception) -> None:
        failure = failure_of(error)
        if failure is Failure.TRANSIENT:
            _log.warning("%s waits for an outage to end: %r", self.name, error)
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await self._leases.advance(connection, {key: (held.lease, held.position)})
            await dead_letters.failed_again(connection, letter, Report.of(error, failure, self._version))
        _log.error("%s cannot apply a dead letter, %s", self.name, letter.envelope.id, exc_info=error)


async def forget(redis: Client, env: str, category: str, partitions: int, consumer: str) -> None:
    """Let the relay of a log keep nothing any more for a consumer that is gone; one that comes back is heard again."""
    names, pipeline = Names(env), redis.pipeline(transaction=False)
    pipeline.hdel(names.checkpoints(category), *[f"{consumer}|{part}" for part in range(partitions)])
    for part in range(partitions):
        pipeline.hdel(names.behind(category, part), consumer)
        pipeline.delete(names.again(category, part, consumer))
    await pipeline.execute()
