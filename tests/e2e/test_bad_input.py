"""Bad input, a case a line: a problem with a stable type, the field and the remedy, and nothing recorded."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from redis import Redis, RedisCluster

from bizosaas_cli.client import Client
from bizosaas_cli.story import PASSWORD, Story
from bizosaas_cli.testing import Platform, eventually
from bizosaas_events.bus.connecting import address_of
from bizosaas_events.testing.waiting import until
from connector_svc.testing.faults import FaultyProxy, answers, cuts, waits_for

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("platform")]

WAIT = {"Prefer": "wait=10"}
NOBODYS = "0192aaaa-0000-7000-8000-000000000000"
SITE = {"site_url": "http://127.0.0.1:9"}
GOOD = {
    "connector": "wordpress", "label": "Blog", "settings": SITE,
    "credentials": {"username": "ada", "application_password": "abcd"},
}  # fmt: skip


def is_problem(answer: httpx.Response, status: int, slug: str, field: str | None = None) -> dict[str, Any]:
    """What every refusal of the API looks like."""
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["remedy"]
    assert field is None or problem.get("field", "") == field, problem
    return problem


@pytest.fixture(scope="module")
def recorded(platform: Platform, played: Story) -> Iterator[Callable[[], int]]:
    """How many events all services have recorded, once every command that was sent is handled."""
    with contextlib.ExitStack() as opened:
        urls = [service.settings["BIZOS_DATABASE_URL"] for service in platform.machine.services.values()]
        logs = [opened.enter_context(psycopg.connect(url, autocommit=True)) for url in urls]
        address, of_a_cluster = address_of(platform.machine.servers[1].url)
        redis: Any = opened.enter_context((RedisCluster if of_a_cluster else Redis).from_url(address))

        def handled() -> bool:
            streams = list(redis.scan_iter("{*:cmd:*}", count=1000))
            assert len(streams) >= 5
            ends = [redis.xinfo_stream(stream)["last-generated-id"] for stream in streams]
            groups = [group for stream in streams for group in redis.xinfo_groups(stream)]
            return [group["last-delivered-id"] for group in groups] == ends and not any(g["pending"] for g in groups)

        def count() -> int:
            assert eventually(handled), "commands are still waiting"
            select = "select coalesce(sum(position), 0)::int from event_partition"
            return sum(row[0] for log in logs for row in log.execute(select))

        yield count


@pytest.fixture
def nothing_changes(recorded: Callable[[], int]) -> Iterator[None]:
    before = recorded()
    yield
    assert recorded() == before


@pytest.fixture
def ada(played: Story) -> httpx.Client:
    """The tenant admin, over bare HTTP."""
    return played.people["ada"].http


@pytest.fixture
def uma(played: Story) -> httpx.Client:
    """The tenant user, likewise."""
    return played.people["uma"].http


@pytest.fixture(scope="module")
def eve(platform: Platform, played: Story) -> Iterator[httpx.Client]:
    """The admin of another tenant."""
    with platform.story() as other:
        other.sign_up()
        yield other.people["ada"].http


def body(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize(
    ("sent", "slug", "field"),
    [
        (b"hello", "malformed-json", ""),
        (b"", "malformed-json", ""),
        (b'{"connector": "wordpress"', "malformed-json", ""),
        (b'{"connector": "\xff"}', "malformed-json", ""),
        (body() + b"{}", "malformed-json", ""),
        (body().replace(b"Blog", b"\\ud800"), "malformed-json", ""),
        (body().decode().encode("utf-16"), "malformed-json", ""),
        (b"[]", "invalid-field", ""),
        (b"null", "invalid-field", ""),
        (b'{"label": "Blog", "credentials": {}}', "invalid-field", "connector"),
        (body(label=5), "invalid-field", "label"),
        (body(label=""), "invalid-field", "label"),
        (body(label="x" * 201), "invalid-field", "label"),
        (body(label="💥" * 101), "label-invalid", "label"),
        (body(label="a\0b"), "invalid-field", ""),
        (body(settings=[]), "invalid-field", "settings"),
        (body(credentials={"username": 5}), "invalid-field", "credentials[...]"),
        (body(labell="Blog"), "unknown-field", "labell"),
        (body(connector="myspace"), "unknown-connector", "connector"),
        (body(connector="../_oauth"), "unknown-connector", "connector"),
        (body(connector="openid"), "wrong-connection-method", "connector"),
        (body(settings={}), "setting-invalid", "settings.site_url"),
        (body(settings=SITE | {"colour": "red"}), "setting-invalid", "settings.colour"),
        (body(settings={"site_url": "ftp://example.com"}), "setting-invalid", "settings.site_url"),
        (body(settings={"site_url": "http://me:pw@example.com"}), "setting-invalid", "settings.site_url"),
        (body(settings={"site_url": "http://\u202e.com"}), "setting-invalid", "settings.site_url"),
        (body(settings={"site_url": "http://a\r\nX-Evil: 1"}), "setting-invalid", "settings.site_url"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_by_field(ada: httpx.Client, sent: bytes, slug: str, field: str) -> None:
    answer = ada.post("/v1/connections", content=sent, headers={"Content-Type": "application/json"} | WAIT)

    is_problem(answer, 400, slug, field)


@pytest.mark.usefixtures("nothing_changes")
def test_a_body_nested_too_deeply_is_refused(ada: httpx.Client) -> None:
    deep = b'{"name": "content_approval", "input": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}"

    is_problem(
        ada.post("/v1/workflows", content=deep, headers={"Content-Type": "application/json"}), 400, "malformed-json"
    )


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("kibibytes", [1025, 20_000])
@pytest.mark.parametrize("length_is_announced", [True, False])
def test_a_body_over_one_mebibyte_is_refused(ada: httpx.Client, kibibytes: int, length_is_announced: bool) -> None:
    pieces = [b" " * 1024] * kibibytes
    sent = b"".join(pieces) if length_is_announced else iter(pieces)

    is_problem(ada.post("/v1/workflows", content=sent, headers={"Content-Type": "application/json"}), 413, "too-large")


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_is_not_json_is_refused(ada: httpx.Client, media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}

    is_problem(
        ada.post("/v1/connections", content=body(), headers=headers), 415, "unsupported-media-type", "Content-Type"
    )


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize(
    ("path", "status", "slug", "field"),
    [
        ("/v1/nothing", 404, "unknown-path", ""),
        ("/v1/connections/%00", 404, "unknown-path", ""),
        ("/v1/connections/..%2f..%2fetc", 404, "unknown-path", ""),
        ("/v1/connections/" + "a" * 5000, 404, "unknown-path", ""),
        ("/docs/..%2f..%2fsettings.py", 404, "unknown-path", ""),
        (f"/v1/connections/{NOBODYS}", 404, "not-found", ""),
        ("/v1/commands/none", 404, "not-found", ""),
        ("/v1/connections?limit=0", 400, "invalid-parameter", "limit"),
        ("/v1/connections?limit=201", 400, "invalid-parameter", "limit"),
        ("/v1/connections?limit=%D9%A3", 400, "invalid-parameter", "limit"),
        ("/v1/connections?cursor=zzz", 400, "invalid-parameter", "cursor"),
        ("/v1/connections?cursor=OTk5OS0xMi0zMVQyMzo1OTo1OS0yMzo1OSBh", 400, "invalid-parameter", "cursor"),
        ("/v1/connections?label=%00", 400, "invalid-parameter", "label"),
        ("/v1/connections?status=purple", 400, "invalid-parameter", "status"),
        ("/v1/connections?colour=red", 400, "invalid-parameter", "colour"),
        ("/v1/audit/history?subject=%00", 400, "invalid-parameter", "subject"),
        ("/v1/audit/history?before=never", 400, "cursor-invalid", "before"),
        (f"/v1/audit/state/connection/{NOBODYS}?at=yesterday", 400, "invalid-parameter", "at"),
        (f"/v1/audit/state/connection/{NOBODYS}?at=2026-01-01", 400, "invalid-parameter", "at"),
        (f"/v1/audit/state/planet/{NOBODYS}?at=2026-01-01T00:00:00Z", 404, "not-found", ""),
    ],
)
def test_an_address_that_does_not_fit_is_refused_by_parameter(
    ada: httpx.Client, path: str, status: int, slug: str, field: str
) -> None:
    is_problem(ada.get(path), status, slug, field)


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize(
    ("headers", "status", "slug", "field"),
    [
        ({}, 428, "precondition-required", "If-Match"),
        ({"If-Match": "*"}, 400, "invalid-parameter", "If-Match"),
        ({"If-Match": "5"}, 400, "invalid-parameter", "If-Match"),
        ({"If-Match": '"5", "6"'}, 400, "invalid-parameter", "If-Match"),
        ({"If-Match": '"1"'}, 412, "stale-version", "If-Match"),
        ({"If-Match": '"1"', "Idempotency-Key": "two words"}, 400, "invalid-parameter", "Idempotency-Key"),
        ({"If-Match": '"1"', "Idempotency-Key": "x" * 256}, 400, "invalid-parameter", "Idempotency-Key"),
        ({"If-Match": '"1"', "Prefer": "wait=soon, wait=10"}, 412, "stale-version", "If-Match"),
    ],
)
def test_a_change_with_a_header_that_does_not_fit_is_refused_by_header(
    ada: httpx.Client, played: Story, headers: dict[str, str], status: int, slug: str, field: str
) -> None:
    answer = ada.patch(f"/v1/connections/{played.blog}", json={"label": "Changed"}, headers=WAIT | headers)

    is_problem(answer, status, slug, field)


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("position", ["x", "tenant/1", "tenant/999@1", "planet/1@1", "tenant/-1@1"])
def test_a_position_that_is_not_ours_is_refused(ada: httpx.Client, position: str) -> None:
    answer = ada.get("/v1/connections", headers={"Read-After": position})

    is_problem(answer, 400, "invalid-parameter", "Read-After")


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 20])
def test_a_stream_resumes_behind_an_event_of_its_own_only(ada: httpx.Client, last: str) -> None:
    is_problem(ada.get("/v1/stream", headers={"Last-Event-ID": last}), 400, "invalid-parameter", "Last-Event-ID")


def test_a_stream_resumes_exactly_behind_the_event_that_was_seen_last(ada: httpx.Client) -> None:
    def first(last: str, number: int) -> list[str]:
        with ada.stream("GET", "/v1/stream", headers={"Last-Event-ID": last}) as stream:
            ids = (line for line in stream.iter_lines() if line.startswith("id:"))
            return [next(ids) for _ in range(number)]

    whole = first("0", 5)

    assert first(whole[1].removeprefix("id: "), 3) == whole[2:]


# ---- who asks ----


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Authorization": "Bearer"}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"},
        {"Cookie": "__Host-bizos_session=nonsense"}, {"Cookie": "__Host-bizos_session"},
    ],
)  # fmt: skip
def test_nobody_is_told_to_sign_in(platform: Platform, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{platform.machine.url}/v1/me", headers=headers)

    is_problem(answer, 401, "not-signed-in")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_session_that_was_signed_out_is_over_at_once(platform: Platform, played: Story) -> None:
    with Client.signed_in(platform.machine.url, played.emails["uma"], PASSWORD) as again:
        assert again.send("DELETE", "/v1/sessions/current").status_code == 204
        is_problem(again.send("GET", "/v1/me"), 401, "not-signed-in")


@pytest.mark.usefixtures("nothing_changes")
def test_a_change_by_cookie_needs_the_csrf_token(platform: Platform, ada: httpx.Client) -> None:
    token = ada.headers["Authorization"].removeprefix("Bearer ")
    cookie = {"Cookie": f"__Host-bizos_session={token}"}
    url = f"{platform.machine.url}/v1/workflows"

    is_problem(httpx.post(url, json={}, headers=cookie), 403, "csrf-token-missing", "X-CSRF-Token")
    forged = cookie | {"X-CSRF-Token": "guessed"}
    is_problem(httpx.post(url, json={}, headers=forged), 403, "csrf-token-missing", "X-CSRF-Token")
    told = httpx.get(f"{platform.machine.url}/v1/me", headers=cookie).json()["csrf_token"]
    is_problem(httpx.post(url, json={}, headers=cookie | {"X-CSRF-Token": told}), 400, "invalid-field", "name")


def test_signing_in_tells_neither_who_exists_nor_lets_anybody_guess_on(platform: Platform, played: Story) -> None:
    def attempt(email: str) -> httpx.Response:
        guess = {"email": email, "password": "a wrong password"}
        return httpx.post(f"{platform.machine.url}/v1/sessions", json=guess, timeout=30)

    known = is_problem(attempt(played.emails["petra"]), 401, "sign-in-refused")
    unknown = is_problem(attempt("nobody@nowhere.test"), 401, "sign-in-refused")
    assert {**known, "instance": ""} == {**unknown, "instance": ""}
    for _ in range(9):
        attempt("nobody@nowhere.test")
    stopped = attempt("nobody@nowhere.test")
    is_problem(stopped, 429, "rate-limited")
    assert int(stopped.headers["Retry-After"]) > 60


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize(
    ("person", "method", "path", "permission"),
    [
        ("uma", "POST", "/v1/connections", "manage_integrations"),
        ("uma", "PATCH", "/v1/connections/{blog}", "manage_integrations"),
        ("uma", "DELETE", "/v1/connections/{blog}", "manage_integrations"),
        ("uma", "POST", "/v1/connections/{blog}/check", "manage_integrations"),
        ("uma", "POST", "/v1/connections/{blog}/calls", "manage_integrations"),
        ("uma", "GET", "/v1/connections/{blog}/calls", "manage_integrations"),
        ("uma", "POST", "/v1/oauth/authorize/openid", "manage_integrations"),
        ("uma", "POST", f"/v1/approvals/{NOBODYS}/decision", "manage_integrations"),
        ("uma", "GET", "/v1/secrets", "manage_integrations"),
        ("uma", "GET", "/v1/audit/history", "manage_integrations"),
        ("uma", "GET", "/v1/audit/state/connection/{blog}", "manage_integrations"),
        ("uma", "GET", "/v1/tenants/{tenant}/members", "manage_integrations"),
        ("ada", "POST", "/v1/tenants", "tenant_management"),
        ("ada", "POST", "/v1/tenants/{tenant}/members", "tenant_management"),
        ("ada", "POST", "/v1/audit/verifications", "platform_management"),
    ],
)
def test_a_role_that_may_not_is_told_which_permission_is_missing(
    played: Story, person: str, method: str, path: str, permission: str
) -> None:
    path = path.format(blog=played.blog, tenant=played.tenant)

    answer = played.people[person].http.request(method, path, headers=WAIT)

    assert permission in is_problem(answer, 403, "permission-missing")["detail"]


@pytest.mark.usefixtures("nothing_changes")
def test_nobody_acts_for_another_tenant_but_who_manages_the_platform(eve: httpx.Client, played: Story) -> None:
    answer = eve.get("/v1/connections", headers={"Bizos-Tenant": played.tenant})

    assert "platform_management" in is_problem(answer, 403, "permission-missing")["detail"]


def ids_of(played: Story) -> dict[str, str]:
    """One id of each kind of object of a tenant, by the name it has in the API's paths."""
    ada = played.people["ada"]
    ids = {"connection_id": played.blog, "tenant_id": played.tenant}
    for kind in ("run", "workflow", "approval", "secret"):
        ids[f"{kind}_id"] = ada.ask("GET", f"/v1/{kind}s")["items"][0]["id"]
    ids["member_id"] = ada.ask("GET", f"/v1/tenants/{played.tenant}/members")["items"][0]["id"]
    ids["command_id"] = ada.ask("GET", "/v1/audit/history")["entries"][0]["causation_id"]
    return ids


