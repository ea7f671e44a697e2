"""A process: it says when it is ready, waits for what is away, and ends when it is told to."""

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from bizosaas_events.store.migrating import migrate
from bizosaas_events.testing.waiting import until
from bizosaas_runtime.health import PORT_TAKEN
from bizosaas_runtime.settings import WRONG_SETTING
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.postgres import Postgres
from bizosaas_sandbox.servers.redis import Redis as RedisServer

PROGRAM = Path(__file__).with_name("program.py")


async def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET; 0 while nobody answers."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0, ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(" ", 2)[1]), answer.partition("\r\n\r\n")[2]


class Running:
    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    async def is_ready(self) -> bool:
        return (await ask(self.port, "/readyz"))[0] == 200

    async def is_not_ready(self) -> bool:
        return (await ask(self.port, "/readyz"))[0] == 503

    async def end(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what was logged."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        _, log = await asyncio.wait_for(self.process.communicate(), 30)
        assert self.process.returncode is not None
        return self.process.returncode, log.decode()


@contextlib.asynccontextmanager
async def running(database_url: str, redis_url: str, env: str, port: int = 0) -> AsyncIterator[Running]:
    port = port or free_port()
    settings = {
        "BIZOS_DATABASE_URL": database_url, "BIZOS_REDIS_URL": redis_url, "BIZOS_ENV": env, "BIZOS_PARTITIONS": "4",
        "BIZOS_HEALTH_PORT": str(port),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, stderr=PIPE, env={"PATH": os.environ["PATH"], **settings}
    )
    try:
        yield Running(process, port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_it_becomes_ready_works_and_drains(database_url: str, any_redis_url: str, env_name: str) -> None:
    async with running(database_url, any_redis_url, env_name) as service:
        await until(service.is_ready, 40)
        assert (await ask(service.port, "/livez"))[0] == 200

        async def holds_its_partitions() -> bool:
            metrics = (await ask(service.port, "/metrics"))[1]
            return 'bizos_consumer_partitions_held{consumer="self"} 4.0' in metrics

        await until(holds_its_partitions)
        code, log = await service.end()
        assert code == 0
        assert '"event": "stopped"' in log


async def test_it_waits_for_a_redis_that_comes_later_and_says_when_it_goes(
    database_url: str, private_redis: RedisServer, env_name: str
) -> None:
    private_redis.stop()
    async with running(database_url, private_redis.url, env_name) as service:
        await until(service.is_not_ready, 40)
        await asyncio.to_thread(private_redis.start)
        await until(service.is_ready, 40)
        await asyncio.to_thread(private_redis.kill)
        await until(service.is_not_ready)
        await asyncio.to_thread(private_redis.start)
        await until(service.is_ready, 40)
        assert (await service.end())[0] == 0


async def test_told_to_end_while_it_waits_it_ends(database_url: str, env_name: str) -> None:
    async with running(database_url, f"redis://127.0.0.1:{free_port()}/0", env_name) as service:
        await until(service.is_not_ready, 40)
        assert (await service.end())[0] == 0


async def test_a_health_port_that_is_taken_ends_it_and_is_named(
    database_url: str, redis_url: str, env_name: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with running(database_url, redis_url, env_name, int(taken.getsockname()[1])) as service:
            _, log = await asyncio.wait_for(service.process.communicate(), 60)
            assert service.process.returncode == PORT_TAKEN
            assert "BIZOS_HEALTH_PORT: 127.0.0.1:" in log.decode()


async def test_it_waits_for_a_postgresql_that_comes_later(
    private_postgres: Postgres, redis_url: str, env_name: str
) -> None:
    url = private_postgres.create_database("late", "late", "late")
    await asyncio.to_thread(private_postgres.stop)
    async with running(url, redis_url, env_name) as service:
        await until(service.is_not_ready, 40)
        await asyncio.to_thread(private_postgres.start)
        await until(service.is_ready, 40)
        code, log = await service.end()
        assert code == 0
        assert "waiting for PostgreSQL" in log


@pytest.mark.parametrize(
    ("part", "said"),
    [("password", "password authentication failed"), ("database", 'database "nowhere" does not exist')],
)
async def test_a_database_setting_that_is_wrong_ends_the_start_and_is_named(
    database_url: str, redis_url: str, env_name: str, part: str, said: str
) -> None:
    parts = urlsplit(database_url)
    wrong = {
        "password": parts._replace(netloc=f"{parts.username}:canary@{parts.hostname}:{parts.port}"),
        "database": parts._replace(path="/nowhere"),
    }
    log = await ended_at_once(urlunsplit(wrong[part]), redis_url, env_name)
    assert f"BIZOS_DATABASE_URL cannot be used: {said}" in log
    assert "canary" not in log


async def test_a_redis_that_wants_another_password_ends_the_start_and_is_named(
    database_url: str, private_redis: RedisServer, env_name: str
) -> None:
    async with Redis.from_url(private_redis.url) as redis:
        await redis.config_set("requirepass", "right")
    for url in (private_redis.url, private_redis.url.replace("://", "://:canary@")):
        log = await ended_at_once(database_url, url, env_name)
        assert "BIZOS_REDIS_URL cannot be used: " in log
        assert "canary" not in log


async def test_a_database_of_a_newer_version_ends_the_start_with_what_to_do(
    database_url: str, redis_url: str, env_name: str
) -> None:
    await asyncio.to_thread(migrate, database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute("update revision_of_bizosaas_events set version_num = '9999'")
    await connection.close()
    log = await ended_at_once(database_url, redis_url, env_name)
    assert "the database was written by a newer version" in log
    assert "'9999'" in log
    assert "start that version, or restore a backup" in log


async def ended_at_once(database_url: str, redis_url: str, env: str) -> str:
    """What a process says whose settings are wrong: no traceback."""
    async with running(database_url, redis_url, env) as service:
        _, said = await asyncio.wait_for(service.process.communicate(), 60)
        assert service.process.returncode == WRONG_SETTING, said
        assert b"Traceback" not in said
        return said.decode()
