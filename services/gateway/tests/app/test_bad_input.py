"""Whatever does not fit is answered by a problem that names the field and the remedy, and changes nothing."""

import json
from typing import Any

import httpx
import pytest

from bizosaas_events.messages.connector import Connect
from gateway.testing import World, connected

GOOD = {"connector": "wordpress", "label": "Blog", "settings": {}, "credentials": {"password": "p"}}


def is_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["detail"].endswith(".")
    assert problem["instance"] == f"urn:request:{answer.headers['X-Request-Id']}"
    return problem


@pytest.mark.parametrize(
    ("body", "slug", "field"),
    [
        (b"", "malformed-json", ""),
        (b"{", "malformed-json", ""),
        (json.dumps(GOOD).encode() + b" x", "malformed-json", ""),
        (b"\xff\xfe", "malformed-json", ""),
        (b"[]", "invalid-field", ""),
        (json.dumps({**GOOD, "colour": "red"}).encode(), "unknown-field", "colour"),
        (json.dumps({**GOOD, "label": 5}).encode(), "invalid-field", "label"),
        (json.dumps({**GOOD, "label": ""}).encode(), "invalid-field", "label"),
        (json.dumps({**GOOD, "settings": {"site_url": 1}}).encode(), "invalid-field", "settings[...]"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "credentials"}).encode(), "invalid-field", "credentials"),
        (json.dumps({**GOOD, "label": "nul\0"}).encode(), "invalid-field", ""),
        (json.dumps({**GOOD, "label": "\ud800"}).encode(), "malformed-json", ""),
    ],
    ids=lambda value: value.decode("latin-1")[:40] if isinstance(value, bytes) else None,
)
async def test_a_body_that_does_not_fit_is_refused(world: World, body: bytes, slug: str, field: str) -> None:
    ada = await world.admin()

    answer = await ada.post("/v1/connections", content=body, headers={"Content-Type": "application/json"})

    problem = is_problem(answer, 400, slug)
    assert problem.get("field", "") == field
    assert problem["remedy"]
    assert world.services.commands(Connect) == []


async def test_a_body_that_is_nested_without_end_is_refused(world: World) -> None:
    ada = await world.admin()
    body = b'{"operation":"cms.list","arguments":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"

    answer = await ada.post("/v1/connections/x/calls", content=body, headers={"Content-Type": "application/json"})

    is_problem(answer, 400, "malformed-json")


async def test_a_body_over_one_mebibyte_is_refused(world: World) -> None:
    ada = await world.admin()
    body = json.dumps({**GOOD, "settings": {"a": "x" * (1024 * 1024)}}).encode()

    async def pieces() -> Any:
        for n in range(0, len(body), 65536):
            yield body[n : n + 65536]

    headers = {"Content-Type": "application/json"}
    is_problem(await ada.post("/v1/connections", content=body, headers=headers), 413, "too-large")
    is_problem(await ada.post("/v1/connections", content=pieces(), headers=headers), 413, "too-large")
    assert world.services.commands(Connect) == []


async def test_a_body_of_exactly_one_mebibyte_is_taken(world: World) -> None:
    ada = await world.admin()
    sent, headers = json.dumps(GOOD).encode(), {"Content-Type": "application/json"}

    taken = await ada.post("/v1/connections", content=sent.ljust(1024 * 1024), headers=headers)

    assert taken.status_code == 202, taken.text
    is_problem(
        await ada.post("/v1/connections", content=sent.ljust(1024 * 1024 + 1), headers=headers), 413, "too-large"
    )


async def test_a_body_that_is_not_json_is_refused(world: World) -> None:
    ada = await world.admin()

    is_problem(await ada.post("/v1/connections", data={"connector": "wordpress"}), 415, "unsupported-media-type")
    is_problem(await ada.post("/v1/connections", content=json.dumps(GOOD)), 415, "unsupported-media-type")


async def test_an_unknown_path_and_a_wrong_method_are_told(world: World) -> None:
    ada = await world.admin()

    is_problem(await ada.get("/v1/nothing"), 404, "unknown-path")
    for odd in ("/%00", "/%ff%fe", "/v1/connections/%00", "/v1/connections/%ff", "/v1/connections/a%20b"):
        is_problem(await ada.get(odd), 404, "unknown-path")
    is_problem(await ada.post("/v1/connections/%00/calls", json={}), 404, "unknown-path")
    wrong = await ada.put("/v1/connections", json={})
    is_problem(wrong, 405, "method-not-allowed")
    assert wrong.headers["Allow"] == "GET, POST"


