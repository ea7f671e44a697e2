"""A service's process: migrations, command handlers, relay, consumers and health, started and drained together."""

import asyncio
import contextlib
import functools
import gc
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

import asyncpg
import structlog
import uvloop
from redis.exceptions import AuthenticationError, RedisError
from sqlalchemy.exc import OperationalError

from bizosaas_events import Command, Envelope, messages
from bizosaas_events.bus import Handler
from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.consumer import ATTEMPTS, Apply, Enter, Feed, OrderedConsumer
from bizosaas_events.dead_letters import DeadLetters
from bizosaas_events.outages import OUTAGES
from bizosaas_events.projecting import Projector
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop as stop_all
from bizosaas_events.store.migrating import NewerDatabaseError, migrate
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.versions import Projection, Versions

from . import logging, operations, rebuilding, telemetry
from .commands import CommandHost
from .health import Check, Health, HealthServer, require_free
from .measures import Measures
from .settings import ServiceSettings, WrongSettingError, ended_by_wrong_settings, instance_name, load

OUTAGE_SECONDS = 10
"""A relay that has failed for so long makes the process not ready."""
PROJECTION_PACE = 0.01
"""Seconds between two reads of a projection while little comes. Who writes now and then is not slowed down; at 300
writes a second what comes meanwhile shares a transaction."""

_log = structlog.get_logger(__name__)

S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True)
class Platform(Generic[S]):
    """What a running process offers to its service's bootstrap."""

    settings: S
    instance: str
    pool: "asyncpg.Pool[Any]"
    redis: Client
    bus: RedisCommandBus
    store: PostgresEventStore
    measures: Measures


class Consumer(NamedTuple):
    """An ordered consumer: the logs it reads, and what it does with their events."""

    logs: Sequence[str]
    apply: Apply
    whole: bool = False
    """Its effect is worth nothing with an event missing: what cannot be applied holds up its partition until it can."""
    together: bool = False
    """Its effect is within the database alone: events of several partitions may share a transaction."""
    pace: float = 0.0
    """Seconds between two reads, where nobody waits for the effect: one event at a time costs more than several."""


@dataclass(frozen=True)
class Service:
    """What a bootstrap returns: the parts to run. `consumers` by name; `projectors` as `open_projection` makes them."""

    commands: Mapping[type[Command], Handler]
    consumers: Mapping[str, Consumer] = field(default_factory=dict)
    projectors: Sequence[Projector] = ()
    tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    """Further work that goes on until cancelled, such as a Temporal worker."""
    checks: Mapping[str, Check] = field(default_factory=dict)


Bootstrap = Callable[[Platform[S]], contextlib.AbstractAsyncContextManager[Service]]


def run(name: str, settings: type[S], bootstrap: Bootstrap[S], migrations: ModuleType | None = None) -> None:
    """Run the service `name` (`tenant` for tenant-svc) until SIGTERM or SIGINT; then drain and return.

    Waits for a database or a Redis that is away; a missing or wrong setting, or
    a port that is taken, ends the process at once and says so.
    """
    loaded = load(settings)
    require_free("BIZOS_HEALTH_PORT", loaded.host, loaded.health_port)
    logging.configure(f"{name}-svc", loaded.log_level)
    provider = telemetry.configure(f"{name}-svc", loaded.otel_exporter_otlp_endpoint)
    collect_seldom()
    try:
        with ended_by_wrong_settings():
            uvloop.run(_main(name, loaded, bootstrap, migrations))
    finally:
        provider.shutdown()


def collect_seldom() -> None:
    """Let the garbage collector look less often, and never again at what the imports made.

    Events come by the thousand and hold no cycles: at the default threshold a
    third of a replay's time went into looking for some.
    """
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


