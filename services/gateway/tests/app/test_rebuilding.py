"""The read model is built anew and swapped while people work: they notice nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from bizosaas_events import messages
from bizosaas_events.testing.waiting import until
from bizosaas_events.versions import Projection, Versions
from gateway.adapters.views import TABLES, UNLOCK
from gateway.testing import PARTITIONS, World, connected, events


async def _unused(connection: Any, envelopes: Any) -> None:
    raise AssertionError


NEWEST = Projection("gateway", 1, TABLES, _unused)


@pytest.fixture
async def versions(world: World) -> AsyncIterator[Versions]:
    settings = world.settings
    logs = dict.fromkeys(messages.categories(), PARTITIONS)
    async with (
        asyncpg.create_pool(str(settings.database_url), min_size=1, max_size=4) as pool,
        Redis.from_url(str(settings.redis_url)) as redis,
    ):
        yield Versions("gateway", logs, pool=pool, redis=redis, env=settings.env)


async def test_nobody_notices_a_rebuild_and_its_swaps(world: World, versions: Versions) -> None:
    ada = await world.admin()
    made = await connected(ada, "Before")
    await versions.build(NEWEST)
    listening = asyncio.create_task(events(ada, 2 + 2 * 13, after="0"))

    for n in range(12):
        if n % 3 == 0:
            await versions.swap(2 - n % 2)
        await connected(ada, f"Number {n}")  # reads with the position, at once

    told = await asyncio.wait_for(listening, 20)
    assert [t["number"] for t in told] == list(range(1, 29))
    assert len({t["id"] for t in told}) == len(told)
    again = await ada.get(f"/v1/connections/{made['id']}", headers={"If-None-Match": made["etag"]})
    assert again.status_code == 304
    labels = [c["label"] for c in (await ada.get("/v1/connections")).json()["items"]]
    assert labels == [*[f"Number {n}" for n in reversed(range(12))], "Before"]


async def test_a_stream_is_resumed_in_the_other_version_behind_the_event_it_ended_with(
    world: World, versions: Versions
) -> None:
    ada = await world.admin()
    for n in range(3):
        await connected(ada, f"Number {n}")
    whole = await events(ada, 8, after="0")
    await versions.build(NEWEST)
    await versions.swap(2)
    await connected(ada, "After")

    rest = await asyncio.wait_for(events(ada, 7, after=str(whole[2]["number"])), 5)

    assert rest[:5] == whole[3:]
    assert [t["number"] for t in rest] == [4, 5, 6, 7, 8, 9, 10]


async def test_what_was_rebuilt_is_what_was_there_but_for_what_somebody_changed(
    world: World, versions: Versions
) -> None:
    ada = await world.admin()
    made = [await connected(ada, f"Number {n}") for n in range(3)]
    await versions.build(NEWEST)
    same = await versions.compare(1, 2, unlock=UNLOCK, by=["kind", "tenant"])
    assert [(t.table, t.old_rows, t.new_rows, t.differing) for t in same.tables] == [("view", 4, 4, 0)]

    connection = await asyncpg.connect(str(world.settings.database_url))
    await connection.execute(UNLOCK.replace("true", "false"))
    await connection.execute("update gateway_1.view set state = '{}' where id = $1", made[0]["id"])
    await connection.close()
    changed = await versions.compare(1, 2, unlock=UNLOCK, by=["kind", "tenant"])

    assert changed.tables[0].differing_by == {"connection/acme-id": 1}
    (difference,) = changed.differences
    assert difference.key == {"kind": "connection", "id": made[0]["id"]}
    assert (difference.old or {})["state"] == {}
    assert (difference.new or {})["state"]["label"] == "Number 0"


async def test_a_swap_is_followed_within_a_moment(world: World, versions: Versions) -> None:
    ada = await world.admin()
    made = await connected(ada)
    await versions.build(NEWEST)
    connection = await asyncpg.connect(str(world.settings.database_url))
    await connection.execute(UNLOCK.replace("true", "false"))
    await versions.compare(1, 2)  # waits until it is built
    await connection.execute(
        "update gateway_2.view set state = jsonb_set(state, '{label}', '\"Rebuilt\"') where kind = 'connection'"
    )
    await connection.close()

    async def label() -> str:
        shown = (await ada.get(f"/v1/connections/{made['id']}")).json()
        return str(shown["label"])

    assert await label() == "Blog"
    await versions.swap(2)

    async def rebuilt() -> bool:
        return await label() == "Rebuilt"

    await until(rebuilt, 5)