async def test_a_role_without_the_permission_is_told_which(world: World) -> None:
    uma = await world.member("uma@acme.test", "tenant_user")

    problem = is_problem(await uma.post("/v1/connections", json=GOOD), 403, "permission-missing")

    assert "manage_integrations" in problem["detail"]
    is_problem(await uma.get("/v1/secrets"), 403, "permission-missing")
    is_problem(await uma.post("/v1/tenants", json={"slug": "x", "name": "X"}), 403, "permission-missing")
    assert world.services.commands(Connect) == []


async def test_a_missing_permission_is_told_before_the_body_is_looked_at(world: World) -> None:
    uma = await world.member("uma@acme.test", "tenant_user")

    is_problem(await uma.post("/v1/connections", content=b"{"), 403, "permission-missing")


async def test_an_unknown_connector_is_the_services_own_refusal(world: World) -> None:
    ada = await world.admin()

    answer = await ada.post("/v1/connections", json={**GOOD, "connector": "fax"}, headers={"Prefer": "wait=5"})

    is_problem(answer, 400, "unknown-connector")


async def test_an_id_of_another_tenant_is_as_unknown_as_one_that_never_was(world: World) -> None:
    ada = await world.admin()
    eve = await world.member("eve@evil.test", "tenant_admin", "evil-id")
    made = await connected(ada)
    wait = {"Prefer": "wait=5", "If-Match": '"2"'}

    for method, path, body in [
        ("GET", "/v1/connections/{}", None),
        ("GET", "/v1/connections/{}/calls", None),
        ("PATCH", "/v1/connections/{}", {"label": "Mine"}),
        ("DELETE", "/v1/connections/{}", None),
        ("POST", "/v1/connections/{}/calls", {"operation": "cms.list_content", "arguments": {}}),
    ]:
        theirs = await eve.request(method, path.format(made["id"]), json=body, headers=wait)
        nobodys = await eve.request(method, path.format("x" * 36), json=body, headers=wait)
        one, other = is_problem(theirs, 404, "not-found"), is_problem(nobodys, 404, "not-found")
        assert one["detail"].replace(made["id"], "-") == other["detail"].replace("x" * 36, "-")
    assert (await eve.get("/v1/connections")).json()["items"] == []
    assert (await ada.get(f"/v1/connections/{made['id']}")).json()["label"] == "Blog"


async def test_another_tenant_cannot_be_chosen_without_the_permission(world: World) -> None:
    eve = await world.member("eve@evil.test", "tenant_admin", "evil-id")

    problem = is_problem(
        await eve.get("/v1/connections", headers={"Bizos-Tenant": "acme-id"}), 403, "permission-missing"
    )

    assert "platform_management" in problem["detail"]
    is_problem(await eve.get("/v1/tenants/acme-id/members"), 404, "not-found")
    is_problem(await eve.get("/v1/tenants/acme-id"), 404, "not-found")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=1000", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"),
        ("cursor=AAAA", "cursor"), ("colour=red", "colour"), ("status=purple", "status"), ("reconnect=1", "reconnect"),
        ("label=a%00", "label"), ("cursor=OTk5OS0xMi0zMVQyMzo1OTo1OS0yMzo1OSBh", "cursor"),
    ],
)  # fmt: skip
async def test_a_query_parameter_that_does_not_fit_is_named(world: World, query: str, field: str) -> None:
    ada = await world.admin()

    problem = is_problem(await ada.get(f"/v1/connections?{query}"), 400, "invalid-parameter")

    assert problem["field"] == field
    assert problem["remedy"]


async def test_the_audit_questions_check_what_they_are_asked(world: World) -> None:
    ada = await world.admin()

    is_problem(await ada.get("/v1/audit/history?limit=201"), 400, "invalid-parameter")
    is_problem(await ada.get("/v1/audit/history?colour=red"), 400, "invalid-parameter")
    is_problem(await ada.get("/v1/audit/history?subject=a%00"), 400, "invalid-parameter")
    is_problem(await ada.get("/v1/audit/state/connection/x?at=yesterday"), 400, "invalid-parameter")
    is_problem(await ada.get("/v1/audit/state/connection/x?at=2026-01-01T00:00:00"), 400, "invalid-parameter")
    is_problem(await ada.get("/v1/audit/state/planet/x?at=2026-01-01T00:00:00Z"), 404, "not-found")
    good = await ada.get("/v1/audit/state/connection/x?at=2026-01-01T00:00:00+01:00")
    assert good.status_code == 200
    assert good.json()["at"] == "2026-01-01T00:00:00+01:00"
