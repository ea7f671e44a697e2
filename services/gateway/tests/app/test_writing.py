"""Writes: accepted, waited for, repeated safely, guarded by versions."""

import asyncio
from typing import Any

import httpx

from bizosaas_events.bus import Names
from bizosaas_events.bus.redis import send_reply
from bizosaas_events.messages.connector import CallOperation, Connect
from gateway.testing import SECRET_KEY, World, connected

CALL = {"operation": "cms.list_content", "arguments": {"limit": 3}}


async def outcome(who: httpx.AsyncClient, location: str) -> dict[str, Any]:
    for _ in range(100):
        said: dict[str, Any] = (await who.get(location)).json()
        if said["status"] != "pending":
            return said
        await asyncio.sleep(0.02)
    raise AssertionError("no outcome")


async def test_a_write_is_accepted_and_its_outcome_can_be_asked_for(world: World) -> None:
    ada = await world.admin()
    made = await connected(ada)

    sent = await ada.post(f"/v1/connections/{made['id']}/calls", json=CALL)

    assert sent.status_code == 202
    assert sent.headers["Location"] == sent.json()["outcome"] == f"/v1/commands/{sent.json()['command_id']}"
    said = await outcome(ada, sent.headers["Location"])
    assert said["status"] == "done"
    assert said["result"]["data"] == {"id": "7"}
    assert said["position"].startswith("connector/")


async def test_who_waits_is_told_the_outcome(world: World) -> None:
    ada = await world.admin()
    body = {"connector": "wordpress", "label": "Blog", "credentials": {"password": "p"}}

    made = await ada.post("/v1/connections", json=body, headers={"Prefer": "respond-async, wait=5"})

    assert made.status_code == 201
    assert made.headers["Preference-Applied"] == "wait=5"
    assert made.headers["Location"] == f"/v1/connections/{made.json()['id']}"
    assert made.headers["Position"] == made.json()["position"]


async def test_credentials_travel_sealed(world: World) -> None:
    ada = await world.admin()
    await connected(ada)

    ((_, command),) = world.services.commands(Connect)

    assert isinstance(command, Connect)
    assert SECRET_KEY.open(command.sealed_credentials) == b'{"password":"p"}'


async def test_who_waits_in_vain_is_told_that_it_goes_on(world: World) -> None:
    ada = await world.admin()
    made = await connected(ada)
    world.services.silent.add("connector")

    sent = await ada.post(f"/v1/connections/{made['id']}/calls", json=CALL, headers={"Prefer": "wait=1"})

    assert sent.status_code == 202
    assert "Preference-Applied" not in sent.headers
    assert (await ada.get(sent.headers["Location"])).json()["status"] == "pending"


async def test_what_has_begun_is_pending_until_it_has_ended(world: World) -> None:
    ada = await world.admin()
    made = await connected(ada)
    world.services.silent.add("connector")
    path = f"/v1/connections/{made['id']}/calls"

    sent = await ada.post(path, json=CALL, headers={"Prefer": "wait=1"})
    ((envelope, command),) = world.services.commands(CallOperation)
    reply = await world.services.reply(command, envelope)
    begun = await ada.get(path, headers={"Read-After": reply.position})
    assert [call["status"] for call in begun.json()["items"]] == ["started"], "what it has recorded is known here"

    assert (await ada.get(sent.headers["Location"])).json()["status"] == "pending"
    await send_reply(world.services.redis, Names(world.settings.env), envelope, reply)
    assert (await ada.get(sent.headers["Location"])).json()["result"]["data"] == {"id": "7"}


async def test_a_refusal_is_told_with_the_outcome(world: World) -> None:
    ada = await world.admin()

    sent = await ada.post("/v1/connections/nobodys/calls", json=CALL)

    said = await outcome(ada, sent.headers["Location"])
    assert said["status"] == "refused"
    assert said["problem"]["type"] == "/problems/not-found"
    await world.services.redis.delete(f"{world.settings.env}:outcome:{said['command_id']}")
    assert (await ada.get(sent.headers["Location"])).json() == {"command_id": said["command_id"], "status": "refused"}


async def test_what_became_of_a_command_is_known_after_its_answer_is_forgotten(world: World) -> None:
    ada = await world.admin()
    made = await connected(ada)
    sent = await ada.post(f"/v1/connections/{made['id']}/calls", json=CALL, headers={"Prefer": "wait=5"})
    command = sent.json()["command_id"]
    redis, env = world.services.redis, world.settings.env
    await ada.get("/v1/connections", headers={"Read-After": sent.headers["Position"]})
    await redis.delete(f"{env}:outcome:{command}", f"{env}:sender:{command}")

    said = (await ada.get(f"/v1/commands/{command}")).json()

    assert said == {k: sent.json()[k] for k in ("command_id", "status", "id", "version", "position")}


