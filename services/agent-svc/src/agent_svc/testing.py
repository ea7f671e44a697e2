"""Builders, and agent-svc on memory adapters, for tests here and elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bizosaas_events import Command, Context, Envelope, Problem, Reply, messages, new_id
from bizosaas_events.bus import answer, bind
from bizosaas_events.bus.base import command_envelope
from bizosaas_events.bus.memory import MemoryCommandBus
from bizosaas_events.envelope import now
from bizosaas_events.messages.agent import StartRun
from bizosaas_events.messages.connector import CallOperation, OperationResult
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_ports.access import Role, allows
from bizosaas_ports.agent import AgentDefinition, AgentPort
from bizosaas_ports.capabilities import operations
from bizosaas_ports.cms import Content, ContentPage
from bizosaas_ports.model import ChatMessage, Completion, ModelPort, ToolOffer, ToolRequest

from .adapters.engine import TapedEngine
from .adapters.memory import LoopAgents, MemoryConnections, MemoryLedger
from .adapters.models.scripted import ScriptedModel, fill
from .adapters.tools import ToolGate
from .domain.gate import Connection, Grant
from .handlers.commands import HANDLERS
from .handlers.publishing import publish_catalogue

CMS = [
    f"cms.{name}" for name in ("list_content", "get_content", "create_draft", "update_draft", "publish", "unpublish")
]


def a_context(tenant: str = "acme", role: str = Role.TENANT_USER) -> Context:
    id = new_id()
    return Context(tenant=tenant, actor="member:ann", role=role, time=now(), correlation_id=id, causation_id=id)


def an_agent(**changes: Any) -> AgentDefinition:
    """A writer, as its file would say it."""
    agent = AgentDefinition(
        id="writer", name="Writer", category="marketing", version=1, goal="Write.", role="Writer",
        backstory="You write.", task="Write from this brief: {brief}", tools=["cms.list_content", "cms.create_draft"],
        output="Draft", tier="fast", max_steps=8, timeout_s=60,
    )  # fmt: skip
    return msgspec.structs.replace(agent, **changes)


def a_document(**changes: Any) -> dict[str, Any]:
    """What YAML makes of an agent's file; None leaves a field out."""
    document = msgspec.to_builtins(an_agent())
    del document["version"]
    document |= changes
    return {key: value for key, value in document.items() if value is not None}


def a_connection(id: str = "wp", status: str = "connected", operations: Sequence[str] = CMS) -> Connection:
    return Connection(id=id, connector="wordpress", status=status, operations=list(operations))


def a_grant(**changes: Any) -> Grant:
    grant = Grant(run_id="run-1", definition=an_agent(), role=Role.TENANT_USER)
    return msgspec.structs.replace(grant, **changes)


def a_start(run_id: str = "r1", agent_id: str = "writer", **brief: Any) -> StartRun:
    return StartRun(run_id=run_id, agent_id=agent_id, brief={"topic": "Green tea", "audience": "beginners"} | brief)


class Script:
    """A model that says these things, one after another; an exception is raised."""

    name = "script"
    simulated = True

    def __init__(self, *says: Completion | Exception) -> None:
        self.says = list(says)
        self.asked: list[Sequence[ChatMessage]] = []

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolOffer], output_schema: dict[str, Any]
    ) -> Completion:
        self.asked.append(list(messages))
        said = self.says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


def ask_for(name: str, n: int = 1, **arguments: Any) -> Completion:
    return Completion(
        tool_requests=[ToolRequest(id=f"t{n}", name=name, arguments=arguments)], tokens_in=1, tokens_out=1
    )


def say(text: str) -> Completion:
    return Completion(text=text, tokens_in=1, tokens_out=1)


A_DRAFT = say('{"title": "Tea", "body": "<p>Tea</p>"}')


@dataclass
class StandInConnector:
    """connector-svc with a CMS behind it: answers CallOperation, and has the effect of an idempotency key once."""

    drafts: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """Tenant and arguments of each draft, by idempotency key."""
    titles: list[str] = field(default_factory=lambda: ["Black tea"])
    refuse: dict[str, Problem] = field(default_factory=dict)
    """What to refuse, by operation."""
    handled: set[str] = field(default_factory=set)

    async def answer(self, envelope: Envelope, command: Command) -> Reply:
        assert isinstance(command, CallOperation)
        if envelope.id in self.handled:
            return Reply(command_id=envelope.id)  # as a real one: it was handled, and nobody stored what it said
        if problem := self.refuse.get(command.operation):
            return Reply(command_id=envelope.id, problem=problem)
        self.handled.add(envelope.id)
        result = OperationResult(
            call_id=f"call-{len(self.handled)}",
            data=msgspec.Raw(msgspec.json.encode(self._do(command, envelope.tenantid))),
        )
        return Reply(command_id=envelope.id, result=msgspec.Raw(msgspec.json.encode(result)))

    def _do(self, command: CallOperation, tenant: str) -> object:
        if command.operation == "cms.list_content":
            items = [Content(id=str(n), title=t, status="published", url="") for n, t in enumerate(self.titles)]
            return ContentPage(items=items, total=len(items))
        if command.operation != "cms.create_draft":
            schema = msgspec.json.schema(operations()[command.operation].result)
            return fill(schema, [command.arguments], schema)
        self.drafts.setdefault(command.idempotency_key, (tenant, command.arguments))
        n = 100 + list(self.drafts).index(command.idempotency_key)
        return Content(
            id=str(n), title=command.arguments.get("title", ""), status="draft", url=f"https://{tenant}.test/?p={n}"
        )


@dataclass
class MemoryAgentService:
    """agent-svc in memory; `ask` answers as the real one would over the streams."""

    agents: AgentPort = field(default_factory=LoopAgents)
    model: ModelPort = field(default_factory=ScriptedModel)
    catalogue: dict[str, AgentDefinition] = field(default_factory=lambda: {"writer": an_agent(version=0)})
    connector: StandInConnector = field(default_factory=StandInConnector)
    connections: MemoryConnections = field(default_factory=lambda: MemoryConnections({"acme": [a_connection()]}))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    store: MemoryEventStore = field(
        default_factory=lambda: MemoryEventStore(messages.codec(), category="agent", source="agent-svc")
    )

    def __post_init__(self) -> None:
        self.bus = MemoryCommandBus(self.store.codec, source="agent-svc")
        self.bus.serve("connector", self.connector.answer)

    async def ask(self, command: Command, context: Context | None = None, id: str | None = None) -> Reply:
        await publish_catalogue(self.catalogue.values(), store=self.store, now=now, new_id=new_id)
        engine = TapedEngine(self.agents, self.model, ToolGate(self.store, self.bus, self.connections), self.ledger)
        handlers = bind(
            *HANDLERS, store=self.store, catalogue=self.catalogue, engine=engine, ledger=self.ledger, now=now
        )
        context = context or a_context()
        envelope = command_envelope(command, context, self.store.codec, id=id or new_id(), source="gateway")
        return await answer(envelope, command, handlers, category="agent", allows=allows, handled=self.store.handled)

    async def events(self, stream: str) -> list[Any]:
        """The decoded events of a stream."""
        return [self.store.codec.decode(envelope) for envelope in await self.store.load(stream)]
