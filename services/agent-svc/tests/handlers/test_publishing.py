"""Publishing the catalogue, on memory adapters."""

import asyncio

from agent_svc.handlers.publishing import publish_catalogue
from agent_svc.testing import an_agent
from bizosaas_events import messages, new_id
from bizosaas_events.envelope import now
from bizosaas_events.messages.agent import AgentPublished
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_ports.agent import AgentDefinition


def a_store() -> MemoryEventStore:
    return MemoryEventStore(messages.codec(), category="agent", source="agent-svc")


async def publish(store: MemoryEventStore, *agents: AgentDefinition) -> list[str]:
    return await publish_catalogue(agents, store=store, now=now, new_id=new_id)


async def test_only_what_changed_becomes_a_new_version() -> None:
    store = a_store()
    assert await publish(store, an_agent(version=0), an_agent(version=0, id="seo")) == ["writer", "seo"]

    assert await publish(store, an_agent(version=0), an_agent(version=0, id="seo", goal="Find.")) == ["seo"]

    events = [store.codec.decode(e) for e in await store.load("agent-seo")]
    assert [e.version for e in events if isinstance(e, AgentPublished)] == [1, 2]


async def test_agents_belong_to_the_platform() -> None:
    store = a_store()
    await publish(store, an_agent(version=0))

    assert [(e.tenantid, e.actorid) for e in await store.load("agent-writer")] == [("platform", "service:agent-svc")]


async def test_processes_that_start_together_publish_one_version() -> None:
    store = a_store()

    await asyncio.gather(*(publish(store, an_agent(version=0)) for _ in range(5)))

    assert len(await store.load("agent-writer")) == 1