@pytest.mark.usefixtures("nothing_changes")
def test_another_tenants_objects_are_answered_like_unknown_ones_on_every_route(
    eve: httpx.Client, played: Story
) -> None:
    theirs = ids_of(played)
    bodies = {
        "call_operation": {"operation": "cms.list_content", "arguments": {}},
        "rename_connection": {"label": "Mine now"},
        "decide_approval": {"verdict": "approved", "arguments_digest": "x"},
    }
    asked = 0
    for path, operations in eve.get("/openapi.json").json()["paths"].items():
        if not any(f"{{{name}}}" in path for name in (*theirs, "kind")):
            continue
        for method, operation in operations.items():
            told = []
            for known in (True, False):
                ids = {name: id if known else NOBODYS for name, id in theirs.items()}
                address = path.format(kind="connection", id=ids["connection_id"], **ids)
                answer = eve.request(
                    method, address, params={"at": "2099-01-01T00:00:00Z"} if "{kind}" in path else None,
                    json=bodies.get(operation["operationId"], {}) if method != "get" else None,
                    headers=WAIT | {"If-Match": '"1"'},
                )  # fmt: skip
                told.append((answer.status_code, answer.json()["type"]))
            assert told[0] == told[1], address
            assert told[0][0] in (403, 404), address
            asked += 1
    assert asked >= 18


