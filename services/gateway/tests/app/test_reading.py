"""Reads: one's own writes, versions, pages and filters."""

import asyncio
from collections.abc import Callable

from bizosaas_events.messages.agent import AgentPublished
from bizosaas_ports.access import PLATFORM_TENANT
from gateway.app.settings import Settings
from gateway.testing import World, a_context, connected, running


async def test_one_always_reads_what_one_has_written(world: World) -> None:
    ada = await world.admin()

    for n in range(20):
        await connected(ada, f"Number {n}")  # reads with the position, at once


async def test_a_read_that_cannot_catch_up_says_so(settings_of: Callable[..., Settings]) -> None:
    async with running(settings_of(read_after_seconds=0.3)) as world:
        ada = await world.admin()

        behind = await ada.get("/v1/connections", headers={"Read-After": "connector/0@999"})

        assert behind.status_code == 503
        assert behind.json()["type"] == "/problems/read-model-behind"
        assert int(behind.headers["Retry-After"]) >= 1
        for wrong in ("connector/4@1", "planet/0@1", "x"):
            assert (await ada.get("/v1/connections", headers={"Read-After": wrong})).status_code == 400


async def test_an_unchanged_object_is_not_sent_again(world: World) -> None:
    ada = await world.admin()
    made = await connected(ada)
    path = f"/v1/connections/{made['id']}"

    same = await ada.get(path, headers={"If-None-Match": f'"9", W/{made["etag"]}'})
    other = await ada.get(path, headers={"If-None-Match": '"1"'})

    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", made["etag"])
    assert (other.status_code, other.headers["ETag"]) == (200, '"2"')


async def test_pages_show_everything_once_newest_first(world: World) -> None:
    ada = await world.admin()
    for n in range(7):
        await connected(ada, f"Number {n}")
    labels: list[str] = []
    cursor = ""

    for size in (3, 3, 1):
        page = (
            await ada.get("/v1/connections", params={"limit": "3", "cursor": cursor} if cursor else {"limit": "3"})
        ).json()
        labels += [item["label"] for item in page["items"]]
        assert len(page["items"]) == size
        cursor = page["next"]

    assert cursor == ""
    assert labels == [f"Number {n}" for n in reversed(range(7))]


async def test_lists_are_filtered_by_simple_fields(world: World) -> None:
    ada = await world.admin()
    await connected(ada, "One")
    made = await connected(ada, "Two")
    await ada.delete(f"/v1/connections/{made['id']}", headers={"If-Match": made["etag"], "Prefer": "wait=5"})
    for _ in range(50):
        closed = (await ada.get("/v1/connections?status=closed")).json()["items"]
        if closed:
            break
        await asyncio.sleep(0.02)

    assert [c["label"] for c in closed] == ["Two"]
    both = {"connector": "wordpress", "status": "connected", "reconnect": "false", "label": "One"}
    assert len((await ada.get("/v1/connections", params=both)).json()["items"]) == 1
    assert (await ada.get("/v1/connections?label=' or 1=1 --")).json()["items"] == []


async def test_published_agents_are_everybodys(world: World) -> None:
    ada = await world.admin()
    published = AgentPublished(
        agent_id="writer", version=3, name="Writer", category="content", goal="Write", tier="small", tools=[],
        output="Draft", digest="d",
    )  # fmt: skip
    recorded = await world.services.record("agent-writer", published, a_context(PLATFORM_TENANT))
    after = {"Read-After": f"agent/{recorded.partition}@{recorded.sequence}"}

    assert [a["id"] for a in (await ada.get("/v1/agents", headers=after)).json()["items"]] == ["writer"]
    assert (await ada.get("/v1/agents/writer")).json()["goal"] == "Write"
    assert (await ada.get("/v1/tenants")).json()["items"] == [], "and nothing else of the platform's"


async def test_answers_carry_the_headers_that_keep_browsers_safe(world: World) -> None:
    ada = await world.admin()

    for answer in (
        await ada.get("/v1/connections"),
        await world.http.get("/v1/nothing"),
        await world.http.get("/livez"),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert (await ada.get("/v1/me")).headers["Cache-Control"] == "no-store"


async def test_health_and_metrics_are_on_the_same_port(world: World) -> None:
    ada = await world.admin()
    await ada.get("/v1/connections/x")

    assert (await world.http.get("/livez")).json() == {"status": "alive"}
    assert (await world.http.get("/readyz")).json() == {"status": "ready"}
    metrics = (await world.http.get("/metrics")).text
    assert 'bizos_http_requests_total{method="GET",route="/v1/connections/{connection_id}",status="404"}' in metrics
