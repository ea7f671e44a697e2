"""What touches CrewAI's classes: imported by `crew.py` and nobody else, because importing it imports CrewAI.

CrewAI runs its loop in a worker thread. `Bridge` lets that thread wait for a
coroutine on our event loop. One tool of CrewAI's stands for all operations:
what the model asks for reaches the gate as it was asked, unknown names and
wrong arguments included, and CrewAI neither changes a schema nor answers for
the gate.
"""

import asyncio
import concurrent.futures
import json
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from crewai import Agent
from crewai.events.utils.console_formatter import set_suppress_console_output
from crewai.llms.base_llm import BaseLLM
from crewai.tools import BaseTool
from pydantic import BaseModel, PrivateAttr

from bizosaas_ports.agent import AgentDefinition, UseTool
from bizosaas_ports.model import ChatMessage, ToolRequest

from .briefing import Answers, offers, schema_of

TOOL = "use_tool"
CONTEXT_TOKENS = 1_000_000
"""CrewAI puts a result above a quarter of this into a file and adds a tool of its own to read it: never here."""

T = TypeVar("T")


class InterruptedRun(
    BaseException
):  # not an error: CrewAI turns every Exception of a tool into text for the model, this escapes
    """The run cannot go on; `reason` is what was raised on our side."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Bridge:
    """From CrewAI's thread to the event loop, for one run. After `close` nothing of the run starts any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._closed = False
        self._waiting: concurrent.futures.Future[Any] | None = None

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the loop and wait here. Raises InterruptedRun for whatever `work` raises, and after `close`."""
        if self._closed:
            work.close()
            raise InterruptedRun(asyncio.CancelledError())
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waiting = future
        if self._closed:
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise InterruptedRun(asyncio.CancelledError()) from error
        except BaseException as error:
            raise InterruptedRun(error) from error

    def close(self) -> None:
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()


class BridgedLLM(BaseLLM):
    """The only model CrewAI sees: ours. Tools are handed over one at a time, so that their order is fixed.

    The conversation begins with our own words instead of CrewAI's templates,
    which would fill in a `{tools}` that stands in a brief, and would change
    with every release.
    """

    _bridge: Bridge = PrivateAttr()
    _definition: AgentDefinition = PrivateAttr()
    _answers: Answers = PrivateAttr()
    _opening: list[ChatMessage] = PrivateAttr()
    _requests: "deque[ToolRequest]" = PrivateAttr(default_factory=deque)
    _said: dict[str, str] = PrivateAttr(default_factory=dict)
    _messages: list[ChatMessage] = PrivateAttr(default_factory=list)

    @property
    def messages(self) -> list[ChatMessage]:
        """What the model was last asked."""
        return self._messages

    def call(self, messages: Any, tools: Any = None, *_: Any, **__: Any) -> Any:
        if not self._requests:
            self._messages = self._chat(messages)
            offered = offers(self._definition) if tools else []
            said = self._bridge.wait(self._answers.complete(self._messages, offered, schema_of(self._definition)))
            if not said.tool_requests:
                return said.text or "(no answer)"
            self._requests.extend(said.tool_requests)
            self._said[said.tool_requests[0].id] = said.text
        request = self._requests.popleft()
        arguments = json.dumps({"tool": request.name, "arguments": request.arguments})
        return [{"id": request.id, "type": "function", "function": {"name": TOOL, "arguments": arguments}}]

    def _chat(self, messages: Any) -> list[ChatMessage]:
        first = next(n for n, message in enumerate(messages) if message["role"] == "user")
        said_since = [
            ChatMessage(
                role=message["role"],
                content=str(message.get("content") or self._said.get(_first_call(message), "")),
                tool_calls=[_request(call) for call in message.get("tool_calls") or ()],
                tool_call_id=message.get("tool_call_id", ""),
            )
            for message in messages[first + 1 :]
        ]
        return [*self._opening, *said_since]

    def supports_function_calling(self) -> bool:
        return True

    def get_context_window_size(self) -> int:
        return CONTEXT_TOKENS

    def get_input_tokens_count(self, messages: Any, *_: Any, **__: Any) -> int:
        return len(str(messages)) // 4


def _first_call(message: Any) -> str:
    calls = message.get("tool_calls") or ()
    return str(calls[0]["id"]) if calls else ""


def _request(call: Any) -> ToolRequest:
    asked = json.loads(call["function"]["arguments"])
    return ToolRequest(id=call["id"], name=asked["tool"], arguments=asked["arguments"])


class Asked(BaseModel):
    tool: str
    arguments: dict[str, Any]


class GateTool(BaseTool):
    """Every tool of the agent: what it does is decided by the gate."""

    _bridge: Bridge = PrivateAttr()
    _answers: Answers = PrivateAttr()
    _use_tool: UseTool = PrivateAttr()

    def _run(self, tool: str, arguments: dict[str, Any]) -> str:
        return self._bridge.wait(self._answers.use(self._use_tool, tool, arguments))


def bridged_llm(
    bridge: Bridge, definition: AgentDefinition, answers: Answers, opening: list[ChatMessage]
) -> BridgedLLM:
    llm = BridgedLLM(model="bizosaas/model")
    llm._bridge, llm._definition, llm._answers, llm._opening = bridge, definition, answers, opening
    return llm


def gate_tool(bridge: Bridge, answers: Answers, use_tool: UseTool) -> GateTool:
    tool = GateTool(name=TOOL, description="Uses a tool.", args_schema=Asked, cache_function=_never)
    tool._bridge, tool._answers, tool._use_tool = bridge, answers, use_tool
    return tool


def _never(*_: Any) -> bool:
    return False


def agent_of(definition: AgentDefinition, llm: BridgedLLM, tool: GateTool) -> Agent:
    """A fresh agent. What limits it is ours, not CrewAI's: steps, time, retries and the shape of the answer."""
    return Agent(
        role=definition.role, goal=definition.goal, backstory=definition.backstory, llm=llm, tools=[tool],
        # Above our own limit of steps, which ends the run with a reason.
        max_iter=4 * definition.max_steps + 10,
        max_retry_limit=0, cache=False, verbose=False, allow_delegation=False, respect_context_window=False,
        use_better_compaction=False,
    )  # fmt: skip


def quiet() -> None:
    """No status panels on stdout from this task, which they would be otherwise, also without `verbose`."""
    set_suppress_console_output(True)