# ---- OAuth ----


def begin(ada: httpx.Client, *, after: str = "", **more: str) -> dict[str, Any]:
    headers = WAIT | ({"Read-After": after} if after else {})
    begun = ada.post("/v1/oauth/authorize/openid", json={"label": "Vendor", **more}, headers=headers)
    assert begun.status_code == 201, begun.text
    return dict(begun.json())


def state_of(begun: dict[str, Any]) -> str:
    return httpx.URL(begun["url"]).params["state"]


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize(
    ("query", "slug", "field"),
    [
        ("", "invalid-parameter", "state"),
        ("state=x", "invalid-parameter", "code"),
        ("state=x&code=y", "oauth-state-unknown", "state"),
        ("state=%00&code=y", "invalid-parameter", "state"),
        ("state=" + "x" * 5000 + "&code=y", "oauth-state-unknown", "state"),
        ("state=%3Cscript%3E&error=%3Cscript%3E", "oauth-state-unknown", "state"),
    ],
)
def test_a_callback_that_nobody_here_began_is_refused(ada: httpx.Client, query: str, slug: str, field: str) -> None:
    is_problem(ada.get(f"/v1/oauth/callback?{query}"), 400, slug, field)
    page = ada.get(f"/v1/oauth/callback?{query}", headers={"Accept": "text/html"})
    assert page.status_code == 400
    assert "<script" not in page.text


