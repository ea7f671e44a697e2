"""The tenant's events as they come."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

import httpx

from gateway.app.settings import Settings
from gateway.testing import World, connected, events, running


async def test_events_come_as_they_happen_in_words(world: World) -> None:
    ada = await world.admin()
    await asyncio.wait_for(events(ada, 2, after="0"), 5)
    coming = asyncio.create_task(events(ada, 2))
    await asyncio.sleep(0.3)
    began = time.monotonic()

    await connected(ada, "Shop")
    told = await asyncio.wait_for(coming, 5)

    assert time.monotonic() - began < 1.5, "woken by the commit, not by looking"
    assert [t["type"] for t in told] == ["connector.connection.requested.v1", "connector.connection.established.v1"]
    assert told[0]["words"] == "Ada asked to connect wordpress as “Shop”"


async def test_a_stream_is_resumed_where_it_broke_off(world: World) -> None:
    ada = await world.admin()
    for n in range(3):
        await connected(ada, f"Number {n}")
    everything = await asyncio.wait_for(events(ada, 8, after="0"), 5)

    rest = await asyncio.wait_for(events(ada, 3, after=str(everything[4]["number"])), 5)

    assert [t["number"] for t in everything] == list(range(1, 9)), "without gaps"
    assert rest == everything[5:]


async def test_a_tenant_hears_nothing_of_another(world: World) -> None:
    ada = await world.admin()
    eve = await world.member("eve@evil.test", "tenant_admin", "evil-id")
    await connected(ada)
    await connected(eve, "Eve's")

    told = await asyncio.wait_for(events(eve, 4, after="0"), 5)

    assert {t["subject"] for t in told if t["type"].startswith("connector")} == {told[-1]["subject"]}
    assert "Ada" not in json.dumps(told)
    assert (await ada.get("/v1/stream", headers={"Last-Event-ID": "x"})).status_code == 400


async def test_a_stream_ends_when_the_gateway_does(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of()
    async with httpx.AsyncClient(base_url=str(settings.public_url)) as listener:
        async with running(settings) as world:
            ada = await world.admin()
            headers = {"Authorization": ada.headers["Authorization"]}
            response = await listener.send(listener.build_request("GET", "/v1/stream", headers=headers), stream=True)
            lines = response.aiter_lines()
            assert (await anext(lines)).startswith("retry:")
            reading = asyncio.create_task(_rest(lines))
            began = time.monotonic()
        await asyncio.wait_for(reading, 5)
        await response.aclose()

    assert time.monotonic() - began < 5, "the drain does not wait for a stream"


async def test_many_streams_leave_room_for_everybody_else(world: World) -> None:
    ada = await world.admin()
    headers = {"Authorization": ada.headers["Authorization"]}
    limits = httpx.Limits(max_connections=400)
    async with httpx.AsyncClient(base_url=ada.base_url, headers=headers, limits=limits) as many:
        streams = [await many.send(many.build_request("GET", "/v1/stream"), stream=True) for _ in range(200)]

        assert (await ada.get("/v1/me")).status_code == 200
        for stream in streams:
            await stream.aclose()


async def _rest(lines: AsyncIterator[str]) -> int:
    count = 0
    async for _ in lines:
        count += 1
    return count
