"""Names and addresses: shown to whoever may see them, closed wherever they rest, erased for ever."""

import asyncio
import json
from typing import Any

import asyncpg
import httpx
import pytest

from bizosaas_events.messages.tenant import AddMember, EraseMember, MemberErased, ReadPersonKeys, SignIn, TenantCreated
from bizosaas_events.personal import close
from bizosaas_events.testing.waiting import until
from gateway.adapters import persons
from gateway.testing import PASSWORD, TENANT_KEY, World, a_context, connected

WAIT = {"Prefer": "wait=5"}
MEMBERS = "/v1/tenants/acme-id/members"
NEW = {"email": "Zoe@acme.test", "name": 'Zoe "Z" Øst', "role": "tenant_user", "password": PASSWORD}


async def words_of_feed(who: httpx.AsyncClient, number: int) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(10), who.stream("GET", "/v1/stream", headers={"Last-Event-ID": "0"}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                found.append(json.loads(line[5:])["words"])
                if len(found) == number:
                    break
    return found


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are asked for anew each time, so that no test has to wait until they are."""
    monkeypatch.setattr(persons, "FRESH_SECONDS", 0.0)


@pytest.fixture
async def acme(world: World) -> World:
    """With the tenant acme in the read model."""
    made = TenantCreated(tenant_id="acme-id", slug="acme", name="Acme")
    await world.services.record("tenant-acme-id", made, a_context("acme-id"))
    return world


async def test_names_are_shown_where_people_look(acme: World) -> None:
    ada = await acme.admin()
    await until(lambda: _status(ada, f"{MEMBERS}/ada-id", 200))
    await connected(ada)

    me = (await ada.get("/v1/me")).json()
    listed = (await ada.get(MEMBERS)).json()["items"]
    shown = (await ada.get(f"{MEMBERS}/ada-id")).json()

    assert (me["email"], me["name"]) == ("ada@acme.test", "Ada")
    assert [(m["email"], m["name"]) for m in listed] == [("ada@acme.test", "Ada")]
    assert shown == listed[0]
    assert "Ada asked to connect wordpress as “Blog”" in await words_of_feed(ada, 5)


async def test_members_are_found_by_what_is_closed_in_the_database(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.reading.LARGEST_LIMIT", 2)
    root = await acme.root()
    for n in range(5):
        await acme.services.added(
            AddMember(member_id=f"m{n}", email=f"{n}@acme.test", name=f"Name {n % 2}", role="tenant_user",
                      sealed_password=b""), a_context("acme-id"),
        )  # fmt: skip

    async def found(query: str) -> tuple[list[str], str]:
        page = (await root.get(f"{MEMBERS}?{query}")).json()
        return [member["id"] for member in page["items"]], page["next"]

    await until(lambda: _is(found("limit=1&email=4@acme.test"), (["m4"], "")))
    assert await found("limit=1&email=0@acme.test") == (["m0"], "")
    assert await found("limit=1&email=nobody@acme.test") == ([], "")
    first, following = await found("limit=2&name=Name%200")
    assert (first, (await found(f"limit=2&name=Name%200&cursor={following}"))[0]) == (["m4", "m2"], ["m0"])


async def _is(looked: Any, expected: Any) -> bool:
    return bool(await looked == expected)


async def test_nothing_personal_rests_or_travels_in_clear(acme: World) -> None:
    root = await acme.root()
    made = await root.post(MEMBERS, json=NEW, headers=WAIT)
    zoe = await acme.http.post("/v1/sessions", json={"email": NEW["email"], "password": PASSWORD})
    assert zoe.status_code == 201, zoe.text
    assert (zoe.json()["name"], zoe.json()["email"]) == (NEW["name"], NEW["email"])
    member = await root.get(f"{MEMBERS}/{made.json()['id']}", headers={"Read-After": made.headers["Position"]})
    assert member.json()["name"] == NEW["name"]

    ((_, added),) = acme.services.commands(AddMember)
    assert isinstance(added, AddMember)
    assert TENANT_KEY.open_text(added.name) == NEW["name"]
    _, signed_in = acme.services.commands(SignIn)[-1]
    assert isinstance(signed_in, SignIn)
    assert TENANT_KEY.open_text(signed_in.email) == NEW["email"]
    said = await everything(acme)
    assert b"closed(v1:" in said
    for clear in (NEW["email"], "Zoe", "Øst", "petra@bizos.test", "Petra"):
        assert clear.encode() not in said


async def everything(world: World) -> bytes:
    """What the gateway keeps in its database and what is in Redis of this deployment."""
    found: list[bytes] = []
    connection = await asyncpg.connect(str(world.settings.database_url))
    await connection.execute("select set_config('app.tenant', '*', false)")
    tables = await connection.fetch("select schemaname, tablename from pg_tables where tableowner = current_user")
    for schema, table in tables:
        found += [str(tuple(row)).encode() for row in await connection.fetch(f'select * from "{schema}"."{table}"')]
    await connection.close()
    redis: Any = world.services.redis
    async for key in redis.scan_iter(match=f"*{world.settings.env}*"):
        match await redis.type(key):
            case b"stream":
                found += [value for _, fields in await redis.xrange(key) for value in fields.values()]
            case b"hash":
                found += (await redis.hgetall(key)).values()
            case b"string":
                found.append(await redis.get(key) or b"")
    return b"\n".join(found)


async def test_an_erased_member_is_signed_out_and_their_name_is_gone(acme: World) -> None:
    ada, root = await acme.admin(), await acme.root()
    uma = await acme.member("uma@acme.test", "tenant_user")
    assert (await uma.get("/v1/me")).status_code == 200
    await until(lambda: _status(root, "/v1/tenants/platform/members/petra-id", 200))

    answer = await root.delete(f"{MEMBERS}/uma-id", headers=WAIT)

    assert answer.status_code == 200, answer.text
    after = {"Read-After": answer.headers["Position"]}
    shown = (await ada.get(f"{MEMBERS}/uma-id", headers=after)).json()
    assert (shown["name"], shown["email"], shown["id"]) == ("(erased)", "(erased)", "uma-id")
    assert shown["erased_at"]
    assert (await uma.get("/v1/me")).status_code == 401
    assert (await ada.get("/v1/me")).json()["name"] == "Ada", "everybody else is as before"
    words = await words_of_feed(ada, 6)
    assert words[-1] == "Petra erased the member uma-id"
    assert "(erased) signed in with password" in words
    assert "Uma" not in str(words)


@pytest.mark.usefixtures("forgetful")
async def test_a_gateway_that_has_not_heard_of_the_erasure_asks_anew(acme: World) -> None:
    ada = await acme.admin()
    await acme.member("uma@acme.test", "tenant_user")
    await until(lambda: _status(ada, f"{MEMBERS}/uma-id", 200))
    acme.services.person_keys["uma-id"] = acme.services.person_keys["uma-id"]._replace(key=None)

    assert (await ada.get(f"{MEMBERS}/uma-id")).json()["name"] == "(erased)"


async def test_only_who_manages_tenants_erases_and_a_repeat_under_a_key_is_one_command(acme: World) -> None:
    ada, root = await acme.admin(), await acme.root()
    await acme.member("uma@acme.test", "tenant_user")

    refused = await ada.delete(f"{MEMBERS}/uma-id", headers=WAIT)
    answers = [await root.delete(f"{MEMBERS}/uma-id", headers={**WAIT, "Idempotency-Key": "k"}) for _ in range(2)]
    unknown = await root.delete(f"{MEMBERS}/nobody", headers=WAIT)
    at_once = await root.delete(f"{MEMBERS}/uma-id")

    assert (refused.status_code, unknown.status_code) == (403, 404)
    assert "tenant_management" in refused.json()["detail"]
    assert [a.status_code for a in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert at_once.status_code == 202
    assert len({e.id for e, c in acme.services.commands(EraseMember) if c == EraseMember(member_id="uma-id")}) == 2


async def test_who_is_erased_while_signing_in_is_not_let_in(acme: World) -> None:
    await acme.member("uma@acme.test", "tenant_user")
    key = acme.services.person_keys["uma-id"]
    acme.services.person_keys["uma-id"] = key._replace(key=None)

    answer = await acme.http.post("/v1/sessions", json={"email": "uma@acme.test", "password": PASSWORD})

    assert answer.status_code == 401
    assert answer.json()["type"] == "/problems/not-signed-in"


async def test_a_past_moment_is_shown_with_names(acme: World) -> None:
    ada = await acme.admin()
    added, _ = acme.services.accounts["ada@acme.test"]
    acme.services.state = json.dumps({"name": added.name}).encode()

    shown = await ada.get("/v1/audit/state/member/ada-id?at=2026-01-01T00:00:00Z")

    assert shown.json()["state"] == {"name": "Ada"}


async def test_another_tenants_closed_value_is_not_opened_wherever_it_is_written(acme: World) -> None:
    ada = await acme.admin()
    eve = await acme.member("eve@evil.test", "tenant_admin", "evil-id")
    of_ada = acme.services.person_keys["ada-id"].key
    assert of_ada
    stolen = close("ada@acme.test", "ada-id", "0192aaaa-0000-7000-8000-000000000001", of_ada)

    for who, expected in ((ada, "ada@acme.test"), (eve, stolen)):
        shown = await connected(who, stolen)
        label = (await who.get(f"/v1/connections/{shown['id']}")).json()["label"]
        assert label == expected


@pytest.mark.usefixtures("forgetful")
async def test_while_tenant_svc_is_away_known_names_are_shown_and_unknown_ones_waited_for(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persons, "ASK_SECONDS", 0.3)
    ada = await acme.admin()
    await until(lambda: _status(ada, f"{MEMBERS}/ada-id", 200))
    acme.services.silent.add("tenant")
    await acme.services.added(
        AddMember(member_id="new", email="new@acme.test", name="Newton", role="tenant_user", sealed_password=b""),
        a_context("acme-id"),
    )

    assert (await ada.get("/v1/me")).json()["name"] == "Ada"
    await until(lambda: _status(ada, f"{MEMBERS}/new", 503))
    following = asyncio.create_task(words_of_feed(ada, 4))
    await until(lambda: _asked_in_vain(acme))
    acme.services.silent.clear()

    assert (await ada.get(f"{MEMBERS}/new")).json()["name"] == "Newton"
    assert "the test service added Newton <new@acme.test> as tenant_user" in await following


async def _status(who: httpx.AsyncClient, path: str, status: int) -> bool:
    return (await who.get(path)).status_code == status


async def _asked_in_vain(world: World) -> bool:
    return len(world.services.commands(ReadPersonKeys)) > 6


async def test_the_sessions_of_an_erased_member_are_gone_from_redis(acme: World) -> None:
    await acme.admin()
    await acme.member("uma@acme.test", "tenant_user")
    assert await sessions(acme) == 2

    await acme.services.record("member-uma-id", MemberErased(member_id="uma-id"), a_context("acme-id"))

    await until(lambda: _is(sessions(acme), 1))


async def sessions(world: World) -> int:
    redis: Any = world.services.redis
    return len([key async for key in redis.scan_iter(match=f"{world.settings.env}:session:*")])
