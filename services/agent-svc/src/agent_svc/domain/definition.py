"""An agent: one file of the catalogue, published as immutable versions."""

import hashlib
from typing import ClassVar, NamedTuple, assert_never

import msgspec

from bizosaas_events import Command, Decider
from bizosaas_events.messages.agent import SERVICE, AgentEvent, AgentPublished
from bizosaas_ports.agent import AgentDefinition
from bizosaas_ports.capabilities import operations

from .errors import CatalogueError
from .outputs import OUTPUTS

MOST_TOOLS = 6


class Limits(NamedTuple):
    max_steps: int
    timeout_s: int


TIERS = {"fast": Limits(8, 60), "balanced": Limits(15, 180), "deep": Limits(25, 600)}


class _File(AgentDefinition, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The definition as a person writes it: a misspelt field must not pass for one that was left out."""


def read_definition(document: object, *, file: str, id: str, category: str) -> AgentDefinition:
    """The agent in a file's document, with its tier's limits filled in.

    `id` and `category` are what the file's place says. Raises CatalogueError.
    """
    if not isinstance(document, dict):
        raise CatalogueError(file, "", "must be a mapping of fields")
    if "version" in document:
        raise CatalogueError(file, "version", "is given when the agent is published; remove it")
    try:
        found = msgspec.convert(document, _File)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        raise CatalogueError(file, path.strip("`.") or _named(problem), problem) from error
    _check(found, file, id, category)
    limits = TIERS[found.tier]
    fields = msgspec.structs.asdict(found)
    fields["max_steps"] = found.max_steps or limits.max_steps
    fields["timeout_s"] = found.timeout_s or limits.timeout_s
    return AgentDefinition(**fields)


def _named(problem: str) -> str:
    """The field in a message such as "Object contains unknown field `x`"."""
    parts = problem.split("`")
    return parts[-2] if len(parts) > 2 else ""


def _check(found: AgentDefinition, file: str, id: str, category: str) -> None:
    limits = TIERS[found.tier]
    wrong = {
        "id": found.id != id and f"is {found.id!r}, but the file is called {id!r}",
        "category": found.category != category and f"is {found.category!r}, but the folder is called {category!r}",
        "task": "{brief}" not in found.task and "must say where the brief goes: {brief}",
        "tools": _tool_problem(found.tools),
        "output": found.output not in OUTPUTS
        and f"{found.output!r} is not an output type; there are: {', '.join(sorted(OUTPUTS))}",
        "max_steps": not 0 <= found.max_steps <= limits.max_steps
        and f"may be 1 to {limits.max_steps} in the tier {found.tier}",
        "timeout_s": not 0 <= found.timeout_s <= limits.timeout_s
        and f"may be 1 to {limits.timeout_s} in the tier {found.tier}",
    }
    for field in ("name", "goal", "role", "backstory"):
        wrong[field] = not getattr(found, field).strip() and "must not be empty"
    for field, problem in wrong.items():
        if problem:
            raise CatalogueError(file, field, str(problem))


def _tool_problem(tools: list[str]) -> str:
    known = operations()
    for tool in tools:
        if tool not in known:
            same_port = [name for name in known if name.split(".")[0] == tool.split(".")[0]]
            return f"{tool!r} is not an operation; there are: {', '.join(sorted(same_port or known))}"
    if len(set(tools)) != len(tools):
        return "an operation is named twice"
    return f"more than {MOST_TOOLS}" if len(tools) > MOST_TOOLS else ""


def digest_of(definition: AgentDefinition) -> str:
    """What two versions of an agent differ by; its version number is not part of it."""
    content = msgspec.json.encode(msgspec.structs.replace(definition, version=0), order="sorted")
    return hashlib.sha256(content).hexdigest()


class Publish(Command, frozen=True, kw_only=True, tag="agent.internal.publish"):
    """Make this the newest version, unless it is already."""

    service: ClassVar[str] = SERVICE

    definition: AgentDefinition


class State(msgspec.Struct, frozen=True, kw_only=True):
    versions: tuple[AgentDefinition, ...] = ()

    @property
    def newest(self) -> AgentDefinition | None:
        return self.versions[-1] if self.versions else None

    def version(self, number: int) -> AgentDefinition:
        """A published version. Raises IndexError for one that never was."""
        return self.versions[number - 1]


def decide(command: Publish, state: State) -> list[AgentEvent]:
    digest = digest_of(command.definition)
    if state.newest is not None and digest_of(state.newest) == digest:
        return []
    new = msgspec.structs.replace(command.definition, version=len(state.versions) + 1)
    return [
        AgentPublished(
            agent_id=new.id, version=new.version, name=new.name, category=new.category, goal=new.goal, tier=new.tier,
            tools=new.tools, output=new.output, digest=digest, definition=msgspec.to_builtins(new),
        )
    ]  # fmt: skip


def evolve(state: State, event: AgentEvent) -> State:
    match event:
        case AgentPublished():
            return State(versions=(*state.versions, msgspec.convert(event.definition, AgentDefinition)))
        case _:
            assert_never(event)


AGENT: Decider[Publish, State, AgentEvent] = Decider(category="agent", initial=State, decide=decide, evolve=evolve)
