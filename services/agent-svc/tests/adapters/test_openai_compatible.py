"""The driver for OpenAI-compatible providers, against a server that speaks their protocol."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvicorn

from agent_svc.adapters.models._driver import DriverSettingsError
from agent_svc.adapters.models.openai_compatible import DRIVER
from agent_svc.testing import MemoryAgentService, a_start
from bizosaas_events.messages.agent import RunCompleted, RunStarted
from bizosaas_ports.agent import AgentFailedError
from bizosaas_ports.model import ChatMessage, ModelPort, ModelUnavailableError


class Provider:
    """Answers each request with the next of `answers`: a status, headers and a body."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], Any]] = []
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        self.requests.append(({k.decode(): v.decode() for k, v in scope["headers"]}, json.loads(body)))
        status, headers, answer = self.answers.pop(0)
        raw = [(k.encode(), v.encode()) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def says(self, text: str = "", *calls: tuple[str, str]) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if calls:
            message["tool_calls"] = [
                {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
                for n, (name, arguments) in enumerate(calls)
            ]
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        self.answers.append((200, {}, {"choices": [{"message": message}], "usage": usage}))


@pytest.fixture
async def provider() -> AsyncIterator[tuple[Provider, ModelPort]]:
    provider = Provider()
    server = uvicorn.Server(uvicorn.Config(provider, port=0, log_level="critical", lifespan="off", ws="none"))
    serving = asyncio.create_task(server.serve())
    for _ in range(200):
        if server.started:
            break
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    settings = {"url": f"http://127.0.0.1:{port}/v1/", "name": "some-model", "key": "k-123"}
    async with DRIVER.open(settings) as model:
        yield provider, model
    server.should_exit = True
    await serving


async def complete(model: ModelPort) -> Any:
    return await model.complete([ChatMessage(role="user", content="Hello")], tools=[], output_schema={})


async def test_a_whole_run_over_the_wire(provider: tuple[Provider, ModelPort]) -> None:
    server, model = provider
    server.says("", ("cms_list_content", "{}"))
    server.says("Now I write.", ("cms_create_draft", '{"title": "Tea", "body": "<p>Tea</p>"}'))
    server.says('```json\n{"title": "Tea", "body": "<p>Tea</p>"}\n```')
    service = MemoryAgentService(model=model)

    reply = await service.ask(a_start())

    assert reply.problem is None
    events = await service.events("run-r1")
    assert isinstance(events[0], RunStarted)
    assert (events[0].model, events[0].simulated) == ("some-model", False)
    assert isinstance(events[-1], RunCompleted)
    assert (events[-1].tokens_in, events[-1].tokens_out) == (30, 15)
    headers, last = server.requests[-1]
    assert headers["authorization"] == "Bearer k-123"
    assert last["messages"][2]["tool_calls"][0]["function"] == {"name": "cms_list_content", "arguments": "{}"}
    assert last["messages"][3]["tool_call_id"] == "c0"
    for tool in last["tools"]:
        assert tool["function"]["parameters"]["type"] == "object"


async def test_a_limit_says_when_to_come_back(provider: tuple[Provider, ModelPort]) -> None:
    server, model = provider
    server.answers = [(429, {"retry-after": "7"}, {}), (503, {}, {}), (200, {}, {"choices": []})]

    for retry_after in (7.0, None, None):
        with pytest.raises(ModelUnavailableError) as away:
            await complete(model)
        assert away.value.retry_after == retry_after
    assert len(server.requests) == 3


async def test_a_refusal_is_not_tried_again_and_not_quoted(provider: tuple[Provider, ModelPort]) -> None:
    server, model = provider
    server.answers = [(401, {}, {"error": {"message": "wrong key k-123"}})]

    with pytest.raises(AgentFailedError) as refused:
        await complete(model)

    assert (refused.value.reason, "k-123" in str(refused.value)) == ("model-refused", False)


async def test_arguments_that_are_no_json_are_left_to_the_gate(provider: tuple[Provider, ModelPort]) -> None:
    server, model = provider
    server.says("", ("cms_list_content", '{"limit": '), ("cms_list_content", "[1]"))

    said = await complete(model)

    assert [request.arguments for request in said.tool_requests] == [{"arguments_that_are_no_json_object": True}] * 2


async def test_nobody_at_the_address_is_an_outage() -> None:
    async with DRIVER.open({"url": "http://127.0.0.1:1/v1", "name": "m"}) as model:
        with pytest.raises(ModelUnavailableError):
            await complete(model)


@pytest.mark.parametrize(
    ("settings", "variable"), [({"name": "m"}, "BIZOS_MODEL_URL"), ({"url": "http://x"}, "BIZOS_MODEL_NAME")]
)
async def test_a_missing_setting_is_named(settings: dict[str, str], variable: str) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(DriverSettingsError, match=variable):
            await stack.enter_async_context(DRIVER.open(settings))
