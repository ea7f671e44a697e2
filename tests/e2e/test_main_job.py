"""The main job, and what must hold of the whole platform after it."""

import asyncio
import contextlib
import json
import secrets
from pathlib import Path

import asyncpg
import httpx
import pytest

from bizosaas_cli.story import PASSWORD, Story
from bizosaas_cli.testing import Platform, everything_in_postgres, everything_in_redis, logs_of
from bizosaas_events.testing.waiting import until
from bizosaas_ports.secret import SecretMissingError
from secret_svc.adapters.cipher import parse_key
from secret_svc.adapters.env import EnvSecretAdapter

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("platform")]


def test_the_story_holds(played: Story) -> None:
    assert all((played.tenant, played.blog, played.vendor, played.content))


async def test_the_history_is_all_that_was_recorded_for_the_tenant(platform: Platform, played: Story) -> None:
    def history() -> dict[str, str]:
        told: dict[str, str] = {}
        before = ""
        while True:
            page = played.people["ada"].ask("GET", f"/v1/audit/history?limit=200{before}")
            told |= {entry["id"]: entry["type"] for entry in page["entries"]}
            if not page.get("next"):
                return told
            before = f"&before={page['next']}"

    recorded = await recorded_for(platform, played.tenant)
    await until(lambda: recorded.items() <= history().items(), what="every event in the journal")
    told = history()
    assert told.items() <= (await recorded_for(platform, played.tenant)).items()

    gate = [entry["words"] for entry in played.history if entry["type"] == "agent.run.tool-call-decided.v1"]
    for tool in ("cms.list_content", "cms.create_draft"):
        assert any(f"the tool gate allowed {tool}" in words for words in gate), gate


async def recorded_for(platform: Platform, tenant: str) -> dict[str, str]:
    """The type of each event of a tenant by its id, from the logs of all services."""
    recorded: dict[str, str] = {}
    for service in platform.machine.services.values():
        connection = await asyncpg.connect(service.settings["BIZOS_DATABASE_URL"])
        rows = await connection.fetch("select id::text, type from event where tenant = $1", tenant)
        recorded |= {row["id"]: row["type"] for row in rows}
        await connection.close()
    return recorded


async def credentials(platform: Platform, played: Story) -> dict[str, str]:
    """What must stand nowhere in clear, by what it is; an authorization is begun and ended for its code."""
    keys, ada = platform.machine.keys, played.people["ada"]
    begun = ada.ask("POST", "/v1/oauth/authorize/openid", {"label": "Scanned for"}, Prefer="wait=10")
    back = httpx.URL(platform.vendor.sign_in(begun["url"]))
    assert httpx.get(back, timeout=30).status_code == 200
    kept = platform.machine.data / "secrets.json"
    store = EnvSecretAdapter(kept, parse_key(keys["BIZOS_SECRET_MASTER_KEY"]))
    tokens: dict[str, str] = {}
    for path in json.loads(kept.read_text())["secrets"]:
        with contextlib.suppress(SecretMissingError):  # of a connection that is closed
            value, _ = await store.get(path)
            secret = json.loads(value) if value.startswith(b"{") else {}
            kinds = ("access_token", "refresh_token")
            tokens |= {f"{kind} of {path}": secret[kind] for kind in kinds if secret.get(kind)}
    assert len(tokens) >= 4, "access and refresh tokens of two connections"
    sessions = {
        f"{name}'s session": who.http.headers["Authorization"].removeprefix("Bearer ")
        for name, who in played.people.items()
    }
    return {
        **tokens,
        **sessions,
        "code": back.params["code"],
        "application password": platform.blog.auth()[1],
        "application password without its spaces": platform.blog.auth()[1].replace(" ", ""),
        "member's password": PASSWORD,
        "admin's password": keys["BIZOS_ADMIN_PASSWORD"],
        "OAuth client secret": platform.vendor.client_secret,
        **{name: value for name, value in keys.items() if name.endswith(("SEALING_KEY", "SIGNING_KEY", "MASTER_KEY"))},
    }


async def test_no_credential_stands_in_clear_in_a_table_a_stream_a_log_or_the_secret_store(
    platform: Platform, played: Story
) -> None:
    tables = await everything_in_postgres(platform)
    places = {**tables, "Redis": await everything_in_redis(platform), "the logs": logs_of(platform)}
    files = [path for path in platform.machine.data.glob("secrets*") if path.is_file()]
    places |= {path.name: path.read_text(errors="replace") for path in files}

    found = [
        (name, place)
        for name, value in (await credentials(platform, played)).items()
        for place, text in places.items()
        if value in text
    ]

    assert found == []
    assert len(tables) > 7 * 5, "the scan looked at every table"


