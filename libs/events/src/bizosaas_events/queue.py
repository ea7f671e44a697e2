"""The work queue: effects without order, such as mail and webhooks.

Reads are bounded, acknowledgements batched, what is in hand is kept alive; a
failure is tried again after a growing pause. What is rejected is a dead letter
at once, what a bug makes fail after the fifth time, what is away never.
What a handler writes with its connection happens exactly once, because the
message's id goes into the inbox in the same transaction.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from uuid import UUID

import asyncpg
from redis.exceptions import RedisError

from .bus.connecting import Client
from .dead_letters import Report, bury
from .envelope import Envelope, from_fields
from .failures import Failure, HandlerError, failure_of, spread
from .outages import DATABASE_OUTAGES, OUTAGES, STORAGE_ERRORS
from .queue_group import Entry, Group
from .stopping import stop

Handle = Callable[[Any, Envelope], Awaitable[None]]
"""Takes a connection inside a transaction and one message. What it writes there happens once; anything else may
happen again after a crash or a failure, so it needs an idempotency key derived from the message's id."""

MAX_DELIVERIES = 5
BLOCK_MS = 100
INBOX_DAYS = 30

_INBOX = "insert into inbox (consumer, id) select $1, unnest($2::uuid[]) on conflict do nothing returning id"
_FORGET = "delete from inbox where consumer = $1 and at < now() - $2 * interval '1 day'"

_log = logging.getLogger(__name__)