async def _main(name: str, settings: S, bootstrap: Bootstrap[S], migrations: ModuleType | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = Health()
    health.checks["start"] = lambda: "still starting"
    server = HealthServer(health, settings.host, settings.health_port)
    serving = asyncio.create_task(server.serve())
    working = asyncio.create_task(_work(name, settings, bootstrap, migrations, health, stop))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([serving, working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set() and not working.done():
            _log.error("the health port cannot be served; is it in use?", port=settings.health_port)
        stop.set()
        await working
    finally:
        stopping.cancel()
        server.should_exit = True
        with contextlib.suppress(SystemExit):
            await serving
    _log.info("stopped")


async def _work(
    name: str, settings: S, bootstrap: Bootstrap[S], migrations: ModuleType | None, health: Health, stop: asyncio.Event
) -> None:
    async with open_platform(name, settings, migrations, stop) as platform:
        if platform is None:
            return
        async with bootstrap(platform) as service:
            await _serve(name, platform, service, health, stop)


@contextlib.asynccontextmanager
async def open_platform(
    name: str, settings: S, migrations: ModuleType | None, stop: asyncio.Event, *, remember_seconds: int = 0
) -> AsyncIterator[Platform[S] | None]:
    """Migrate and connect, waiting for what is away; None when `stop` came first.

    `remember_seconds` is for the bus: how long it is known who sent a command.
    Raises WrongSettingError where waiting would not help.
    """
    url = str(settings.database_url)
    if not await _wait(_POSTGRESQL, lambda: _migrated(url, [migrations] if migrations else []), stop):
        yield None
        return
    redis = connect(str(settings.redis_url))
    if not await _wait(_REDIS, lambda: redis.ping(), stop):
        yield None
        return
    instance = instance_name(f"{name}-svc")
    codec = messages.codec()
    async with (
        open_pool(url, min_size=2, max_size=settings.database_connections, command_timeout=30) as pool,
        RedisCommandBus(
            redis, codec, env=settings.env, source=f"{name}-svc", instance=instance, remember_seconds=remember_seconds
        ) as bus,
    ):
        store = PostgresEventStore(pool, codec, category=name, source=f"{name}-svc", partitions=settings.partitions)
        async with Measures(store, pool, redis, env=settings.env) as measures:
            yield Platform(settings, instance, pool, redis, bus, store, measures)
    await redis.aclose()


class _Needed(NamedTuple):
    """A server without which nothing starts: the setting that says where it is, and what says that it is away, or that
    the setting is wrong."""

    name: str
    setting: str
    away: tuple[type[Exception], ...]
    wrong: tuple[type[Exception], ...]


_POSTGRESQL = _Needed(
    "PostgreSQL", "BIZOS_DATABASE_URL", (*OUTAGES, OperationalError),
    (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError, NewerDatabaseError),
)  # fmt: skip
_REDIS = _Needed("Redis", "BIZOS_REDIS_URL", (RedisError, OSError), (AuthenticationError,))


async def _migrated(url: str, packages: Sequence[ModuleType]) -> None:
    # asyncpg tells by a type of its own what libpq, which migrates, tells in a sentence: that a password is wrong.
    await (await asyncpg.connect(url)).close()
    await asyncio.to_thread(migrate, url, *packages)


async def _wait(needed: _Needed, attempt: Callable[[], Awaitable[object]], stop: asyncio.Event) -> bool:
    pause = 0.2
    while not stop.is_set():
        try:
            await attempt()
            return True
        except needed.wrong as error:
            raise WrongSettingError(f"{needed.setting} cannot be used: {error}.") from error
        except needed.away as error:
            _log.warning(f"waiting for {needed.name}", error=str(error).split("\n")[0])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(pause * 2, 2.0)
    return False


def consumer_of(platform: Platform[S], name: str, consumer: Consumer, *, enter: Enter | None = None) -> OrderedConsumer:
    """An ordered consumer, measured; a service's own log is read from its store where Redis no longer has it."""
    settings, store = platform.settings, platform.store
    feeds = [Feed(c, settings.partitions, store if c == store.category else None) for c in consumer.logs]
    made = OrderedConsumer(
        name, feeds, consumer.apply, pool=platform.pool, redis=platform.redis, env=settings.env,
        instance=platform.instance, together=consumer.together, pace=consumer.pace,
        attempts=None if consumer.whole else ATTEMPTS, enter=enter, version=version_of(store.category),
    )  # fmt: skip
    platform.measures.consumers.add(made)
    return made


def relay_of(platform: Platform[S]) -> Relay:
    """The relay of the platform's log, measured."""
    relay = Relay(platform.store, platform.pool, platform.redis, env=platform.settings.env)
    platform.measures.relay = relay
    return relay


async def open_projection(
    platform: Platform[S], logs: Sequence[str], definitions: Sequence[Projection],
    committed: Callable[[Sequence[Envelope]], None] = lambda events: None,
) -> Projector:  # fmt: skip
    """A projection in versions; `committed` is called after each commit of any of them, with what was applied or parked."""

    def make(name: str, apply: Apply, *, enter: Enter) -> OrderedConsumer:
        consumer = consumer_of(platform, name, Consumer(logs, apply, together=True, pace=PROJECTION_PACE), enter=enter)
        consumer.committed = committed
        return consumer

    partitions = dict.fromkeys(logs, platform.settings.partitions)
    pool, redis, env = platform.pool, platform.redis, platform.settings.env
    versions = Versions(definitions[0].name, partitions, pool=pool, redis=redis, env=env)
    projector = Projector(definitions, versions, make, pool)
    await projector.open()
    return projector


def host_of(platform: Platform[S]) -> CommandHost:
    """The host of the commands for the service whose log the platform has."""
    settings = platform.settings
    return CommandHost(
        service=platform.store.category, codec=platform.store.codec, redis=platform.redis,
        redis_url=str(settings.redis_url), pool=platform.pool, env=settings.env, instance=platform.instance,
        workers=settings.workers, idle_ms=settings.command_idle_ms, handled=platform.store.handled,
        version=version_of(platform.store.category),
    )  # fmt: skip


def version_of(service: str) -> str:
    """Of the installed service, which its dead letters tell; empty for one that is not installed, as in tests."""
    for name in (f"bizosaas-{service}-svc", f"bizosaas-{service}"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return ""


async def _serve(name: str, platform: Platform[S], service: Service, health: Health, stop: asyncio.Event) -> None:
    relay = relay_of(platform)
    consumers = [consumer_of(platform, name, consumer) for name, consumer in service.consumers.items()]
    host = host_of(platform)
    letters = DeadLetters(platform.pool, platform.redis)
    projectors = {projector.versions.name: projector for projector in service.projectors}
    operating = operations.handlers(letters, platform.store) | rebuilding.handlers(projectors, platform.store)
    await host.start({**service.commands, **operating})
    health.checks |= {
        "commands": host.problem,
        "relay": lambda: _outage(relay),
        "redis": lambda: _reach(platform.redis.ping, RedisError),
        "postgres": lambda: _reach(lambda: platform.pool.fetchval("select 1"), asyncpg.PostgresError),
        **{f"consumer {c.name}": functools.partial(_stuck, c) for c in consumers},
        **{f"projection {name}": projector.problem for name, projector in projectors.items()},
        **service.checks,
    }
    works: list[Callable[[], Coroutine[Any, Any, None]]] = [
        host.run, relay.run, *(c.run for c in consumers), *(p.run for p in service.projectors)
    ]  # fmt: skip
    tasks = [asyncio.create_task(work()) for work in (*works, *service.tasks)]
    del health.checks["start"]
    _log.info("ready", commands=len(service.commands), consumers=[c.name for c in consumers])
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        health.checks["drain"] = lambda: "draining"
        with contextlib.suppress(RedisError, OSError):
            await host.drain()
        for task in done - {stopping}:
            task.result()  # a task that ended by itself has failed: say why, and let the process be restarted
    finally:
        await stop_all([stopping, *tasks])


def _stuck(consumer: OrderedConsumer) -> str:
    return "; ".join(consumer.failing.values())


def _outage(relay: Relay) -> str:
    seconds = time.monotonic() - relay.failing_since if relay.failing_since else 0.0
    return f"the relay has failed for {seconds:.0f} s" if seconds > OUTAGE_SECONDS else ""


async def _reach(attempt: Callable[[], Any], away: type[Exception]) -> str:
    try:
        await asyncio.wait_for(attempt(), 2)
    except (away, OSError, TimeoutError, asyncpg.InterfaceError) as error:
        return f"away: {type(error).__name__}"
    return ""