async def test_no_external_data_is_kept_in_a_table(platform: Platform, story: Story) -> None:
    """What a list of posts brought to the agent is gone when its run has ended; what it quoted itself, a title, is not."""
    marker = "externalonly4711"
    post = {"title": "A post", "content": f"<p>{marker}</p>", "excerpt": marker, "status": "publish"}
    made = httpx.post(f"{platform.blog.url}/wp-json/wp/v2/posts", json=post, auth=platform.blog.auth(), timeout=20)
    assert made.status_code == 201
    story.sign_up()
    story.connect()
    asked = {"operation": "cms.list_content", "arguments": {"search": marker}}
    listed = story.do(story.people["ada"], "POST", f"/v1/connections/{story.blog}/calls", asked)
    assert marker in str(listed["result"]["data"]), "the caller is given the data"
    story.write()

    found = [place for place, text in (await everything_in_postgres(platform)).items() if marker in text]

    assert found == []


async def test_another_tenants_objects_are_as_if_they_did_not_exist(story: Story, played: Story) -> None:
    story.sign_up()
    eve = story.people["ada"]

    for path in (f"/v1/connections/{played.blog}", f"/v1/connections/{played.blog}/calls"):
        assert eve.send("GET", path).status_code == 404, path
    assert eve.ask("GET", "/v1/connections")["items"] == []
    call = {"operation": "cms.list_content", "arguments": {}}
    refused = eve.send("POST", f"/v1/connections/{played.blog}/calls", call, Prefer="wait=10")
    assert refused.status_code == 404
    unknown = eve.send("POST", "/v1/connections/0192aaaa-0000-7000-8000-000000000000/calls", call, Prefer="wait=10")
    assert unknown.status_code == 404
    state = eve.send("GET", f"/v1/audit/state/connection/{played.blog}?at=2099-01-01T00:00:00Z")
    assert state.status_code == 404
    words = [entry["words"] for entry in eve.ask("GET", "/v1/audit/history?limit=200")["entries"]]
    assert not any("Company blog" in sentence for sentence in words)


def test_every_service_is_ready_and_measures_itself(platform: Platform, played: Story) -> None:
    for service in platform.machine.services.values():
        assert httpx.get(f"{service.url}/readyz", timeout=5).status_code == 200, service.name
        assert "bizos_" in httpx.get(f"{service.url}/metrics", timeout=5).text, service.name


def test_the_killed_service_was_the_only_one_started_again(platform: Platform, played: Story) -> None:
    assert set(platform.machine.restarts) == {"connector-svc"}


def test_logs_are_json_and_without_errors(platform: Platform, played: Story) -> None:
    lines = [
        line for service in platform.machine.services.values() for line in Path(service.log).read_text().splitlines()
    ]
    records = [json.loads(line) for line in lines if line.startswith("{")]

    assert len(records) == len([line for line in lines if line.strip()]), "every line is one JSON object"
    assert [r for r in records if r["level"] in ("error", "critical")] == []


async def test_one_trace_leads_from_the_request_to_what_it_caused_in_every_service(
    platform: Platform, played: Story
) -> None:
    trace = secrets.token_hex(16)
    run = played.people["uma"].ask(
        "POST", "/v1/agents/content-creator/runs", {"brief": {"topic": "Traces", "connection_id": played.blog}},
        Prefer="wait=30", traceparent=f"00-{trace}-{secrets.token_hex(8)}-01",
    )  # fmt: skip
    assert run["result"]["simulated"]

    wanted = {
        "agent.run.started.v1",
        "connector.call.started.v1",
        "connector.call.succeeded.v1",
        "agent.run.completed.v1",
    }
    connection = await asyncpg.connect(platform.machine.services["audit-svc"].settings["BIZOS_DATABASE_URL"])
    found: set[str] = set()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not wanted <= found:
                    rows = await connection.fetch(
                        "select type from entry where convert_from(meta, 'UTF8') like $1", f"%{trace}%"
                    )
                    found = {row["type"] for row in rows}
                    await asyncio.sleep(0.1)
    finally:
        await connection.close()
    assert wanted <= found