async def test_a_command_of_another_tenant_is_unknown(world: World) -> None:
    ada = await world.admin()
    eve = await world.member("eve@evil.test", "tenant_admin", "evil-id")
    made = await connected(ada)
    sent = await ada.post(f"/v1/connections/{made['id']}/calls", json=CALL, headers={"Prefer": "wait=5"})

    for id in (sent.json()["command_id"], "018f0000-0000-7000-8000-000000000000", "x"):
        assert (await eve.get(f"/v1/commands/{id}")).json()["type"] == "/problems/not-found"


async def test_only_who_sent_a_command_is_told_what_it_brought(world: World) -> None:
    """Its id stands in the events that everybody of the tenant follows; a user may not see what an admin's call brought."""
    ada = await world.admin()
    uma = await world.member("uma@acme.test", "tenant_user", "acme-id")
    made = await connected(ada)
    sent = await ada.post(f"/v1/connections/{made['id']}/calls", json=CALL, headers={"Prefer": "wait=5"})
    where = f"/v1/commands/{sent.json()['command_id']}"

    assert (await ada.get(where)).json()["result"]
    told = (await uma.get(where)).json()
    assert told["status"] == "done"
    assert "result" not in told


async def test_a_repeat_under_a_key_is_one_command_with_one_answer(world: World) -> None:
    ada = await world.admin()
    made = await connected(ada)
    path, headers = f"/v1/connections/{made['id']}/calls", {"Idempotency-Key": "k1", "Prefer": "wait=5"}

    first, second = [await ada.post(path, json=CALL, headers=headers) for _ in range(2)]
    later = await ada.post(path, json=CALL, headers={"Idempotency-Key": "k1"})

    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert later.json()["command_id"] == first.json()["command_id"]
    assert {e.id for e, _ in world.services.commands(CallOperation)} == {first.json()["command_id"]}
    assert {c.idempotency_key for _, c in world.services.commands(CallOperation)} == {"k1"}  # type: ignore[attr-defined]  # CallOperation
    assert len((await ada.get(path, headers={"Read-After": first.headers["Position"]})).json()["items"]) == 1


