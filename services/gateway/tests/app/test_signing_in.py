"""Sessions: by cookie for browsers, by token for programs."""

import asyncio
from collections.abc import Callable

import httpx
from redis.asyncio import Redis

from bizosaas_events.messages.connector import Connect
from bizosaas_events.messages.tenant import SignIn
from gateway.app.settings import Settings
from gateway.testing import PASSWORD, TENANT_KEY, World, running

BODY = {"connector": "wordpress", "label": "Blog", "credentials": {"password": "p"}}


async def sign_in(world: World, email: str = "ada@acme.test", password: str = PASSWORD) -> httpx.Response:
    return await world.http.post("/v1/sessions", json={"email": email, "password": password})


async def test_signing_in_gives_a_token_a_cookie_and_what_one_may_do(world: World) -> None:
    await world.admin()

    answer = await sign_in(world)

    said = answer.json()
    assert (said["role"], said["tenant_id"]) == ("tenant_admin", "acme-id")
    assert said["features"] == ["view_dashboard", "manage_integrations", "view_agents"]
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"__Host-bizos_session={said['token']}; Path=/; ")
    assert {"Secure", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    me = (await world.client({"Authorization": f"Bearer {said['token']}"}).get("/v1/me")).json()
    assert me["member_id"] == "ada-id"
    assert me["csrf_token"] == said["csrf_token"]


async def test_the_password_travels_sealed_and_stands_nowhere(world: World) -> None:
    await world.admin()

    ((_, command),) = world.services.commands(SignIn)

    assert isinstance(command, SignIn)
    assert PASSWORD.encode() not in command.sealed_password
    assert TENANT_KEY.open(command.sealed_password) == PASSWORD.encode()


async def test_the_token_itself_is_not_in_redis(world: World) -> None:
    await world.admin()
    token = (await sign_in(world)).json()["token"]
    redis: Redis = Redis.from_url(str(world.settings.redis_url))

    keys = [key async for key in redis.scan_iter(f"{world.settings.env}:session:*")]
    values = [bytes(await redis.get(key) or b"") for key in keys]  # type: ignore[arg-type]  # bytes, without decoding
    await redis.aclose()

    assert len(keys) == 2
    assert token.encode() not in b"".join([*keys, *values])


async def test_nobody_gets_in_without_a_session(world: World) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}, {"Cookie": "a=b"}):
        answer = await world.http.get("/v1/connections", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["type"] == "/problems/not-signed-in"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_change_by_cookie_needs_the_csrf_token(world: World) -> None:
    await world.admin()
    said = (await sign_in(world)).json()
    browser = world.client({"Cookie": f"__Host-bizos_session={said['token']}"})

    assert (await browser.get("/v1/connections")).status_code == 200
    for wrong in ({}, {"X-CSRF-Token": "wrong"}):
        refused = await browser.post("/v1/connections", json=BODY, headers=wrong)
        assert refused.status_code == 403
        assert refused.json()["type"] == "/problems/csrf-token-missing"
    assert world.services.commands(Connect) == []
    taken = await browser.post("/v1/connections", json=BODY, headers={"X-CSRF-Token": said["csrf_token"]})
    assert taken.status_code == 202


async def test_signing_out_ends_the_session(world: World) -> None:
    ada = await world.admin()

    out = await ada.delete("/v1/sessions/current")

    assert out.status_code == 204
    assert "Max-Age=0" in out.headers["Set-Cookie"]
    assert (await ada.get("/v1/me")).status_code == 401


async def test_a_session_ends_when_it_is_not_used_and_lives_on_while_it_is(
    settings_of: Callable[..., Settings],
) -> None:
    async with running(settings_of(session_seconds=1)) as world:
        ada = await world.admin()
        for _ in range(8):
            await asyncio.sleep(0.25)
            assert (await ada.get("/v1/me")).status_code == 200
        await asyncio.sleep(1.6)

        assert (await ada.get("/v1/me")).status_code == 401


async def test_a_session_ends_at_the_latest_when_it_was_said(settings_of: Callable[..., Settings]) -> None:
    async with running(settings_of(session_longest_seconds=1)) as world:
        ada = await world.admin()
        assert (await ada.get("/v1/me")).status_code == 200
        await asyncio.sleep(1.1)

        assert (await ada.get("/v1/me")).status_code == 401


async def test_a_wrong_password_and_an_unknown_address_are_told_alike(world: World) -> None:
    await world.admin()

    wrong, unknown = await sign_in(world, password="wrong"), await sign_in(world, email="no@acme.test")

    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() | {"instance": ""} == unknown.json() | {"instance": ""}


async def test_guessing_is_stopped_for_an_address_and_not_for_others(settings_of: Callable[..., Settings]) -> None:
    async with running(settings_of(sign_in_failures_per_email=3, sign_in_window_seconds=2)) as world:
        await world.admin()
        await world.member("ben@acme.test", "tenant_user")
        guesses = await asyncio.gather(*(sign_in(world, password=f"guess {n}") for n in range(6)))

        assert sorted(answer.status_code for answer in guesses) == [401, 401, 401, 429, 429, 429]
        refused = await sign_in(world)
        assert refused.status_code == 429, "the right password neither, or guessing would go on"
        assert 1 <= int(refused.headers["Retry-After"]) <= 2
        assert (await sign_in(world, email="ben@acme.test")).status_code == 201
        await asyncio.sleep(2.1)
        assert (await sign_in(world)).status_code == 201


async def test_guessing_from_one_place_is_stopped_for_all_addresses(settings_of: Callable[..., Settings]) -> None:
    async with running(settings_of(sign_in_failures_per_client=3)) as world:
        await world.admin()
        codes = [(await sign_in(world, email=f"{n}@acme.test")).status_code for n in range(5)]

        assert codes == [401, 401, 401, 429, 429]


async def test_signing_in_right_is_never_stopped(settings_of: Callable[..., Settings]) -> None:
    async with running(settings_of(sign_in_failures_per_email=2, sign_in_failures_per_client=2)) as world:
        await world.admin()

        assert [(await sign_in(world)).status_code for _ in range(5)] == [201] * 5


async def test_no_answer_from_tenant_svc_is_told_and_is_no_failed_attempt(
    settings_of: Callable[..., Settings],
) -> None:
    async with running(settings_of(sign_in_failures_per_email=1)) as world:
        await world.admin()
        world.services.silent.add("tenant")
        away = await sign_in(world)
        world.services.silent.clear()

        assert away.status_code == 504
        assert away.json()["type"] == "/problems/no-answer-yet"
        assert (await sign_in(world)).status_code == 201


async def test_the_client_is_found_behind_proxies_of_ours_only(settings_of: Callable[..., Settings]) -> None:
    async with running(settings_of(sign_in_failures_per_client=1, proxies=1)) as world:
        await world.admin()
        codes = []
        for forwarded in ("9.9.9.9, 1.1.1.1", "8.8.8.8, 1.1.1.1", "1.1.1.1, 2.2.2.2"):
            body = {"email": f"{forwarded}@acme.test", "password": "wrong"}
            answer = await world.http.post("/v1/sessions", json=body, headers={"X-Forwarded-For": forwarded})
            codes.append(answer.status_code)

        assert codes == [401, 429, 401]
