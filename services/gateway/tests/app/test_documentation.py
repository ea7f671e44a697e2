"""The API's document, its page, and what its problems mean: without the internet."""

import re

from litestar.routes import HTTPRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from bizosaas_ports.access import Feature
from gateway.app.bootstrap import application
from gateway.app.openapi import document
from gateway.testing import World


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(document(application(), server="http://127.0.0.1:8000")).validate()


def test_every_operation_is_named_described_and_says_what_it_answers() -> None:
    found = document(application(), server="")
    operations = [operation for path in found["paths"].values() for operation in path.values()]

    assert len(operations) > 30
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    assert all("default" in operation["responses"] for operation in operations)
    assert found["paths"]["/v1/connections"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert found["components"]["schemas"]["NewConnection"]["additionalProperties"] is False


def test_every_route_says_what_it_needs_or_that_it_is_public() -> None:
    handlers = [h for route in application().routes if isinstance(route, HTTPRoute) for h in route.route_handlers]
    spoken = [h for h in handlers if h.http_methods != {"OPTIONS"}]

    assert all(("needs" in h.opt) != ("public" in h.opt) for h in spoken)
    assert {h.opt["needs"] for h in spoken if "needs" in h.opt} <= {*Feature, None}
    public = {h.handler_name.rpartition(".")[2] for h in spoken if "public" in h.opt}
    documents = {"openapi_document", "asyncapi_document", "messages_page", "start", "part", "problem"}
    assert public == {"sign_in", "callback", "receive_webhook"} | documents


async def test_the_page_needs_nothing_from_elsewhere(world: World) -> None:
    page = await world.http.get("/docs")
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert parts
    assert all(part.startswith("/docs/") for part in parts)
    for part in parts:
        answer = await world.http.get(part)
        assert answer.status_code == 200
        assert answer.content
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert (await world.http.get("/openapi.json")).json()["openapi"] == "3.1.0"
    assert (await world.http.get("/docs/../settings.py")).status_code == 404
    assert (await world.http.get("/docs/swagger-ui.css.map")).status_code == 404


async def test_a_problems_type_can_be_followed(world: World) -> None:
    problem = (await world.http.get("/v1/me")).json()

    explained = await world.http.get(problem["type"])

    assert explained.status_code == 200
    assert "session" in explained.text
    assert (await world.http.get("/problems/already-decided")).status_code == 200
    assert (await world.http.get("/problems/%3Cscript%3E")).status_code == 404
