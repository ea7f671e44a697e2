"""Puts workflow-svc together; the only file that knows every concrete class."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bizosaas_events.bus import bind
from bizosaas_events.envelope import now
from bizosaas_runtime.discovery import discover
from bizosaas_runtime.worker import Consumer, Platform, Service

from .. import workflows
from ..adapters.activities import Activities
from ..adapters.temporal import Temporal, TemporalWorker, TemporalWorkflows, runtime
from ..handlers.commands import HANDLERS
from ..handlers.reactions import WorkflowStarter
from ..workflows._definition import WorkflowDefinition
from .settings import Settings


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Service]:
    settings, store = platform.settings, platform.store
    known = definitions()
    temporal = Temporal(
        settings.temporal_address, namespace=settings.temporal_namespace, task_queue=f"{settings.env}-workflow",
        identity=platform.instance, runtime=runtime(),
    )  # fmt: skip
    engine = TemporalWorkflows(await temporal.client(lazy=True), temporal.task_queue)
    activities = Activities(platform.bus, store, now)
    worker = TemporalWorker(temporal, [definition.run for definition in known.values()], activities.all)
    starter = WorkflowStarter(store, engine)
    catalogue = {name: definition.input for name, definition in known.items()}
    yield Service(
        bind(*HANDLERS, store=store, catalogue=catalogue),
        consumers={starter.name: Consumer([store.category], starter.apply)},
        tasks=[worker.run],
        checks={"temporal": engine.problem, "temporal worker": worker.problem},
    )


def definitions() -> dict[str, WorkflowDefinition]:
    """The workflows there are, by name: one per file of `workflows/`."""
    return discover(workflows, WorkflowDefinition, key="name")
