"""What nobody foresaw is told by its incident alone; and traces go through."""

import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import httpx
import pytest
from litestar import Litestar, get
from redis.exceptions import ConnectionError as RedisConnectionError

from bizosaas_events.messages.connector import CallOperation
from bizosaas_runtime import telemetry
from bizosaas_runtime.health import Health
from gateway.app.access_log import AccessLog
from gateway.app.answers import Answer
from gateway.app.call import ApiRequest, Gateway
from gateway.app.edge import Edge
from gateway.app.failures import handle
from gateway.app.settings import Settings
from gateway.testing import running

ERRORS = {
    "bug": ValueError("the password is hunter2"),
    "redis": RedisConnectionError("Error 111 connecting"),
    "postgres": asyncpg.CannotConnectNowError("the database system is starting up"),
    "socket": ConnectionRefusedError(111, "refused"),
    "slow": TimeoutError(),
    "sql": asyncpg.DataError("invalid input for query argument $1"),
}


@get("/fail/{name:str}")
async def fail(request: ApiRequest) -> Answer:
    raise ERRORS[request.path_params["name"]]


@pytest.fixture
async def failing() -> AsyncIterator[httpx.AsyncClient]:
    """A route that fails, behind the gateway's own edge."""
    edge = Edge(Health(), AccessLog(enabled=True), https=True, tracing=False)
    edge.app = Litestar(
        [fail], request_class=ApiRequest, openapi_config=None, exception_handlers=cast(Any, {Exception: handle})
    )
    edge.gateway = cast(Gateway, SimpleNamespace(settings=SimpleNamespace(proxies=0)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://test") as client:
        yield client


async def test_a_bug_is_told_by_its_incident_and_nothing_else(
    failing: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bug", "sql"):
        answer = await failing.get(f"/fail/{name}")

        assert answer.status_code == 500
        problem = answer.json()
        assert problem["type"] == "/problems/internal"
        assert "hunter2" not in answer.text
        incident = problem["remedy"].rpartition(" ")[2].rstrip(".")
        assert incident in capsys.readouterr().out


@pytest.mark.parametrize("name", ["redis", "postgres", "socket", "slow"])
async def test_an_outage_is_told_as_one(failing: httpx.AsyncClient, name: str) -> None:
    answer = await failing.get(f"/fail/{name}")

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Errno" not in answer.text
    assert "refused" not in answer.text


async def test_every_request_is_logged_without_its_query(
    failing: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await failing.get("/fail/bug?code=s3cret", headers={"X-Request-Id": "r1"})
    edge = cast(Any, failing)._transport.app
    edge._access_log.flush()

    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    entry = json.loads(line)
    assert (entry["status"], entry["path"], entry["request_id"]) == (500, "/fail/bug", "r1")
    assert "s3cret" not in line


async def test_https_is_insisted_on_where_the_public_address_is_https(failing: httpx.AsyncClient) -> None:
    assert "Strict-Transport-Security" in (await failing.get("/fail/bug")).headers


async def test_a_real_span_is_made_where_traces_are_exported(settings_of: Callable[..., Settings]) -> None:
    telemetry.configure("gateway", "")
    async with running(settings_of(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")) as world:
        ada = await world.admin()
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        call = {"operation": "cms.list", "arguments": {}}
        await ada.post("/v1/connections/x/calls", json=call, headers={"traceparent": parent, "Prefer": "wait=5"})

        ((envelope, _),) = world.services.commands(CallOperation)
        assert envelope.traceparent.startswith("00-0af7651916cd43dd8448eb211c80319c-")
        assert envelope.traceparent != parent