def test_an_answer_of_the_vendor_is_taken_once(platform: Platform, ada: httpx.Client) -> None:
    begun = begin(ada)
    back = platform.vendor.sign_in(begun["url"])
    wrong_issuer = httpx.URL(back).copy_set_param("iss", "https://evil.example.com")

    is_problem(httpx.get(wrong_issuer), 400, "oauth-issuer-mismatch")
    is_problem(httpx.get(back), 400, "oauth-state-used", "state")
    page = httpx.get(back, headers={"Accept": "text/html"})
    assert "Not connected" not in page.text, "who loads the page again is not told that it went wrong"


def test_an_authorization_that_took_too_long_is_refused(platform: Platform, ada: httpx.Client) -> None:
    begun = begin(ada)
    back = platform.vendor.sign_in(begun["url"])
    with psycopg.connect(platform.machine.services["connector-svc"].settings["BIZOS_DATABASE_URL"]) as database:
        old = "update pending_authorization set expires_at = now() - interval '1 second' where connection_id = %s"
        database.execute(old, [begun["connection_id"]])

    is_problem(httpx.get(back), 400, "oauth-state-expired", "state")


def test_who_says_no_at_the_vendor_can_begin_again(platform: Platform, ada: httpx.Client) -> None:
    begun = begin(ada)
    connection = begun["connection_id"]
    refused = {"state": state_of(begun), "error": "access_denied", "error_description": "<b>no</b>"}

    problem = is_problem(ada.get("/v1/oauth/callback", params=refused), 400, "authorization-refused", "error")

    assert "access_denied" in problem["detail"]
    is_problem(ada.get("/v1/oauth/callback", params=refused), 400, "oauth-state-used", "state")
    again = begin(ada, after=begun["position"], connection_id=connection)
    assert httpx.get(platform.vendor.sign_in(again["url"]), timeout=30).json()["connection_id"] == connection


