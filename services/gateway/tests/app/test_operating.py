"""What operators look at, and the messages' own documentation."""

import asyncio
from typing import Any

from gateway.testing import World, connected


async def test_a_platform_admin_sees_how_far_every_consumer_is_behind(world: World) -> None:
    await connected(await world.admin())
    root = await world.root()

    async def reported() -> list[dict[str, Any]]:
        items = (await root.get("/v1/admin/streams")).json()["items"]
        return [item for item in items if item["consumer"] == "gateway@1"]

    async with asyncio.timeout(10):  # consumers report every second
        while not {item["category"] for item in await reported()} >= {"tenant", "connector"}:
            await asyncio.sleep(0.2)
    mine = await reported()
    assert all(item["events_behind"] >= 0 and item["end"] >= item["position"] for item in mine)


async def test_a_tenant_admin_does_not(world: World) -> None:
    refused = await (await world.admin()).get("/v1/admin/streams")

    assert refused.status_code == 403
    assert "platform_management" in refused.json()["detail"]


async def test_the_messages_describe_themselves(world: World) -> None:
    document = (await world.http.get("/asyncapi.json")).json()
    page = await world.http.get("/docs/messages")

    assert document["asyncapi"] == "3.0.0"
    assert "connector.connection.established.v1" in page.text
    assert "<script" not in page.text
