"""ModelPort: a large language model behind one call."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

Tier = Literal["fast", "balanced", "deep"]


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: list["ToolRequest"] = []
    tool_call_id: str = ""


class ToolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The model asks for one tool; `arguments` is untrusted."""

    id: str
    name: str
    arguments: dict[str, Any]


class ToolOffer(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    schema: dict[str, Any]
    """JSON Schema of the arguments."""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What the model answered: text, or tools it asks for."""

    text: str = ""
    tool_requests: list[ToolRequest] = []
    tokens_in: int = 0
    tokens_out: int = 0


class ModelUnavailableError(Exception):
    """The provider is away or limits us; `retry_after` in seconds where it said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelPort(Protocol):
    """One driver. `name` goes into events; `simulated` marks answers that no model gave."""

    name: str
    simulated: bool

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolOffer], output_schema: dict[str, Any]
    ) -> Completion:
        """The next answer. One try; raises ModelUnavailableError. `output_schema`: what the final text must fit."""
