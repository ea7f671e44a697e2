"""The read model is built anew and swapped while people work: they notice nothing."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from bizosaas_events.testing.waiting import until
from gateway.adapters.views import UNLOCK
from gateway.testing import World, connected, events

PATH = "/v1/admin/projections"


class Operator:
    """A platform admin who rebuilds the read model."""

    def __init__(self, root: httpx.AsyncClient) -> None:
        self.root = root

    async def does(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = await self.root.request(
            method, f"{PATH}/gateway/gateway/{path}", json=body, headers={"Prefer": "wait=20"}
        )
        assert answer.status_code == 200, answer.text
        done: dict[str, Any] = answer.json()
        return done

    async def build(self) -> int:
        number: int = (await self.does("POST", "versions"))["result"]["version"]["number"]
        return number

    async def swap(self, version: int) -> None:
        assert (await self.does("POST", "swap", {"version": version}))["result"]["version"]["state"] == "live"

    async def compare(self, old: int = 1, new: int = 2) -> dict[str, Any]:
        compared: dict[str, Any] = (await self.does("GET", f"comparison?old={old}&new={new}"))["comparison"]
        return compared

    async def versions(self) -> dict[int, dict[str, Any]]:
        page = (await self.root.get(PATH)).json()
        return {i["progress"]["version"]["number"]: i["progress"] for i in page["items"] if i["service"] == "gateway"}


@pytest.fixture
async def operator(world: World) -> Operator:
    return Operator(await world.root())


async def test_nobody_notices_a_rebuild_and_its_swaps(world: World, operator: Operator) -> None:
    ada = await world.admin()
    made = await connected(ada, "Before")
    await operator.build()
    listening = asyncio.create_task(events(ada, 2 + 2 * 13, after="0"))

    for n in range(12):
        if n % 3 == 0:
            await operator.swap(2 - n % 2)
        await connected(ada, f"Number {n}")  # reads with the position, at once

    told = await asyncio.wait_for(listening, 20)
    assert [t["number"] for t in told] == list(range(1, 29))
    assert len({t["id"] for t in told}) == len(told)
    again = await ada.get(f"/v1/connections/{made['id']}", headers={"If-None-Match": made["etag"]})
    assert again.status_code == 304
    labels = [c["label"] for c in (await ada.get("/v1/connections")).json()["items"]]
    assert labels == [*[f"Number {n}" for n in reversed(range(12))], "Before"]


async def test_a_stream_is_resumed_in_the_other_version_behind_the_event_it_ended_with(
    world: World, operator: Operator
) -> None:
    ada = await world.admin()
    for n in range(3):
        await connected(ada, f"Number {n}")
    whole = await events(ada, 8, after="0")
    await operator.build()
    await operator.swap(2)
    await connected(ada, "After")

    rest = await asyncio.wait_for(events(ada, 7, after=str(whole[2]["number"])), 5)

    assert rest[:5] == whole[3:]
    assert [t["number"] for t in rest] == [4, 5, 6, 7, 8, 9, 10]


async def test_what_was_rebuilt_is_what_was_there_but_for_what_somebody_changed(
    world: World, operator: Operator
) -> None:
    ada = await world.admin()
    made = [await connected(ada, f"Number {n}") for n in range(3)]
    await operator.build()
    (same,) = (await operator.compare())["tables"]
    assert (same["table"], same["old_rows"], same["new_rows"], same["differing"]) == ("view", 5, 5, 0)

    connection = await asyncpg.connect(str(world.settings.database_url))
    await connection.execute(UNLOCK.replace("true", "false"))
    await connection.execute("update gateway_1.view set state = '{}' where id = $1", made[0]["id"])
    await connection.close()
    changed = await operator.compare()

    assert changed["tables"][0]["differing_by"] == {"connection/acme-id": 1}
    (difference,) = changed["differences"]
    assert difference["key"] == {"kind": "connection", "id": made[0]["id"]}
    assert difference["old"]["state"] == {}
    assert difference["new"]["state"]["label"] == "Number 0"


async def test_a_swap_is_followed_within_a_moment(world: World, operator: Operator) -> None:
    ada = await world.admin()
    made = await connected(ada)
    await operator.build()
    connection = await asyncpg.connect(str(world.settings.database_url))
    await connection.execute(UNLOCK.replace("true", "false"))
    await operator.compare()  # waits until it is built
    await connection.execute(
        "update gateway_2.view set state = jsonb_set(state, '{label}', '\"Rebuilt\"') where kind = 'connection'"
    )
    await connection.close()

    async def label() -> str:
        shown = (await ada.get(f"/v1/connections/{made['id']}")).json()
        return str(shown["label"])

    assert await label() == "Blog"
    await operator.swap(2)

    async def rebuilt() -> bool:
        return await label() == "Rebuilt"

    await until(rebuilt, 5)


async def test_operators_see_how_far_a_version_is_and_the_platform_keeps_who_did_what(
    world: World, operator: Operator
) -> None:
    await connected(await world.admin())
    assert (await operator.versions())[1]["version"]["state"] == "live"
    assert await operator.build() == 2
    refused = await operator.root.post(f"{PATH}/gateway/gateway/versions", headers={"Prefer": "wait=10"})
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/projection-being-built")
    assert "version 2" in refused.json()["remedy"]

    async def built() -> bool:
        return bool((await operator.versions())[2]["events_behind"] == 0)

    await until(built)
    await operator.swap(2)
    found = await operator.versions()
    assert {number: progress["version"]["state"] for number, progress in found.items()} == {1: "kept", 2: "live"}
    assert len(found[1]["instances"]) == 1, "it is kept up to date"
    told = await asyncio.wait_for(events(operator.root, 4, after="0"), 10)
    assert [t["words"] for t in told if t["type"].startswith("operations")] == [
        "Petra began to build version 2 of the projection gateway",
        "Petra let version 2 of the projection gateway be read",
    ]


async def test_what_cannot_be_done_says_why(world: World, operator: Operator) -> None:
    headers = {"Prefer": "wait=10"}
    live = await operator.root.delete(f"{PATH}/gateway/gateway/versions/1", headers=headers)
    unknown = await operator.root.post(f"{PATH}/gateway/gateway/swap", json={"version": 9}, headers=headers)
    nowhere = await operator.root.post(f"{PATH}/gateway/planets/versions", headers=headers)
    nobody = await (await world.admin()).get(PATH)

    assert (live.status_code, live.json()["type"]) == (409, "/problems/projection-in-use")
    assert (unknown.status_code, unknown.json()["field"]) == (404, "version")
    assert (nowhere.status_code, nowhere.json()["remedy"]) == (404, "There is gateway.")
    assert nobody.status_code == 403