async def test_what_is_made_under_a_key_has_one_id(world: World) -> None:
    ada = await world.admin()
    body = {"name": "content_approval", "input": {}}

    first, second = [await ada.post("/v1/workflows", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]

    assert first.json() == second.json()


async def test_a_key_stands_for_one_request_of_one_person(world: World) -> None:
    ada = await world.admin()
    ben = await world.member("ben@acme.test", "tenant_admin")
    made = await connected(ada)
    path, headers = f"/v1/connections/{made['id']}/calls", {"Idempotency-Key": "k1"}
    await ada.post(path, json=CALL, headers={**headers, "Prefer": "wait=5"})
    before = len(world.services.commands(CallOperation))

    other = await ada.post(path, json={**CALL, "arguments": {"limit": 4}}, headers=headers)
    bens = await ben.post(path, json={**CALL, "arguments": {"limit": 4}}, headers={**headers, "Prefer": "wait=5"})

    assert other.status_code == 422
    assert other.json()["type"] == "/problems/idempotency-key-reused"
    assert bens.status_code == 200
    sent = [envelope.id for envelope, _ in world.services.commands(CallOperation)]
    assert sent[before:] == [bens.json()["command_id"]], "what was refused has sent nothing"
    assert (await ada.post(path, json=CALL, headers={"Idempotency-Key": "a b"})).status_code == 400


async def test_a_change_says_which_version_it_is_of(world: World) -> None:
    ada = await world.admin()
    made = await connected(ada)
    path, wait = f"/v1/connections/{made['id']}", {"Prefer": "wait=5"}

    missing = await ada.patch(path, json={"label": "A"}, headers=wait)
    renamed = await ada.patch(path, json={"label": "B"}, headers={**wait, "If-Match": made["etag"]})
    stale = await ada.patch(path, json={"label": "C"}, headers={**wait, "If-Match": made["etag"]})
    nonsense = await ada.patch(path, json={"label": "D"}, headers={**wait, "If-Match": "*"})

    assert [a.status_code for a in (missing, renamed, stale, nonsense)] == [428, 200, 412, 400]
    assert stale.json()["type"] == "/problems/stale-version"
    shown = await ada.get(path, headers={"Read-After": renamed.headers["Position"]})
    assert shown.json()["label"] == "B"
    assert (await ada.delete(path, headers=wait)).status_code == 428
    gone = await ada.delete(path, headers={**wait, "If-Match": shown.headers["ETag"]})
    assert gone.status_code == 200


async def test_who_asked_and_why_travels_with_the_command(world: World) -> None:
    ada = await world.admin()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    headers = {"X-Request-Id": "order-7", "traceparent": parent, "Prefer": "wait=5"}
    await ada.post("/v1/connections/x/calls", json=CALL, headers=headers)

    ((envelope, _),) = world.services.commands(CallOperation)
    assert (envelope.tenantid, envelope.actorid, envelope.actorrole) == ("acme-id", "member:ada-id", "tenant_admin")
    assert envelope.correlationid == "order-7"
    assert envelope.traceparent.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert envelope.traceparent != parent


async def test_a_platform_admin_makes_a_tenant_and_acts_for_it(world: World) -> None:
    petra = await world.root()
    made = await petra.post("/v1/tenants", json={"slug": "acme", "name": "Acme"}, headers={"Prefer": "wait=5"})
    id = made.json()["id"]
    person = {"email": "ann@acme.test", "name": "Ann", "role": "tenant_admin", "password": "long enough, this"}
    added = await petra.post(f"/v1/tenants/{id}/members", json=person, headers={"Prefer": "wait=5"})
    after = {"Read-After": f"{made.headers['Position']}, {added.headers['Position']}"}

    assert (made.status_code, added.status_code) == (201, 201)
    assert [t["slug"] for t in (await petra.get("/v1/tenants", headers=after)).json()["items"]] == ["acme"]
    assert [m["name"] for m in (await petra.get(f"/v1/tenants/{id}/members")).json()["items"]] == ["Ann"]
    assert (await petra.get(added.headers["Location"])).json()["email"] == "ann@acme.test"
    acting = {"Bizos-Tenant": id, "Prefer": "wait=5"}
    body = {"connector": "wordpress", "label": "Theirs", "credentials": {}}
    theirs = await petra.post("/v1/connections", json=body, headers=acting)
    assert theirs.status_code == 201
    ann = await world.client().post("/v1/sessions", json={"email": "ann@acme.test", "password": "long enough, this"})
    hers = world.client({"Authorization": f"Bearer {ann.json()['token']}"})
    seen = await hers.get("/v1/connections", headers={"Read-After": theirs.headers["Position"]})
    assert [c["label"] for c in seen.json()["items"]] == ["Theirs"]
    assert [t["id"] for t in (await hers.get("/v1/tenants")).json()["items"]] == [id]
    unknown = await petra.get("/v1/connections", headers={"Bizos-Tenant": "nobody"})
    assert unknown.json()["type"] == "/problems/not-found"
    assert (await petra.get(f"/v1/commands/{made.json()['command_id']}")).json()["status"] == "done"


async def test_an_agent_runs_and_its_output_can_be_read(world: World) -> None:
    ada = await world.admin()

    run = await ada.post("/v1/agents/content-creator/runs", json={"brief": {}}, headers={"Prefer": "wait=5"})

    assert run.json()["result"]["output"] == {"title": "T"}
    path = f"/v1/runs/{run.json()['id']}"
    assert (await ada.get(path, headers={"Read-After": run.headers["Position"]})).json()["status"] == "running"
    assert (await ada.get(f"{path}/output")).json()["output"] == {"title": "T"}
    assert (await ada.get("/v1/runs/other/output")).status_code == 404


async def test_questions_to_services_are_passed_on(world: World) -> None:
    ada, petra = await world.admin(), await world.root()

    assert (await ada.get("/v1/audit/history?limit=7")).json()["next"] == "acme-id:7"
    assert (await ada.get("/v1/connectors")).json()["connectors"] == []
    assert (await ada.post("/v1/audit/verifications", json={})).status_code == 403
    verified = await petra.post("/v1/audit/verifications", json={}, headers={"Prefer": "wait=5"})
    assert verified.json()["result"]["events"] == 3


async def test_a_verdict_is_given_once(world: World) -> None:
    from bizosaas_events.envelope import now
    from bizosaas_events.messages.workflow import ApprovalRequested
    from gateway.testing import a_context

    ada = await world.admin()
    asked = ApprovalRequested(
        approval_id="a1", workflow_id="w", operation="cms.publish", connection_id="c", arguments={"id": "7"},
        arguments_digest="d", requested_by="agent:r", deadline=now(),
    )  # fmt: skip
    recorded = await world.services.record("approval-a1", asked, a_context("acme-id"))
    after = {"Read-After": f"workflow/{recorded.partition}@{recorded.sequence}"}

    (pending,) = (await ada.get("/v1/approvals?status=pending", headers=after)).json()["items"]
    decision = {"verdict": "approved", "arguments_digest": pending["arguments_digest"]}
    first, second = [
        await ada.post("/v1/approvals/a1/decision", json=decision, headers={"Prefer": "wait=5"}) for _ in range(2)
    ]

    assert (first.status_code, second.status_code) == (200, 409)
    assert second.json()["type"] == "/problems/already-decided"