@pytest.mark.usefixtures("nothing_changes")
def test_only_a_connection_of_ones_own_is_authorised_again(eve: httpx.Client, played: Story) -> None:
    for id in (played.vendor, "an-id-of-my-own"):
        answer = eve.post("/v1/oauth/authorize/openid", json={"label": "x", "connection_id": id}, headers=WAIT)
        is_problem(answer, 404, "not-found")


# ---- repeats ----


def test_a_key_stands_for_one_request(recorded: Callable[[], int], uma: httpx.Client, played: Story) -> None:
    headers = WAIT | {"Idempotency-Key": f"once-{played.name}"}
    asked = {"name": "content_approval", "input": {"connection_id": played.blog, "content_id": "1"}}

    first = uma.post("/v1/workflows", json=asked, headers=headers)
    after = recorded()
    again = uma.post("/v1/workflows", json=asked, headers=headers)
    other = uma.post("/v1/workflows", json={**asked, "input": {}}, headers=headers)

    assert first.status_code == 201
    assert again.json() == first.json()
    is_problem(other, 422, "idempotency-key-reused", "Idempotency-Key")
    assert recorded() - after <= 1, "its approval may have been asked for meanwhile, and nothing else"


# ---- the vendor's bad days ----


async def connected_to(vendor: FaultyProxy, platform: Platform, ada: httpx.Client) -> str:
    """The address for calls of a new connection to the blog behind this proxy."""
    username, password = platform.blog.auth("admin")
    sent = GOOD | {
        "settings": {"site_url": vendor.url},
        "credentials": {"username": username, "application_password": password},
    }
    made = await asyncio.to_thread(ada.post, "/v1/connections", json=sent, headers=WAIT)
    assert made.status_code == 201, made.text
    return f"/v1/connections/{made.json()['id']}/calls"


