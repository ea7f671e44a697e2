"""The gateway's process: serves at once, works as soon as its database and Redis are there, and drains on SIGTERM."""

import asyncio
import contextlib
import signal

import structlog
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from redis.exceptions import RedisError

from bizosaas_events.dead_letters import DeadLetters
from bizosaas_events.stopping import stop as stop_tasks
from bizosaas_runtime import logging, operations, rebuilding, telemetry
from bizosaas_runtime.health import Health, require_free
from bizosaas_runtime.settings import ended_by_wrong_settings, load
from bizosaas_runtime.worker import collect_seldom, host_of, open_platform, relay_of

from ..adapters import migrations
from .access_log import AccessLog
from .bootstrap import READ_MODEL, application, bootstrap, checks
from .edge import Edge
from .settings import Settings

SENDERS_REMEMBERED_SECONDS = 3600
"""For so long a command that nobody has handled is known to be pending, and whose it is."""
BACKLOG = 1024
CONNECTIONS = 16_384
"""Each open event stream is one; granian's own limit would be the backlog."""

_log = structlog.get_logger(__name__)


def run() -> None:
    """Run until SIGTERM or SIGINT. A missing or wrong setting, or a taken port, ends the process at once and says so."""
    settings = load(Settings)
    logging.configure("gateway", settings.log_level)
    provider = telemetry.configure("gateway", settings.otel_exporter_otlp_endpoint)
    require_free("BIZOS_HTTP_PORT", settings.host, settings.http_port)
    collect_seldom()
    try:
        with ended_by_wrong_settings():
            uvloop.run(serve(settings))
    finally:
        provider.shutdown()


async def serve(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Serve until `stop` is set, or a signal says so."""
    stop = stop or _stopped_by_signals()
    health = Health()
    health.checks["start"] = lambda: "waiting for PostgreSQL and Redis"
    access_log = AccessLog(enabled=settings.log_level in ("DEBUG", "INFO"))
    edge = Edge(
        health, access_log, https=settings.public_url.scheme == "https",
        tracing=bool(settings.otel_exporter_otlp_endpoint),
    )  # fmt: skip
    server = Server(
        edge, address=settings.host, port=settings.http_port, interface=Interfaces.ASGINL, websockets=False,
        log_enabled=False, backlog=BACKLOG, backpressure=CONNECTIONS,
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    working = asyncio.create_task(_work(settings, edge, health, stop))
    try:
        await asyncio.wait([serving, working], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await working
    finally:
        server.stop()  # type: ignore[no-untyped-call]  # granian
        await serving
        access_log.flush()
        _log.info("stopped")


async def _work(settings: Settings, edge: Edge, health: Health, stop: asyncio.Event) -> None:
    remember = SENDERS_REMEMBERED_SECONDS
    async with open_platform("gateway", settings, migrations, stop, remember_seconds=remember) as platform:
        if platform is None:
            return
        async with bootstrap(platform) as gateway:
            # What operators do to the gateway stands in a log of its own, as it does for every service.
            relay, host = relay_of(platform), host_of(platform)
            letters, projectors = DeadLetters(platform.pool, platform.redis), {READ_MODEL: gateway.read_model}
            await host.start(
                operations.handlers(letters, platform.store) | rebuilding.handlers(projectors, platform.store)
            )
            edge.app, edge.gateway = application(), gateway
            tasks = [asyncio.create_task(work()) for work in (gateway.read_model.run, relay.run, host.run)]
            health.checks |= checks(platform, gateway) | {"commands": host.problem}
            del health.checks["start"]
            _log.info("ready", port=settings.http_port)
            stopping = asyncio.create_task(stop.wait())
            try:
                done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
                health.checks["drain"] = lambda: "draining"
                gateway.draining.set()
                if not await edge.drained(settings.drain_seconds):
                    _log.warning("requests in hand are given up", number=edge.in_hand)
                with contextlib.suppress(RedisError, OSError):
                    await host.drain()
                for task in done - {stopping}:
                    task.result()  # none of them ever ends by itself: say why it did
            finally:
                edge.app = None
                await stop_tasks([stopping, *tasks])


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
