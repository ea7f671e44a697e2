"""Builders, and workflow-svc on memory adapters, for tests here and elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import msgspec
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from bizosaas_events import Command, Context, Envelope, Event, Problem, Reply, messages, new_id
from bizosaas_events.bus import answer, bind
from bizosaas_events.bus.base import command_envelope
from bizosaas_events.bus.memory import MemoryCommandBus
from bizosaas_events.envelope import now
from bizosaas_events.messages.connector import CallOperation, OperationResult
from bizosaas_events.messages.workflow import (
    ApprovalRequested,
    DecideApproval,
    RequestApproval,
    StartWorkflow,
    WorkflowFinished,
)
from bizosaas_events.stopping import stop
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_ports.access import Role, allows
from bizosaas_ports.memory import MemoryWorkflows
from bizosaas_ports.workflow import WorkflowPort

from .adapters.activities import Activities
from .adapters.temporal import Temporal, TemporalWorker, TemporalWorkflows, runtime
from .app.bootstrap import definitions
from .domain.approval import digest_of
from .handlers.commands import HANDLERS
from .handlers.reactions import WorkflowStarter
from .workflows._definition import WorkflowDefinition
from .workflows._steps import approval_id

E = TypeVar("E", bound=Event)

ARGUMENTS = {"id": "17"}
DIGEST = digest_of(ARGUMENTS)
SOON = datetime(2100, 1, 1, tzinfo=UTC)


def first_approval(workflow_id: str) -> str:
    """The id of the first approval that a workflow asks for."""
    return approval_id(workflow_id, 1)


def a_context(
    role: str = Role.TENANT_ADMIN, actor: str = "member:ann", tenant: str = "acme-id", time: datetime | None = None
) -> Context:
    id = new_id()
    return Context(tenant=tenant, actor=actor, role=role, time=time or now(), correlation_id=id, causation_id=id)


def a_start(workflow_id: str = "w1", **input: object) -> StartWorkflow:
    given = {"connection_id": "blog", "content_id": ARGUMENTS["id"]} | input
    return StartWorkflow(workflow_id=workflow_id, name="content_approval", input=given)


def a_request(approval_id: str = "a1", workflow_id: str = "w1", **changes: Any) -> RequestApproval:
    request = RequestApproval(
        approval_id=approval_id, workflow_id=workflow_id, operation="cms.publish", connection_id="blog",
        arguments=ARGUMENTS, requested_by="member:tom", deadline=SOON,
    )  # fmt: skip
    return msgspec.structs.replace(request, **changes)


def a_verdict(
    verdict: Literal["approved", "rejected"] = "approved", approval_id: str = "a1", digest: str = DIGEST
) -> DecideApproval:
    return DecideApproval(approval_id=approval_id, verdict=verdict, arguments_digest=digest)


@dataclass
class MemoryWorkflowService:
    """workflow-svc in memory; `ask` answers as the real one would over the streams, `react` is its consumer."""

    store: MemoryEventStore = field(
        default_factory=lambda: MemoryEventStore(messages.codec(), category="workflow", source="workflow-svc")
    )
    workflows: WorkflowPort = field(default_factory=MemoryWorkflows)
    definitions: dict[str, WorkflowDefinition] = field(default_factory=definitions)
    reacted: dict[int, int] = field(default_factory=dict)
    """How far `react` has come, by partition; forget it, and everything is delivered again."""

    async def ask(self, command: Command, context: Context | None = None, id: str | None = None) -> Reply:
        envelope = command_envelope(
            command, context or a_context(), self.store.codec, id=id or new_id(), source="gateway"
        )
        return await self.answer(envelope, command)

    async def answer(self, envelope: Envelope, command: Command) -> Reply:
        catalogue = {name: definition.input for name, definition in self.definitions.items()}
        handlers = bind(*HANDLERS, store=self.store, catalogue=catalogue)
        return await answer(envelope, command, handlers, category="workflow", allows=allows, handled=self.store.handled)

    async def react(self) -> None:
        """Deliver what has been recorded since, in order; an event that cannot be handed over stays."""
        starter = WorkflowStarter(self.store, self.workflows)
        for head in await self.store.heads():
            for envelope in await self.store.read(head.partition, self.reacted.get(head.partition, 0), 1000):
                await starter.apply(None, [envelope])
                self.reacted[head.partition] = envelope.sequence

    async def events(self, stream: str) -> list[object]:
        """The decoded events of a stream."""
        return [self.store.codec.decode(envelope) for envelope in await self.store.load(stream)]


@dataclass
class MemoryConnectorService:
    """What connector-svc is to a workflow: does each idempotency key once. `problems` come first, one a call."""

    done: dict[str, tuple[CallOperation, Envelope]] = field(default_factory=dict)
    asked: int = 0
    secret: str = "what only the vendor knows"
    """Part of every answer."""
    problems: list[Problem] = field(default_factory=list)

    async def answer(self, envelope: Envelope, command: Command) -> Reply:
        self.asked += 1
        if self.problems:
            return Reply(command_id=envelope.id, problem=self.problems.pop(0))
        if not isinstance(command, CallOperation):
            raise TypeError(f"{command} is not a call")
        repeated = command.idempotency_key in self.done
        self.done.setdefault(command.idempotency_key, (command, envelope))
        result = OperationResult(
            call_id=f"call-{command.idempotency_key[:8]}",
            data=msgspec.Raw(msgspec.json.encode({"id": "17", "title": self.secret})),
            repeated=repeated,
        )
        return Reply(command_id=envelope.id, result=msgspec.Raw(msgspec.json.encode(result)))


SHORTLY = timedelta(seconds=2) / timedelta(hours=1)
"""A deadline for tests, in hours."""


class OnTemporal:
    """workflow-svc on a real Temporal, with everything else in memory; see `on_temporal`."""

    def __init__(self, temporal: Temporal, client: Client, more: Mapping[str, WorkflowDefinition]) -> None:
        self.client = client
        self.engine = TemporalWorkflows(client, temporal.task_queue)
        self.service = MemoryWorkflowService(workflows=self.engine, definitions=definitions() | dict(more))
        self.connector = MemoryConnectorService()
        self.delivers = True
        """Whether events reach Temporal; False holds them back."""
        self.answers = asyncio.Event()
        """Whether workflow-svc's answers reach the workflows; cleared, what is asked is done and the answer waits."""
        self.answers.set()
        bus = MemoryCommandBus(self.service.store.codec)
        bus.serve("workflow", self._answer)
        bus.serve("connector", self.connector.answer)
        activities = Activities(bus, self.service.store, now)
        workflows = [definition.run for definition in self.service.definitions.values()]
        self._worker = TemporalWorker(temporal, workflows, activities.all)
        self._working: asyncio.Task[None] | None = None

    async def _answer(self, envelope: Envelope, command: Command) -> Reply:
        reply = await self.service.answer(envelope, command)
        await self.answers.wait()
        return reply

    async def start_worker(self) -> None:
        self._working = asyncio.create_task(self._worker.run())

    async def stop_worker(self) -> None:
        if self._working is not None:
            await stop([self._working])

    async def deliver(self) -> None:
        """Hand events over as they are recorded, until cancelled."""
        while True:
            if self.delivers:
                await self.service.react()
            await asyncio.sleep(0.05)

    async def seen(self, event: type[E], stream: str, *, seconds: float = 30) -> E:
        """The first event of a type in a stream, once it is there."""
        async with asyncio.timeout(seconds):
            while True:
                for found in await self.service.events(stream):
                    if isinstance(found, event):
                        return found
                await asyncio.sleep(0.05)

    async def asked(self, workflow_id: str) -> ApprovalRequested:
        """The first approval that this workflow asks for, once it has."""
        return await self.seen(ApprovalRequested, f"approval-{first_approval(workflow_id)}")

    async def finished(self, workflow_id: str) -> WorkflowFinished:
        return await self.seen(WorkflowFinished, f"workflow-{workflow_id}")

    async def told_to_cancel(self, workflow_id: str, *, seconds: float = 30) -> None:
        """Wait until the workflow has been told that it is cancelled, and has acted on it."""
        handle = self.client.get_workflow_handle(workflow_id)
        async with asyncio.timeout(seconds):
            while True:
                types = [event.event_type for event in (await handle.fetch_history()).events]
                if EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED in types:
                    asked = types.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
                    if EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED in types[asked:]:
                        return
                await asyncio.sleep(0.05)

    async def decide(self, asked: ApprovalRequested, verdict: Literal["approved", "rejected"]) -> Reply:
        return await self.service.ask(a_verdict(verdict, asked.approval_id, asked.arguments_digest))


@asynccontextmanager
async def on_temporal(
    address: str, namespace: str, queue: str, more: Mapping[str, WorkflowDefinition] = MappingProxyType({})
) -> AsyncIterator[OnTemporal]:
    """workflow-svc at work on a Temporal server, on a task queue of its own; `more`: workflows of the test's own."""
    temporal = Temporal(address, namespace=namespace, task_queue=queue, identity="workflow-svc", runtime=runtime())
    bench = OnTemporal(temporal, await temporal.client(lazy=True), more)
    await bench.start_worker()
    delivering = asyncio.create_task(bench.deliver())
    try:
        yield bench
    finally:
        await stop([delivering])
        await bench.stop_worker()
