"""Any provider that speaks OpenAI's chat completions: most of them, and servers for open models.

One request per call; trying again is the business of the run, which also
knows the time it has left.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from bizosaas_ports.agent import AgentFailedError
from bizosaas_ports.model import ChatMessage, Completion, ModelPort, ModelUnavailableError, ToolOffer, ToolRequest

from ._driver import Driver, DriverSettingsError

SECONDS = 120.0


class OpenAICompatibleModel:
    """See `ModelPort`."""

    simulated = False

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.name = name
        self._client = client

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolOffer], output_schema: dict[str, Any]
    ) -> Completion:
        body: dict[str, Any] = {"model": self.name, "messages": [_message(m) for m in messages]}
        if tools:
            body["tools"] = [_tool(tool) for tool in tools]
        try:
            response = await self._client.post("chat/completions", json=body)
        except httpx.TransportError as error:
            raise ModelUnavailableError(f"the provider cannot be reached: {type(error).__name__}") from error
        if response.status_code in (408, 409, 425, 429) or response.status_code >= 500:
            raise ModelUnavailableError(f"the provider answered {response.status_code}", _retry_after(response))
        if response.status_code >= 400:
            raise AgentFailedError("model-refused", f"the provider refused the request with {response.status_code}")
        try:
            return _completion(response.json())
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ModelUnavailableError("the provider's answer is no chat completion") from error


def _message(message: ChatMessage) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": r.id, "type": "function", "function": {"name": r.name, "arguments": json.dumps(r.arguments)}}
            for r in message.tool_calls
        ]
    if message.tool_call_id:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _tool(tool: ToolOffer) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": _inlined(tool.schema)}
    return {"type": "function", "function": function}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with an object at its top, which providers insist on, instead of a reference to one."""
    if "$ref" not in schema:
        return schema
    definitions = dict(schema.get("$defs", {}))
    top = definitions.pop(schema["$ref"].rpartition("/")[2])
    return {**top, "$defs": definitions} if definitions else dict(top)


def _completion(answer: dict[str, Any]) -> Completion:
    message = answer["choices"][0]["message"]
    usage = answer.get("usage") or {}
    return Completion(
        text=message.get("content") or "",
        tool_requests=[
            ToolRequest(
                id=call["id"], name=call["function"]["name"], arguments=_arguments(call["function"]["arguments"])
            )
            for call in message.get("tool_calls") or ()
        ],
        tokens_in=int(usage.get("prompt_tokens", 0)), tokens_out=int(usage.get("completion_tokens", 0)),
    )  # fmt: skip


def _arguments(text: str) -> dict[str, Any]:
    """What cannot be read becomes an argument no operation has, so that the gate refuses it and the model hears why."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"arguments_that_are_no_json_object": True}


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; the header's other form, a date, is too coarse to be of use here."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else None


@asynccontextmanager
async def _open(settings: Mapping[str, str]) -> AsyncIterator[ModelPort]:
    for wanted in ("url", "name"):
        if not settings.get(wanted):
            raise DriverSettingsError(f"BIZOS_MODEL_{wanted.upper()} is missing, which openai_compatible needs")
    headers = {"authorization": f"Bearer {settings['key']}"} if settings.get("key") else {}
    url = settings["url"].rstrip("/") + "/"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=SECONDS, trust_env=False) as client:
        yield OpenAICompatibleModel(client, settings["name"])


DRIVER = Driver("openai_compatible", _open)
