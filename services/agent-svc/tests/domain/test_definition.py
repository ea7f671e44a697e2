"""What is decided about agents and their versions."""

import msgspec
import pytest

from agent_svc.domain.definition import AGENT, Publish, digest_of, read_definition
from agent_svc.domain.errors import CatalogueError
from agent_svc.testing import a_document, an_agent
from bizosaas_events import Decider
from bizosaas_events.messages.agent import AgentPublished
from bizosaas_events.testing import given


def published(version: int = 1, **changes: object) -> AgentPublished:
    agent = an_agent(version=version, **changes)
    return AgentPublished(
        agent_id=agent.id, version=version, name=agent.name, category=agent.category, goal=agent.goal, tier=agent.tier,
        tools=agent.tools, output=agent.output, digest=digest_of(agent), definition=msgspec.to_builtins(agent),
    )  # fmt: skip


def test_a_new_agent_is_published_as_its_first_version() -> None:
    given(AGENT).when(Publish(definition=an_agent(version=0))).then(published())


def test_an_unchanged_agent_is_not_published_again() -> None:
    given(AGENT, published()).when(Publish(definition=an_agent(version=0))).then()


def test_a_changed_agent_becomes_the_next_version() -> None:
    changed = an_agent(version=0, goal="Write better.")
    given(AGENT, published()).when(Publish(definition=changed)).then(published(2, goal="Write better."))


def test_a_published_version_stays_what_it_was() -> None:
    decider: Decider = AGENT  # type: ignore[type-arg]  # only folded here
    state = decider.evolve(decider.evolve(decider.initial(), published()), published(2, goal="Write better."))

    assert state.version(1) == an_agent(version=1)
    assert state.newest == an_agent(version=2, goal="Write better.")


def read(document: object) -> object:
    return read_definition(document, file="catalogue/marketing/writer.yaml", id="writer", category="marketing")


def test_the_limits_come_from_the_tier_and_may_be_stricter() -> None:
    found = read(a_document(tier="balanced", max_steps=None, timeout_s=30))

    assert isinstance(found, type(an_agent()))
    assert (found.max_steps, found.timeout_s) == (15, 30)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"colour": "blue"}, "colour", "unknown field"),
        ({"goal": None}, "goal", "required field"),
        ({"tier": "huge"}, "tier", "enum"),
        ({"tools": "cms.publish"}, "tools", "array"),
        ({"tools": ["cms.burn_down"]}, "tools", "cms.create_draft"),
        ({"tools": ["cms.list_content", "cms.list_content"]}, "tools", "twice"),
        ({"tools": [1]}, "tools[0]", "str"),
        ({"output": "Poem"}, "output", "Draft"),
        ({"id": "author"}, "id", "writer"),
        ({"category": "crm"}, "category", "marketing"),
        ({"task": "Write."}, "task", "{brief}"),
        ({"role": " "}, "role", "empty"),
        ({"max_steps": 9}, "max_steps", "1 to 8"),
        ({"timeout_s": 61}, "timeout_s", "1 to 60"),
        ({"timeout_s": -1}, "timeout_s", "1 to 60"),
        ({"version": 3}, "version", "remove it"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_field(
    changes: dict[str, object], field: str, words: str
) -> None:
    document = a_document(**changes)

    with pytest.raises(CatalogueError) as refused:
        read(document)

    assert refused.value.file == "catalogue/marketing/writer.yaml"
    assert refused.value.field == field
    assert words in str(refused.value)


@pytest.mark.parametrize("document", [None, [], "writer", 3])
def test_a_file_that_is_no_mapping_is_refused(document: object) -> None:
    with pytest.raises(CatalogueError, match="mapping"):
        read(document)
