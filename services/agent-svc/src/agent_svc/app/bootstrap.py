"""Puts agent-svc together; the only file that knows every concrete class."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from bizosaas_events import new_id
from bizosaas_events.bus import bind
from bizosaas_events.envelope import now
from bizosaas_events.messages import connector
from bizosaas_events.versions import Projection
from bizosaas_ports.model import ModelPort
from bizosaas_runtime.discovery import discover
from bizosaas_runtime.worker import Platform, Service, open_projection

from ..adapters import models
from ..adapters.catalogue import read_catalogue
from ..adapters.connections import TABLES, PostgresConnections
from ..adapters.crew import crew_agents
from ..adapters.engine import TapedEngine
from ..adapters.ledger import PostgresLedger
from ..adapters.models._driver import Driver, DriverSettingsError
from ..adapters.tools import ToolGate
from ..handlers.commands import HANDLERS
from ..handlers.projections import project_connections
from ..handlers.publishing import publish_catalogue
from .settings import Settings

SCRUB_SECONDS = 3600

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Service]:
    """Raises CatalogueError or DriverSettingsError: with such a catalogue or setting the process must not start."""
    settings = platform.settings
    catalogue = read_catalogue()
    ledger = PostgresLedger(platform.pool)
    async with AsyncExitStack() as opened:
        model = await opened.enter_async_context(open_model(settings))
        # The import of CrewAI takes longest, and needs nothing of the rest.
        crew = asyncio.create_task(opened.enter_async_context(crew_agents(settings.crew_threads)))
        published = await publish_catalogue(catalogue.values(), store=platform.store, now=now, new_id=new_id)
        _log.info("catalogue published", agents=len(catalogue), new_versions=published)
        # A change of the table or of the fold is a higher definition, beside the one that is live.
        definitions = [Projection("agent-connections", 1, TABLES, project_connections)]
        connections = await open_projection(platform, [connector.SERVICE], definitions)
        gate = ToolGate(
            platform.store, platform.bus, PostgresConnections(platform.pool, lambda: connections.reading.schema)
        )
        engine = TapedEngine(await crew, model, gate, ledger)
        commands = bind(*HANDLERS, store=platform.store, catalogue=catalogue, engine=engine, ledger=ledger, now=now)
        yield Service(
            commands,
            projectors=[connections],
            tasks=[lambda: _scrub(ledger, settings.abandoned_hours)],
        )


@asynccontextmanager
async def open_model(settings: Settings) -> AsyncIterator[ModelPort]:
    """The model that BIZOS_MODEL_DRIVER names."""
    drivers = discover(models, Driver, key="name")
    driver = drivers.get(settings.model_driver)
    if driver is None:
        known = ", ".join(sorted(drivers))
        raise DriverSettingsError(f"BIZOS_MODEL_DRIVER is wrong: {settings.model_driver!r} is none of {known}")
    given = {"url": settings.model_url, "name": settings.model_name, "key": settings.model_key.get_secret_value()}
    async with driver.open(given) as model:
        yield model


async def _scrub(ledger: PostgresLedger, hours: int) -> None:
    """Forget what tools gave to runs that nobody will finish, such as those of commands that became dead letters."""
    while True:
        scrubbed = await ledger.scrub_abandoned(hours)
        if scrubbed:
            _log.warning("tool results of abandoned runs forgotten", steps=scrubbed)
        await asyncio.sleep(SCRUB_SECONDS)