@pytest.mark.parametrize(
    ("fault", "status", "slug"),
    [
        (cuts(applied=False), 503, "provider-down"),
        (answers(500, b"<html>oops</html>", "text/html"), 503, "provider-down"),
        (answers(200, b"<html>maintenance</html>", "text/html"), 503, "provider-down"),
        (answers(200, b'"nonsense"'), 503, "provider-down"),
        (answers(429, Retry_After="1"), 429, "rate-limited"),
        (answers(403, b'{"code":"rest_forbidden"}'), 403, "scope-missing"),
    ],
    ids=["cut off", "an error of its own", "a page instead", "nonsense", "too many requests", "forbidden"],
)
async def test_a_vendor_that_fails_is_told_and_the_connection_works_again_after(
    platform: Platform, ada: httpx.Client, fault: Any, status: int, slug: str
) -> None:
    call = {"operation": "cms.list_content", "arguments": {}}
    async with FaultyProxy(platform.blog.url) as vendor:
        path = await connected_to(vendor, platform, ada)
        vendor.faults.extend([fault] * 3)

        failed = await asyncio.to_thread(ada.post, path, json=call, headers=WAIT)
        vendor.faults.clear()
        await asyncio.sleep(1.1 if status == 429 else 0)  # the vendor's own wish is kept
        works = await asyncio.to_thread(ada.post, path, json=call, headers=WAIT)

    problem = is_problem(failed, status, slug)
    assert status == 403 or int(failed.headers["Retry-After"]) >= 1
    assert "oops" not in problem["detail"]
    assert works.status_code == 200, works.text


async def test_a_slow_vendor_does_not_hold_up_who_asks_and_its_answer_is_not_lost(
    platform: Platform, ada: httpx.Client
) -> None:
    call = {"operation": "cms.list_content", "arguments": {}}
    async with FaultyProxy(platform.blog.url) as vendor:
        path, patience = await connected_to(vendor, platform, ada), {"Prefer": "wait=1"}
        released = asyncio.Event()
        vendor.faults.append(waits_for(released))

        accepted = await asyncio.to_thread(ada.post, path, json=call, headers=patience)
        assert accepted.status_code == 202
        where = accepted.headers["Location"]
        assert (await asyncio.to_thread(ada.get, where)).json()["status"] == "pending"
        released.set()

        async def done() -> bool:
            told = (await asyncio.to_thread(ada.get, where)).json()
            return bool(told["status"] == "done" and told["result"]["data"])

        await until(done)


async def test_a_vendor_that_is_gone_is_told_when_connecting(platform: Platform, ada: httpx.Client) -> None:
    answer = await asyncio.to_thread(ada.post, "/v1/connections", json=GOOD, headers=WAIT)

    is_problem(answer, 503, "provider-down")
    assert int(answer.headers["Retry-After"]) >= 1
