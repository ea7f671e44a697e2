"""What the read model cannot take: seen, mended and tried again over the API, and on record who did it."""

import asyncio
import json
from importlib.metadata import version
from typing import Any

import httpx
import pytest

from bizosaas_events.messages.tenant import MemberAdded, MemberSignedIn, TenantCreated
from gateway.testing import World, a_context, events

PATH = "/v1/admin/dead-letters"


async def letters(root: httpx.AsyncClient, number: int, query: str = "") -> list[dict[str, Any]]:
    """The dead letters, when there are so many."""
    async with asyncio.timeout(10):
        while len(items := (await root.get(f"{PATH}?{query}")).json()["items"]) != number:
            await asyncio.sleep(0.1)
    return [item["letter"] for item in items]


async def gone(root: httpx.AsyncClient, where: str) -> None:
    async with asyncio.timeout(10):
        while (await root.get(where)).status_code != 404:
            await asyncio.sleep(0.1)


async def spoil(world: World, name: str = "bob") -> None:
    """A member of acme whose first event nobody can read, and a second event."""
    added = MemberAdded(
        member_id=f"{name}-id", tenant_id="acme-id", email=f"{name}@acme.test", name=name, role="tenant_user"
    )
    payload = {"type": "tenant.member.added.v1", "member_id": f"{name}-id", "tenant_id": "acme-id", "name": name,
               "email": f"{name}@acme.test", "role": "king"}  # fmt: skip
    context = a_context("acme-id")
    await world.services.record(f"member-{name}-id", added, context, data=json.dumps(payload).encode())
    await world.services.record(f"member-{name}-id", MemberSignedIn(member_id=f"{name}-id"), context)


async def test_a_poisoned_event_is_parked_mended_and_tried_again_and_the_tenant_sees_who_did_it(world: World) -> None:
    ada, root = await world.admin(), await world.root()
    made = TenantCreated(tenant_id="acme-id", slug="acme", name="Acme")
    await world.services.record("tenant-acme-id", made, a_context("acme-id"))
    await spoil(world)
    (letter,) = await letters(root, 1, "service=gateway&failure=poison&consumer=gateway@1")
    async with asyncio.timeout(10):
        while (await letters(root, 1))[0]["behind"] != 1:
            await asyncio.sleep(0.1)
    assert (letter["key"], letter["tenant"], letter["error"]) == ("member-bob-id", "acme-id", "UndecodableError")
    assert letter["version"] == version("bizosaas-gateway")
    where = f"{PATH}/gateway/{letter['id']}"
    shown = (await root.get(where)).json()
    payload = json.loads(shown["letter"]["fields"]["data"])
    assert payload["role"] == "king"
    assert "$.role" in shown["letter"]["reason"]
    assert [parked["type"] for parked in shown["parked"]] == ["tenant.member.signed-in.v1"]
    assert (await world.http.get("/readyz")).status_code == 200, "it is put aside, and everything else goes on"

    refused = await root.post(
        f"{where}/retry", json={"payload": payload | {"role": "duke"}}, headers={"Prefer": "wait=5"}
    )
    assert (refused.status_code, refused.json()["field"]) == (400, "payload")
    assert "$.role" in refused.json()["detail"]
    mended = payload | {"role": "tenant_user"}
    asked = await root.post(f"{where}/retry", json={"payload": mended}, headers={"Prefer": "wait=5"})
    assert asked.status_code == 200, asked.text
    assert asked.headers["Position"].startswith("gateway/")
    await gone(root, where)

    after = {"Read-After": asked.headers["Position"]}
    members = await root.get("/v1/tenants/acme-id/members?role=tenant_user", headers=after)
    assert members.status_code == 200, members.text
    (bob,) = members.json()["items"]
    assert (bob["id"], bob["role"], bob["signed_in_at"] is not None) == ("bob-id", "tenant_user", True)
    told = await asyncio.wait_for(events(ada, 6, after="0"), 5)
    (edited,) = [t for t in told if t["type"] == "operations.dead-letter.edited.v1"]
    assert (
        edited["words"]
        == "Petra changed role of tenant.member.added.v1 of member-bob-id for gateway@1 and had it tried again"
    )


async def test_what_fails_again_waits_again_and_can_be_given_up_for_a_reason(world: World) -> None:
    await world.admin()
    root = await world.root()
    await spoil(world)
    (letter,) = await letters(root, 1)
    where = f"{PATH}/gateway/{letter['id']}"
    assert (await root.post(f"{where}/retry", json={}, headers={"Prefer": "wait=5"})).status_code == 200
    async with asyncio.timeout(10):
        while (await letters(root, 1))[0]["attempts"] != 2:
            await asyncio.sleep(0.1)
    refused = await root.post(f"{where}/discard", json={"reason": ""})
    assert (refused.status_code, refused.json()["field"]) == (400, "reason")
    done = await root.post(f"{where}/discard", json={"reason": "bob is a test"}, headers={"Prefer": "wait=5"})
    assert done.status_code == 200, done.text
    await gone(root, where)
    assert await letters(root, 0) == []


async def test_a_redrive_says_how_many_before_it_does_it(world: World) -> None:
    await world.admin()
    root = await world.root()
    for name in ("bob", "cat", "dan"):
        await spoil(world, name)
    await letters(root, 3)
    which = {"limit": 2, "failure": "poison"}
    selected = (await root.post(f"{PATH}/gateway/selections", json=which)).json()
    assert selected["letters"] == 2
    wrong = await root.post(
        f"{PATH}/gateway/redrives", json=which | {"confirmation": "2.x.y"}, headers={"Prefer": "wait=5"}
    )
    assert (wrong.status_code, wrong.json()["field"]) == (409, "confirmation")
    body = which | {"confirmation": selected["confirmation"]}
    done = await root.post(f"{PATH}/gateway/redrives", json=body, headers={"Prefer": "wait=5"})
    assert done.json()["result"]["letters"] == 2
    async with asyncio.timeout(10):
        while [letter["attempts"] for letter in await letters(root, 3)] != [2, 2, 1]:
            await asyncio.sleep(0.1)
    page = (await root.get(f"{PATH}?limit=2")).json()
    assert len(page["items"]) == 2
    assert len((await root.get(f"{PATH}?cursor={page['next']}")).json()["items"]) == 1


async def test_who_does_not_answer_is_named(world: World) -> None:
    root = await world.root()
    world.services.silent.add("audit")
    page = (await root.get(PATH)).json()
    assert (page["items"], page["missing"]) == ([], ["audit"])


@pytest.mark.parametrize(
    ("query", "field"),
    [("service=portal", "service"), ("failure=bad", "failure"), ("state=gone", "state"), ("cursor=7", "cursor"),
     ("older_than=-1", "older_than"), ("colour=red", "colour")],
)  # fmt: skip
async def test_what_does_not_fit_is_said(world: World, query: str, field: str) -> None:
    refused = await (await world.root()).get(f"{PATH}?{query}")
    assert (refused.status_code, refused.json()["field"]) == (400, field)


async def test_only_who_runs_the_platform_may_look(world: World) -> None:
    root = await world.root()
    assert (await root.get(f"{PATH}/portal/018f0000-0000-7000-8000-000000000000")).status_code == 404
    assert (await root.get(f"{PATH}/gateway/018f0000-0000-7000-8000-000000000000")).status_code == 404
    ada = await world.admin()
    for answer in (await ada.get(PATH), await ada.post(f"{PATH}/gateway/x/retry", json={})):
        assert answer.status_code == 403