class QueueConsumer:
    """One of any number of processes that work on one queue under one group name.

    The stream must be the queue's own: it is trimmed below what every group
    has done. `transaction` messages share one transaction and its fsync; when
    one of them fails, each is tried by itself. Without `inbox` there is no
    transaction, `connection` is None, and a crash may repeat a message.
    """

    def __init__(
        self, group: str, stream: str, handle: Handle, *, pool: "asyncpg.Pool[Any]", redis: Client, instance: str,
        workers: int = 16, transaction: int = 1, count: int = 200, idle_seconds: float = 5.0, pause: float = 0.5,
        longest_pause: float = 60.0, gone_seconds: float = 600.0, inbox: bool = True, version: str = "",
    ) -> None:  # fmt: skip
        self.handled = 0
        self.dead = 0
        self.retried = 0
        self._name = group
        self._stream = stream
        self._version = version
        self._handle = handle
        self._pool = pool
        self._group = Group(redis, stream, group, instance, idle_ms=int(idle_seconds * 1000))
        self._workers = workers
        self._transaction = transaction
        self._count = count
        self._idle = idle_seconds
        self._pause = pause
        self._longest_pause = longest_pause
        self._gone_ms = int(gone_seconds * 1000)
        self._inbox = inbox
        self._work: asyncio.Queue[list[Entry]] = asyncio.Queue()
        self._in_hand: set[bytes] = set()
        self._done: list[bytes] = []
        self._finished = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take nothing new; `run` returns when what is being handled is done and the rest is handed over."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop` or until cancelled; what is not finished then is another process's at once."""
        workers = [asyncio.create_task(self._work_off()) for _ in range(self._workers)]
        keeping = [asyncio.create_task(self._steadily(part)) for part in (self._keep, self._acknowledge, self._tidy)]
        reading = asyncio.create_task(self._steadily(self._read))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            ended, _ = await asyncio.wait([*workers, *keeping, reading, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in ended - {stopping}:
                task.result()  # ended by itself, so by a bug, which must be heard
            await stop([reading])
            while not self._work.empty():
                self._work.get_nowait()
            for _ in workers:
                self._work.put_nowait([])
            await asyncio.gather(*workers)
        finally:
            try:
                await stop([reading, stopping, *workers, *keeping])
            finally:
                with contextlib.suppress(RedisError, OSError):
                    if self._done:
                        await self._group.done(self._done)
                    await self._group.hand_over()

    async def _steadily(self, part: Callable[[], Awaitable[None]]) -> None:
        pause = 0.1
        while True:
            began = time.monotonic()
            try:
                await part()
            except STORAGE_ERRORS as error:
                lost = "NOGROUP" in str(error) or "no such key" in str(error)
                if not lost:
                    _log.warning("%s: %s paused: %s", self._name, part.__name__.strip("_"), error)
                pause = 0.1 if lost or time.monotonic() - began > 10 else min(pause * 2, 2.0)
                await asyncio.sleep(pause)
                with contextlib.suppress(RedisError, OSError):
                    await self._group.provision()

    async def _read(self) -> None:
        await self._group.provision()
        looked = 0.0
        while True:
            free = self._count - len(self._in_hand)
            if free < max(1, self._count // 4):
                self._room.clear()
                await self._room.wait()
            elif time.monotonic() - looked > min(self._idle / 8, 0.2):
                self._take(await self._group.old(free))
                looked = time.monotonic()
            else:
                self._take(await self._group.new(free, BLOCK_MS))

    def _take(self, entries: Sequence[Entry]) -> None:
        new = [entry for entry in entries if entry.id not in self._in_hand]
        self._in_hand.update(entry.id for entry in new)
        for n in range(0, len(new), self._transaction):
            self._work.put_nowait(new[n : n + self._transaction])

    async def _work_off(self) -> None:
        while batch := await self._work.get():
            pause = 0.1
            while True:
                try:
                    await self._handle_batch(batch)
                    break
                except OUTAGES as error:
                    _log.warning("%s waits for an outage to end: %s", self._name, error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 2.0)

    async def _handle_batch(self, batch: Sequence[Entry]) -> None:
        """See that each entry is done, scheduled or buried. Raises what says that PostgreSQL is away: do it again then."""
        messages: list[Envelope] = []
        entries: list[Entry] = []
        for entry in batch:
            try:
                messages.append(from_fields(entry.fields))
                entries.append(entry)
            except ValueError as error:
                await self._bury(entry, error, Failure.POISON)
        if not entries:
            return
        try:
            await self._apply(messages)
        except HandlerError as failure:
            cause = cast(Exception, failure.__cause__)
            if isinstance(cause, DATABASE_OUTAGES) and failure_of(cause) is Failure.TRANSIENT:
                raise cause from None
            if len(entries) == 1:
                await self._fail(entries[0], cause)
                return
            for entry in entries:
                await self._handle_batch([entry])
        else:
            self.handled += len(entries)
            self._finish([entry.id for entry in entries])

    async def _apply(self, messages: Sequence[Envelope]) -> None:
        if not self._inbox:
            for message in messages:
                await self._call(None, message)
            return
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_INBOX, self._name, [UUID(message.id) for message in messages])
            new = {str(row["id"]) for row in rows}
            for message in messages:
                if message.id in new:
                    new.remove(message.id)
                    await self._call(connection, message)

    async def _call(self, connection: Any, message: Envelope) -> None:
        try:
            await self._handle(connection, message)
        except Exception as error:
            raise HandlerError from error

    async def _fail(self, entry: Entry, error: Exception) -> None:
        failure = failure_of(error)
        if failure is Failure.POISON or (failure is Failure.BUG and entry.deliveries >= MAX_DELIVERIES):
            await self._bury(entry, error, failure)
            return
        wait = spread(min(self._pause * 2 ** min(entry.deliveries - 1, 16), self._longest_pause))
        _log.warning("%s: %s failed, again in %.1f s: %r", self._name, entry.id.decode(), wait, error)
        self.retried += 1
        await self._group.again(entry.id, wait)
        self._in_hand.discard(entry.id)
        self._room.set()

    async def _bury(self, entry: Entry, error: Exception, failure: Failure) -> None:
        report = Report.of(error, failure, self._version)
        await bury(
            self._pool, self._name, self._stream, entry.id.decode(), entry.fields, report=report,
            attempts=entry.deliveries,
        )  # fmt: skip
        _log.error("%s keeps %s as a dead letter: %r", self._name, entry.id.decode(), error)
        self.dead += 1
        self._finish([entry.id])

    def _finish(self, ids: list[bytes]) -> None:
        self._done += ids
        self._finished.set()

    async def _acknowledge(self) -> None:
        """Acknowledge what was finished while the last acknowledgement was on its way."""
        while True:
            await self._finished.wait()
            ids = list(self._done)
            await self._group.done(ids)
            del self._done[: len(ids)]
            if not self._done:  # and not before: after an outage it is these that must be acknowledged
                self._finished.clear()
            self._in_hand.difference_update(ids)
            self._room.set()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._idle / 4)
            await self._group.keep(self._in_hand)

    async def _tidy(self) -> None:
        forgot = 0.0
        while True:
            await asyncio.sleep(max(1.0, self._idle))
            await self._group.tidy(self._gone_ms)
            if time.monotonic() - forgot > 3600:
                await self._pool.execute(_FORGET, self._name, INBOX_DAYS)
                forgot = time.monotonic()
