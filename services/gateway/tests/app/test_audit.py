"""What the gateway tells of the journal."""

import asyncio
import contextlib
import json
from datetime import datetime

import httpx
import pytest

from bizosaas_events.bus import Names
from bizosaas_events.bus.redis import LARGE
from bizosaas_events.messages.audit import ExportHistory, ReadHashes, ReadHeads
from bizosaas_events.testing.waiting import until
from gateway.testing import World


async def test_an_export_is_passed_on_byte_by_byte_page_after_page(world: World) -> None:
    ada = await world.admin()
    world.services.export_pages = 3
    answer = await ada.get(
        "/v1/audit/export?from=2026-01-31T12:00:00Z&to=2026-02-01T00:00:00%2B01:00&format=cloudevents"
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"].startswith('attachment; filename="audit-acme-id-2026')
    assert answer.content == b"".join(
        b'{"tenant" :"acme-id","line":%d.1}\n{"tenant" :"acme-id","line":%d.2}\n{"cloudevents":""}\n' % (n, n)
        for n in (1, 2, 3)
    )
    asked = [command for _, command in world.services.commands(ExportHistory)]
    assert [command.after for command in asked if isinstance(command, ExportHistory)] == ["", "2", "3"]
    for command in asked:
        assert isinstance(command, ExportHistory)
        assert command.since == datetime.fromisoformat("2026-01-31T12:00:00+00:00")
        assert command.until == datetime.fromisoformat("2026-02-01T00:00:00+01:00")


async def test_without_an_end_all_pages_end_at_the_same_moment(world: World) -> None:
    ada = await world.admin()
    world.services.export_pages = 2
    await ada.get("/v1/audit/export")
    (_, first), (_, second) = world.services.commands(ExportHistory)
    assert isinstance(first, ExportHistory)
    assert isinstance(second, ExportHistory)
    assert (first.until, first.since, first.format) == (second.until, None, "ndjson")


async def test_a_platform_admin_exports_any_tenant(world: World) -> None:
    petra = await world.root()
    made = await petra.post("/v1/tenants", json={"slug": "shop", "name": "Shop"}, headers={"Prefer": "wait=5"})
    answer = await petra.get("/v1/audit/export", headers={"Bizos-Tenant": made.json()["id"]})
    assert f'"{made.json()["id"]}"' in answer.text
    assert (await (await world.admin()).get("/v1/audit/export", headers={"Bizos-Tenant": "x"})).status_code == 403


async def test_a_tenant_user_exports_nothing(world: World) -> None:
    uma = await world.member("uma@acme.test", "tenant_user")
    assert (await uma.get("/v1/audit/export")).status_code == 403
    assert (await world.http.get("/v1/audit/export")).status_code == 401


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("format=csv", "format"), ("from=yesterday", "from"), ("to=2026-01-31", "to"), ("since=x", "since"),
        ("from=2026-01-31T12:00:00", "from"),
    ],
)  # fmt: skip
async def test_a_parameter_that_does_not_fit_is_named(world: World, query: str, field: str) -> None:
    answer = await (await world.admin()).get(f"/v1/audit/export?{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_pages_do_not_pile_up_in_redis(world: World) -> None:
    ada = await world.admin()
    world.services.export_pages, world.services.export_padding = 40, 2 * LARGE
    answer = await ada.get("/v1/audit/export")
    assert len(answer.content) > 40 * 2 * LARGE
    redis, names = world.services.redis, Names(world.services.env)

    async def small() -> bool:
        sizes = [int(await redis.memory_usage(key) or 0) async for key in redis.scan_iter(names.replies("*"))]
        return sum(sizes) < LARGE

    await until(small)
    assert [key async for key in redis.scan_iter(names.outcome("*")) if await redis.strlen(key) > LARGE] == []


async def test_an_export_that_cannot_go_on_is_broken_off(world: World) -> None:
    """So that nobody takes it for whole: its end does not come."""
    ada = await world.admin()
    world.services.export_pages, world.services.export_padding = 10**6, 10_000

    async def read_all() -> None:
        async with ada.stream("GET", "/v1/audit/export", timeout=60) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_lines():
                world.services.export_pages = -1  # the next page is refused

    with pytest.raises(httpx.RemoteProtocolError):
        await read_all()


async def test_a_client_that_leaves_stops_its_export(world: World) -> None:
    ada = await world.admin()
    world.services.export_pages = 10**6
    with contextlib.suppress(httpx.HTTPError):
        async with ada.stream("GET", "/v1/audit/export") as answer:
            async for _ in answer.aiter_lines():
                break
    await asyncio.sleep(0.5)
    before = len(world.services.commands(ExportHistory))
    await asyncio.sleep(0.5)
    assert len(world.services.commands(ExportHistory)) <= before + 1


async def test_a_client_that_reads_slowly_is_not_read_ahead_of(world: World) -> None:
    ada = await world.admin()
    world.services.export_pages, world.services.export_padding = 10**6, 100_000
    host, port = world.http.base_url.host, world.http.base_url.port
    _, writer = await asyncio.open_connection(host, port, limit=1000)
    writer.write(
        f"GET /v1/audit/export HTTP/1.1\r\nHost: {host}\r\nAuthorization: {ada.headers['Authorization']}\r\n\r\n".encode()
    )  # and never reads

    async def stands() -> bool:
        before = len(world.services.commands(ExportHistory))
        await asyncio.sleep(0.5)
        return 0 < before == len(world.services.commands(ExportHistory))

    await until(stands, 20)
    assert len(world.services.commands(ExportHistory)) < 200, "as much as sockets and the server hold"
    writer.close()


async def test_how_far_a_verification_is(world: World) -> None:
    petra = await world.root()
    told = (await petra.get("/v1/audit/verifications/known")).json()
    assert (told["status"], told["events"], told["of_events"]) == ("running", 1, 3)
    assert (await petra.get("/v1/audit/verifications/none")).status_code == 404
    assert (await (await world.admin()).get("/v1/audit/verifications/known")).status_code == 403


async def test_signed_heads_and_hashes_are_told(world: World) -> None:
    petra = await world.root()
    heads = (await petra.get("/v1/audit/heads?at=2026-01-31T12:00:00Z")).json()
    assert (heads["number"], heads["time"]) == (2, "2026-01-31T12:00:00Z")
    positions = [{name: head[name] for name in ("category", "partition", "position")} for head in heads["heads"]]
    hashes = await petra.post("/v1/audit/hashes", json={"positions": positions})
    assert (hashes.status_code, hashes.json()["hashes"]) == (200, ["tenant17"])
    assert (await petra.get("/v1/audit/heads")).json()["field"] == "at"
    assert (await petra.post("/v1/audit/hashes", json={"positions": [{"category": 1}]})).status_code == 400
    ada = await world.admin()
    assert (await ada.post("/v1/audit/hashes", json={"positions": []})).status_code == 403
    assert len(world.services.commands(ReadHashes)) == len(world.services.commands(ReadHeads)) == 1


async def test_the_routes_are_described(world: World) -> None:
    document = json.loads((await world.http.get("/openapi.json")).content)
    paths = document["paths"]
    assert {"/v1/audit/export", "/v1/audit/verifications/{id}", "/v1/audit/heads", "/v1/audit/hashes"} <= paths.keys()
    names = [parameter["name"] for parameter in paths["/v1/audit/export"]["get"]["parameters"]]
    assert names == ["from", "to", "format", "Bizos-Tenant"]
