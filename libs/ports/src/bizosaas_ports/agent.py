"""AgentPort: runs one agent on one brief."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec


class AgentDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A published version of an agent, as its YAML file says it."""

    id: str
    name: str
    category: str
    version: int
    goal: str
    role: str
    backstory: str
    task: str
    """The instruction for one run; `{brief}` is replaced by the brief as JSON."""
    tools: list[str]
    """`<port>.<operation>`: the only ones it can use."""
    output: str
    """The name of its output type."""
    tier: str
    max_steps: int
    timeout_s: int


class AgentOutcome(msgspec.Struct, frozen=True, kw_only=True):
    output: dict[str, Any]
    steps: int
    tokens_in: int
    tokens_out: int


class AgentFailedError(Exception):
    """The run ended without a typed output; `reason` is a slug, the message one sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


UseTool = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""The tool gate of one run: operation and untrusted arguments in, the result or a typed denial out."""


class AgentPort(Protocol):
    """An engine for agents. One call is one run; a run shares nothing with another."""

    async def run(self, definition: AgentDefinition, brief: dict[str, Any], use_tool: UseTool) -> AgentOutcome:
        """Work until the typed output is there. Raises AgentFailedError; cancelling stops before the next tool."""
