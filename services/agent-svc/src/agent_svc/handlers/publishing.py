"""Publishing the catalogue at start: every file that changed becomes a new, immutable version of its agent."""

from collections.abc import Iterable

from bizosaas_events import Context, execute
from bizosaas_events.store import EventStore
from bizosaas_ports.access import PLATFORM_TENANT, Role
from bizosaas_ports.agent import AgentDefinition
from bizosaas_ports.clock import Clock, NewId

from ..domain.definition import AGENT, Publish


async def publish_catalogue(
    agents: Iterable[AgentDefinition], *, store: EventStore, now: Clock, new_id: NewId
) -> list[str]:
    """Publish what differs from the newest version, and say which agents that were. Processes that start together agree."""
    published = []
    for agent in agents:
        id = new_id()
        context = Context(
            tenant=PLATFORM_TENANT, actor="service:agent-svc", role=Role.SERVICE, time=now(), correlation_id=id,
            causation_id=id,
        )  # fmt: skip
        handled = await execute(store, AGENT, agent.id, Publish(definition=agent), context)
        if handled.recorded:
            published.append(agent.id)
    return published
