"""Every agent of the catalogue: a new file is tested by being there."""

from pathlib import Path
from typing import Any

import pytest

from agent_svc.adapters.briefing import offers, tool_name
from agent_svc.adapters.catalogue import SHIPPED, read_catalogue
from agent_svc.adapters.memory import MemoryConnections
from agent_svc.domain.errors import CatalogueError
from agent_svc.domain.outputs import OUTPUTS
from agent_svc.testing import MemoryAgentService, StandInConnector, a_connection, a_document, a_start
from bizosaas_events import Problem
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.agent import RunOutput, ToolCallDecided
from bizosaas_events.messages.connector import CallOperation
from bizosaas_ports.agent import AgentDefinition
from bizosaas_ports.capabilities import operations

CATALOGUE = read_catalogue()
every_agent = pytest.mark.parametrize("agent", CATALOGUE.values(), ids=CATALOGUE)
MOST_TOKENS_OF_TOOLS = 4000


def service_for(agent: AgentDefinition, **changes: Any) -> MemoryAgentService:
    everything = a_connection(operations=list(operations()))
    changes = {"connections": MemoryConnections({"acme": [everything]})} | changes
    return MemoryAgentService(catalogue={agent.id: agent}, **changes)


def allowed_of(agent: AgentDefinition) -> list[str]:
    """What the gate lets a tenant user's agent do without approval."""
    return [tool for tool in agent.tools if operations()[tool].effect in ("read", "write")]


@every_agent
def test_its_tools_have_names_and_schemas_that_providers_take(agent: AgentDefinition) -> None:
    found = offers(agent)

    assert all(len(offer.name) <= 64 and offer.name.replace("_", "").isalnum() for offer in found)
    assert all(offer.description for offer in found)
    assert sum(len(str(offer.schema)) for offer in found) / 4 < MOST_TOKENS_OF_TOOLS
    assert len({tool_name(tool) for tool in agent.tools}) == len(agent.tools)


@every_agent
async def test_it_uses_its_tools_in_order_and_delivers_its_output(agent: AgentDefinition) -> None:
    service = service_for(agent)

    reply = await service.ask(a_start(agent_id=agent.id))

    output = decode_result(reply, RunOutput)
    assert output.output_type == agent.output
    OUTPUTS[agent.output].model_validate_json(bytes(output.output))
    sent = [command.operation for command, _ in service.bus.sent if isinstance(command, CallOperation)]
    assert sent == allowed_of(agent)
    assert {context.tenant for _, context in service.bus.sent} <= {"acme"}


@every_agent
async def test_without_connections_everything_is_denied_and_it_still_ends(agent: AgentDefinition) -> None:
    service = service_for(agent, connections=MemoryConnections())

    reply = await service.ask(a_start(agent_id=agent.id))

    assert reply.problem is None
    assert service.bus.sent == []
    decided = [e for e in await service.events("run-r1") if isinstance(e, ToolCallDecided)]
    assert [e.operation for e in decided] == agent.tools
    assert {e.verdict for e in decided} <= {"denied"}


@every_agent
async def test_when_its_tools_fail_it_still_ends(agent: AgentDefinition) -> None:
    down = Problem(kind="unavailable", slug="provider-down", detail="The vendor is down.")
    service = service_for(agent, connector=StandInConnector(refuse=dict.fromkeys(agent.tools, down)))

    assert (await service.ask(a_start(agent_id=agent.id))).problem is None


def test_there_is_a_content_creator_that_cannot_publish() -> None:
    agent = CATALOGUE["content-creator"]

    assert (agent.output, agent.tier) == ("Draft", "balanced")
    assert {operations()[tool].effect for tool in agent.tools} == {"read", "write"}


def write(folder: Path, place: str, text: str) -> None:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("place", "text", "words"),
    [
        ("marketing/writer.yaml", "id: [", "catalogue/marketing/writer.yaml: is not YAML"),
        ("marketing/writer.yaml", "id: !!python/object:os.system {}", "is not YAML"),
        ("marketing/writer.yaml", "", "must be a mapping"),
        ("marketing/writer.yaml", "id: writer\n", "missing required field"),
        ("writer.yaml", "id: writer\n", "<category>/<agent>.yaml"),
        ("marketing/writer.yml", "id: writer\n", "<category>/<agent>.yaml"),
    ],
)
def test_a_wrong_file_stops_the_reading_and_is_named(tmp_path: Path, place: str, text: str, words: str) -> None:
    write(tmp_path / "catalogue", place, text)

    with pytest.raises(CatalogueError) as refused:
        read_catalogue(tmp_path / "catalogue")

    assert words in str(refused.value)


def test_one_id_in_two_categories_is_refused(tmp_path: Path) -> None:
    import json

    for category in ("marketing", "sales"):
        write(tmp_path / "catalogue", f"{category}/writer.yaml", json.dumps(a_document(category=category)))

    with pytest.raises(CatalogueError, match="marketing too"):
        read_catalogue(tmp_path / "catalogue")


def test_the_shipped_catalogue_is_part_of_the_package() -> None:
    assert (SHIPPED / "marketing" / "content-creator.yaml").exists()
