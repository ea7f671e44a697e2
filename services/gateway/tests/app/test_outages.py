"""Servers go away and come back; the gateway says so and goes on without a restart."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bizosaas_sandbox.servers.postgres import Postgres
from bizosaas_sandbox.servers.redis import Redis
from bizosaas_sandbox.servers.redis_cluster import RedisCluster
from gateway.app.settings import Settings
from gateway.testing import World, connected, running, until_ready

pytestmark = pytest.mark.kill


def is_away(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1


async def recovered(attempt: Callable[[], Any], wanted: int, seconds: float = 15) -> httpx.Response:
    end = time.monotonic() + seconds
    while True:
        answer: httpx.Response = await attempt()
        if answer.status_code == wanted or time.monotonic() > end:
            assert answer.status_code == wanted, answer.text
            return answer
        assert answer.status_code in (202, 503, 504), answer.text
        await asyncio.sleep(0.1)


@pytest.fixture
async def redis_world(settings_of: Callable[..., Settings], private_redis: Redis) -> AsyncIterator[World]:
    async with running(settings_of(redis_url=private_redis.url)) as world:
        yield world


async def test_redis_is_killed_and_comes_back(redis_world: World, private_redis: Redis) -> None:
    ada = await redis_world.admin()
    made = await connected(ada)
    call = {"operation": "cms.list", "arguments": {}}
    path = f"/v1/connections/{made['id']}/calls"

    private_redis.kill()
    is_away(await ada.post(path, json=call))
    is_away(await ada.post(path, json=call, headers={"Prefer": "wait=5"}))
    is_away(await redis_world.http.post("/v1/sessions", json={"email": "ada@acme.test", "password": "x"}))
    assert (await ada.get("/v1/connections")).status_code == 200, "reading goes on while the session is known"
    assert (await redis_world.http.get("/readyz")).status_code == 503
    assert (await redis_world.http.get("/livez")).status_code == 200
    private_redis.start()

    await recovered(lambda: ada.post(path, json=call, headers={"Prefer": "wait=5"}), 200)
    await until_ready(redis_world.http)
    await connected(ada, "After")


@pytest.mark.xdist_group("redis-cluster")
async def test_a_redis_cluster_is_as_good_as_one_redis(
    settings_of: Callable[..., Settings], redis_cluster_server: RedisCluster
) -> None:
    async with running(settings_of(redis_url=redis_cluster_server.url)) as world:
        ada = await world.admin()
        made = await connected(ada)
        path = f"/v1/connections/{made['id']}/calls"
        call = {"operation": "cms.list", "arguments": {}}
        assert (await ada.post(path, json=call, headers={"Prefer": "wait=5"})).status_code == 200
        assert (await world.http.get("/readyz")).status_code == 200


async def test_a_flushed_redis_ends_sessions_and_nothing_else(redis_world: World, private_redis: Redis) -> None:
    ada = await redis_world.admin()
    await connected(ada)

    private_redis.flushall()
    await asyncio.sleep(5.1)  # the session is in the process's cache so long

    assert (await ada.get("/v1/connections")).status_code == 401
    assert (await redis_world.http.get("/readyz")).status_code == 200


async def test_postgresql_is_killed_and_comes_back(
    settings_of: Callable[..., Settings], private_postgres: Postgres
) -> None:
    url = private_postgres.create_database("gateway", "gateway", "gateway")
    async with running(settings_of(database_url=url)) as world:
        ada = await world.admin()
        made = await connected(ada)

        private_postgres.kill()
        is_away(await ada.get("/v1/connections"))
        is_away(await ada.get(f"/v1/connections/{made['id']}"))
        accepted = await ada.post(f"/v1/connections/{made['id']}/calls", json={"operation": "a", "arguments": {}})
        assert accepted.status_code == 202, "writing goes on"
        assert (await world.http.get("/readyz")).status_code == 503
        private_postgres.start()

        await recovered(lambda: ada.get("/v1/connections"), 200)
        await connected(ada, "After")


@contextlib.contextmanager
def a_process(settings: Settings, **changes: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m gateway` with these settings."""
    variables = {
        "BIZOS_" + name.upper(): str(value)
        for name, value in settings.model_dump().items()
        if not name.startswith("otel")
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BIZOS_")} | variables | changes
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"], env={k: v for k, v in environment.items() if v}, stderr=subprocess.PIPE,
        text=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_missing_or_wrong_setting_ends_the_start_and_names_itself(settings_of: Callable[..., Settings]) -> None:
    with a_process(settings_of(), BIZOS_SECRET_SVC_PUBLIC_KEY="", BIZOS_TENANT_SVC_PUBLIC_KEY="short") as process:
        _, said = process.communicate(timeout=30)

    assert process.returncode == 78
    assert "BIZOS_SECRET_SVC_PUBLIC_KEY is missing" in said
    assert "BIZOS_TENANT_SVC_PUBLIC_KEY is wrong" in said


def test_a_database_that_cannot_be_used_ends_the_start_and_is_named(settings_of: Callable[..., Settings]) -> None:
    settings = settings_of()
    nowhere = f"{str(settings.database_url).rpartition('/')[0]}/nowhere"
    with a_process(settings, BIZOS_DATABASE_URL=nowhere) as process:
        _, said = process.communicate(timeout=60)

    assert process.returncode == 78, said
    assert 'BIZOS_DATABASE_URL cannot be used: database "nowhere" does not exist' in said
    assert "Traceback" not in said


async def test_a_taken_port_ends_the_start_with_one_sentence(world: World) -> None:
    with a_process(world.settings) as process:
        _, said = await asyncio.to_thread(process.communicate, timeout=30)

    assert process.returncode == 75
    assert "BIZOS_HTTP_PORT" in said
    assert "choose another port" in said


async def test_it_serves_before_its_servers_are_there_and_drains_on_sigterm(
    settings_of: Callable[..., Settings], private_postgres: Postgres, private_redis: Redis
) -> None:
    url = private_postgres.create_database("gateway", "gateway", "gateway")
    private_postgres.stop()
    private_redis.stop()
    settings = settings_of(database_url=url, redis_url=private_redis.url)
    with a_process(settings, BIZOS_LOG_LEVEL="INFO") as process:
        async with httpx.AsyncClient(base_url=str(settings.public_url)) as http:
            await until_ready(http, wanted=503)
            is_away(await http.get("/v1/me"))
            assert (await http.get("/livez")).status_code == 200
            private_postgres.start()
            await asyncio.sleep(2.5)  # it looks again every two seconds at least
            is_away(await http.get("/v1/me"))
            private_redis.start()
            await until_ready(http)
            assert (await http.get("/v1/me")).status_code == 401
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.to_thread(process.communicate, timeout=15)

    assert process.returncode == 0
    assert "waiting for PostgreSQL" in said
    assert "waiting for Redis" in said
    assert '"event":"request"' in said
    assert '"path":"/v1/me"' in said
    assert all(line.startswith("{") for line in said.splitlines()), said
