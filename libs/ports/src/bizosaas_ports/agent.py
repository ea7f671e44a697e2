"""AgentPort: runs one agent on one brief."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from .model import ModelPort, Tier


class AgentDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A published version of an agent, as its YAML file says it."""

    id: str
    name: str
    category: str
    version: int = 0
    """Given when it is published, counting from 1; 0 before."""
    goal: str
    role: str
    backstory: str
    task: str
    """The instruction for one run; `{brief}` is replaced by the brief as JSON."""
    tools: list[str]
    """`<port>.<operation>`, in the natural calling order: the only ones it can use."""
    output: str
    """The name of its output type."""
    tier: Tier
    max_steps: int = 0
    """Tool calls in one run; 0: the tier's."""
    timeout_s: int = 0
    """Seconds for one run; 0: the tier's."""


class AgentOutcome(msgspec.Struct, frozen=True, kw_only=True):
    output: dict[str, Any]
    steps: int
    """Answers of the model and tool calls."""
    tokens_in: int
    tokens_out: int


class AgentFailedError(Exception):
    """The run ended without a typed output; `reason` is a slug, the message one sentence without outside data."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ToolDenial(msgspec.Struct, frozen=True, kw_only=True, tag_field="problem", tag="denied"):
    """What the model reads when the gate said no. Asking again changes nothing."""

    rule: str
    detail: str


class ToolFailure(msgspec.Struct, frozen=True, kw_only=True, tag_field="problem", tag="failed"):
    """What the model reads when an allowed call failed."""

    reason: str
    detail: str


UseTool = Callable[[str, dict[str, Any]], Awaitable[msgspec.Raw]]
"""The tool gate of one run: operation and untrusted arguments in; the result, a ToolDenial or a ToolFailure out, as JSON.

It raises only when the run cannot go on at all: the platform itself is away, or the run's ledger does not fit.
"""


class AgentPort(Protocol):
    """An engine for agents. One call is one run; a run shares nothing with another."""

    async def run(
        self, definition: AgentDefinition, brief: dict[str, Any], use_tool: UseTool, model: ModelPort
    ) -> AgentOutcome:
        """Work until the typed output is there; cancelling stops before the next tool.

        Tools are used one at a time, in the order the model asked, so that a
        run can be resumed from its recorded steps. Raises AgentFailedError,
        and unchanged what `use_tool` or `model` raise.
        """
