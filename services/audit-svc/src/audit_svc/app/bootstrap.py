"""Puts audit-svc together; the only file that knows every concrete class."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bizosaas_events.bus import bind
from bizosaas_events.envelope import now
from bizosaas_events.messages import categories
from bizosaas_runtime.worker import Platform, Service

from ..adapters.ledger import PostgresLedger
from ..handlers import commands, queries
from ..handlers.reactions import Journal
from .settings import Settings


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Service]:
    ledger = PostgresLedger(platform.pool)
    handlers = bind(
        *commands.HANDLERS, *queries.HANDLERS, store=platform.store, ledger=ledger, codec=platform.store.codec, now=now
    )
    yield Service(handlers, consumers={"audit": (categories(), Journal(ledger).apply)})
