"""Command handlers on FastStream, configured so that nothing is lost.

FastStream's Redis defaults lose work (measured: of 1,001 queued entries all
stranded after a SIGKILL; of 100, 96 after a clean SIGTERM). Hence: reads are
bounded, groups start at 0, a failed entry stays pending, a second subscriber
takes over what a silent process left behind, entries in hand are kept alive,
what fails five times becomes a dead letter, and a subscriber that stopped is
started again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Self, cast

import asyncpg
import msgspec
import structlog
from faststream import AckPolicy
from faststream.redis import RedisBroker, RedisClusterBroker, RedisStreamMessage, StreamSub
from faststream.redis.subscriber.usecases import LogicSubscriber
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram
from redis.asyncio import RedisCluster
from redis.exceptions import RedisError, ResponseError

from bizosaas_events import (
    Codec,
    Command,
    Envelope,
    Kind,
    Problem,
    Reply,
    UndecodableError,
    UnknownTypeError,
)
from bizosaas_events.bus import Handler, Names, answer
from bizosaas_events.bus.connecting import Client, address_of, close
from bizosaas_events.bus.redis import Delivery, send_reply
from bizosaas_events.dead_letters import Report, bury
from bizosaas_events.envelope import from_fields
from bizosaas_events.failures import Failure, failure_of
from bizosaas_events.stopping import stop
from bizosaas_ports.access import allows

from . import telemetry

MAX_RECORDS = 10
MAX_DELIVERIES = 5
BLOCK_MS = 1000
"""How long a read waits at most; what comes ends it at once."""
DRAIN_SECONDS = 25.0
HANDLED = Counter("bizos_commands_total", "Handled commands.", ["type", "outcome"])
SECONDS = Histogram("bizos_command_seconds", "Time to handle a command.", ["type"])

_log = structlog.get_logger(__name__)


class Entry(NamedTuple):
    """One entry of the command stream as the handler gets it."""

    id: str
    fields: Mapping[bytes, bytes]


class _Subscription(StreamSub):
    """FastStream copies it deeply for each command and each read, only to put nothing before its name."""

    def add_prefix(self, prefix: str) -> Self:
        return super().add_prefix(prefix) if prefix else self


class CommandHost:
    """Hosts a service's command handlers: reads its stream, answers, keeps and recovers what is pending."""

    def __init__(
        self, *, service: str, codec: Codec, redis: Client, redis_url: str, pool: "asyncpg.Pool[Any]", env: str,
        instance: str, workers: int, idle_ms: int, handled: Callable[[str], Awaitable[Envelope | None]], version: str = "",
    ) -> None:  # fmt: skip
        self._service = service
        self._codec = codec
        self._redis = redis
        self._pool = pool
        self._names = Names(env)
        self._stream = self._names.commands(service)
        self._idle_ms = idle_ms
        self._handled = handled
        self._version = version
        self._handlers: Mapping[type[Command], Handler] = {}
        self._failed: set[str] = set()
        self._consumers = (f"{instance}-live", f"{instance}-recovery")
        self._draining = False
        address, cluster = address_of(redis_url)
        self._broker = (RedisClusterBroker if cluster else RedisBroker)(
            address,
            logger=cast(Any, None),
            apply_types=False,
            parser=self._parse,
            decoder=self._decode,
            graceful_timeout=DRAIN_SECONDS,
        )
        live = _Subscription(
            self._stream, group=service, consumer=self._consumers[0], max_records=MAX_RECORDS, polling_interval=BLOCK_MS
        )
        recovery = _Subscription(
            self._stream,
            group=service,
            consumer=self._consumers[1],
            min_idle_time=idle_ms,
            polling_interval=max(idle_ms // 10, 100),
        )
        self._subscribers: list[LogicSubscriber] = []
        for sub in (live, recovery):
            subscriber = self._broker.subscriber(
                stream=sub, ack_policy=AckPolicy.MANUAL, max_workers=workers, no_reply=True
            )
            subscriber(self._handle)
            self._subscribers.append(subscriber)

    def problem(self) -> str:
        """For readiness: what is wrong with the subscribers."""
        return "" if all(sub.running for sub in self._subscribers) else "the command subscriber has stopped"

    async def start(self, handlers: Mapping[type[Command], Handler]) -> None:
        """Begin to handle commands. Raises redis' ConnectionError when Redis is away."""
        self._handlers = handlers
        await self._provision()
        await self._broker.start()

    async def run(self) -> None:
        """Keep what is pending alive, restart what stopped, trim what is done; until cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(self._idle_ms / 4000)
            ticks += 1
            try:
                # First of all: FastStream stops for good when the group is gone, and without it nothing can be kept.
                for subscriber in self._subscribers:
                    if not subscriber.running and not self._draining:
                        _log.warning("command subscriber restarts")
                        await self._provision()
                        await subscriber.start()
                await self._keep()
                if ticks % 8 == 0:
                    await self._trim()
            except (RedisError, OSError) as error:
                _log.warning("pending commands not kept: Redis is away", error=str(error))

    async def drain(self) -> None:
        """Finish what is in hand, take nothing new, and hand over at once what could not be finished."""
        self._draining = True
        client = await self._broker.connect()
        reading = [task for subscriber in self._subscribers for task in subscriber.tasks]
        await self._broker.stop()
        # It does not wait for them, and one of them may connect anew, to try again what failed as its connection closed.
        await stop(reading)
        if isinstance(client, RedisCluster):
            await close(client)
        for consumer in self._consumers:
            ids = await self._in_hand(consumer)
            if ids:
                await self._redis.xclaim(
                    self._stream, self._service, consumer, 0, ids, idle=1_000_000_000, justid=True, force=False
                )

    async def _provision(self) -> None:
        """The group starts at 0, so that what was sent before the first start is handled too."""
        try:
            await self._redis.xgroup_create(self._stream, self._service, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _keep(self) -> None:
        """Say that we are alive with every entry in hand, those that wait inside the client included."""
        failed, held = set(self._failed), set[str]()
        for consumer in self._consumers:
            ids = await self._in_hand(consumer)
            held.update(ids)
            alive = [id for id in ids if id not in self._failed]
            if alive:
                await self._redis.xclaim(self._stream, self._service, consumer, 0, alive, idle=0, justid=True)
        # What failed here may have been taken over and finished elsewhere; what failed since we began to look has not.
        self._failed -= failed - held

    async def _in_hand(self, consumer: str) -> list[Any]:
        pending = await self._redis.xpending_range(self._stream, self._service, "-", "+", 1000, consumer)
        return [str(entry["message_id"], "ascii") for entry in cast("list[dict[str, bytes]]", pending)]

    async def _trim(self) -> None:
        """Delete what is handled: everything below the oldest pending entry, or below the last one delivered."""
        groups = await self._redis.xinfo_groups(self._stream)
        if not groups:
            return  # lost this moment; nothing is deleted before it is made again
        pending = await self._redis.xpending(self._stream, self._service)
        floor = pending["min"] or groups[0]["last-delivered-id"]
        await self._redis.xtrim(self._stream, minid=floor, approximate=False)

    async def _parse(self, raw: Any, original: Any) -> RedisStreamMessage:
        """Never raises: an entry that cannot be understood must still reach `_handle`, to become a dead letter."""
        parser = original.__self__
        entry = Entry(raw["message_ids"][0].decode(), raw["data"])
        return RedisStreamMessage(
            raw_message=raw, body=entry, headers={}, content_type="application/json", reply_to="", message_id=entry.id,
            correlation_id=entry.id, path={}, batch_headers=[], consumer=parser.consumer, group=parser.group,
        )  # fmt: skip

    async def _decode(self, message: RedisStreamMessage, _: Any) -> Any:
        return message.body

    async def _handle(self, entry: Entry) -> None:
        self._failed.discard(entry.id)
        try:
            try:
                envelope = from_fields(entry.fields)
                command = self._codec.decode(envelope)
                if not isinstance(command, Command):
                    raise UnknownTypeError(f"{envelope.type} is not a command")
            except (UndecodableError, ValueError, UnknownTypeError) as error:
                await self._bury(entry, error, Failure.POISON, 1)
                await self._redis.xack(self._stream, self._service, entry.id)
                return
            await self._answer(entry, envelope, command)
        except BaseException:
            self._failed.add(entry.id)
            raise

    async def _answer(self, entry: Entry, envelope: Envelope, command: Command) -> None:
        structlog.contextvars.bind_contextvars(
            command=envelope.type, command_id=envelope.id, tenant=envelope.tenantid, actor=envelope.actorid
        )
        with (
            telemetry.span(envelope.type, envelope.traceparent, SpanKind.CONSUMER, tenant=envelope.tenantid),
            SECONDS.labels(envelope.type).time(),
        ):
            within = msgspec.structs.replace(envelope, traceparent=telemetry.traceparent())
            try:
                reply = await answer(
                    within, command, self._handlers, category=self._service, allows=allows, handled=self._handled
                )
            except Exception as error:
                if failure_of(error) is Failure.TRANSIENT:
                    # It stays pending until the outage is over, and never becomes a dead letter for it.
                    _log.warning("command waits for an outage to end", error=str(error))
                    raise
                reply = await self._failure(entry, envelope, error)
            outcome = "refused" if reply.problem else "done"
            HANDLED.labels(envelope.type, outcome).inc()
            if reply.problem:
                _log.info("command refused", slug=reply.problem.slug, field=reply.problem.field)
            handled = Delivery(self._stream, self._service, entry.id)
            await send_reply(self._redis, self._names, envelope, reply, handled=handled)

    async def _failure(self, entry: Entry, envelope: Envelope, error: Exception) -> Reply:
        """A bug: try again later, and after `MAX_DELIVERIES` keep the command as a dead letter and say so."""
        pending = await self._redis.xpending_range(self._stream, self._service, entry.id, entry.id, 1)
        deliveries = int(pending[0]["times_delivered"]) if pending else 1
        _log.error("command failed", deliveries=deliveries, exc_info=error)
        HANDLED.labels(envelope.type, "failed").inc()
        if deliveries < MAX_DELIVERIES:
            raise error
        await self._bury(entry, error, failure_of(error), deliveries)
        problem = Problem(
            kind=Kind.UNAVAILABLE, slug="internal", detail="The command failed again and again; it is kept to be read.",
            remedy=f"Tell the operator the command's id, {envelope.id}.",
        )  # fmt: skip
        return Reply(command_id=envelope.id, problem=problem)

    async def _bury(self, entry: Entry, error: Exception, failure: Failure, attempts: int) -> None:
        report = Report.of(error, failure, self._version)
        await bury(self._pool, self._service, self._stream, entry.id, entry.fields, report=report, attempts=attempts)
        HANDLED.labels(entry.fields.get(b"type", b"unknown").decode("utf8", "replace")[:100], "dead").inc()
        _log.error("command became a dead letter", entry=entry.id, reason=str(error)[:200])
