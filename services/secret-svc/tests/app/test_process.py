"""secret-svc as a process of its own, on real PostgreSQL, Redis and OpenBao."""

import asyncio
import base64
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bizosaas_events import messages, new_id
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages.secret import ConfirmSecret, Leased, Stored
from bizosaas_ports.sealing import SealingKey
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.openbao import OpenBao
from secret_svc.testing import KEY, VALUE, a_context, a_lease, a_secret

ME = SealingKey.generate()


@pytest.fixture
def environment(database_url: str, redis_url: str, env_name: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "BIZOS_ENV": env_name,
        "BIZOS_DATABASE_URL": database_url,
        "BIZOS_REDIS_URL": redis_url,
        "BIZOS_PARTITIONS": "4",
        "BIZOS_HEALTH_PORT": str(free_port()),
        "BIZOS_SEALING_KEY": KEY.export(),
        "BIZOS_SECRET_BACKEND": "env",
        "BIZOS_SECRET_STORE_PATH": str(tmp_path / "secrets"),
        "BIZOS_SECRET_MASTER_KEY": base64.b64encode(b"k" * 32).decode(),
        "BIZOS_SECRET_OAUTH_SHOP_CLIENT_SECRET": "canary-client-secret",
    }


@asynccontextmanager
async def running(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service, ready; stopped afterwards."""
    log = Path(environment["BIZOS_SECRET_STORE_PATH"]).with_name("log")
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "secret_svc", env=environment, stderr=errors, stdout=errors
        )
    try:
        await asyncio.wait_for(ready(child, environment), 30)
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), 30)
        except TimeoutError:
            child.kill()
            await child.wait()
            raise


async def ready(child: asyncio.subprocess.Process, environment: dict[str, str]) -> None:
    while (await health(environment))[0] != 200:
        assert child.returncode is None, "the service ended"
        await asyncio.sleep(0.1)


async def health(environment: dict[str, str]) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{environment['BIZOS_HEALTH_PORT']}/readyz", timeout=2) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    return await asyncio.to_thread(ask)


@pytest.fixture
async def bus(redis_url: str, env_name: str) -> AsyncIterator[RedisCommandBus]:
    redis = Redis.from_url(redis_url)
    async with RedisCommandBus(redis, messages.codec(), env=env_name, source="test", instance=new_id()) as bus:
        yield bus
    await redis.aclose()


async def store(bus: RedisCommandBus, value: bytes, timeout: float = 15) -> int:
    stored = await bus.call(a_secret(value=value), Stored, a_context(), id=new_id(), timeout=timeout)
    return stored.version


async def lent(bus: RedisCommandBus, secret_id: str = "crm", tenant: str = "acme") -> bytes:
    leased = await bus.call(a_lease(ME, secret_id), Leased, a_context(tenant), id=new_id(), timeout=15)
    return ME.open(leased.sealed)


async def test_what_was_stored_survives_a_kill_and_nothing_is_told_in_the_log(
    environment: dict[str, str], bus: RedisCommandBus
) -> None:
    async with running(environment) as child:
        assert await store(bus, b"canary-old") == 1
        assert await lent(bus, "oauth-shop", "platform") == b"canary-client-secret"
        child.send_signal(signal.SIGKILL)
        await child.wait()
    waiting = asyncio.create_task(store(bus, b"canary-new", timeout=30))
    async with running(environment):
        assert await waiting == 2
        assert await lent(bus) == b"canary-new"
        reply = await bus.ask(ConfirmSecret(secret_id="crm", version=2), a_context(), id=new_id(), timeout=15)
        assert reply.problem is None
        with pytest.raises(RefusedError, match="Version 1"):
            await bus.call(a_lease(ME, version=1), Leased, a_context(), id=new_id(), timeout=15)
    log = await asyncio.to_thread(Path(environment["BIZOS_SECRET_STORE_PATH"]).with_name("log").read_text)
    assert "ready" in log
    assert "canary" not in log


async def test_another_master_key_stops_the_start_and_names_itself(environment: dict[str, str]) -> None:
    async with running(environment):
        pass
    wrong = environment | {"BIZOS_SECRET_MASTER_KEY": base64.b64encode(b"x" * 32).decode()}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "secret_svc", env=wrong, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await asyncio.wait_for(child.communicate(), 30)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 78
    assert b"BIZOS_SECRET_MASTER_KEY is not the key" in said


async def test_a_sealed_vault_makes_it_not_ready_and_it_recovers_by_itself(
    environment: dict[str, str], bus: RedisCommandBus, private_openbao: OpenBao
) -> None:
    role = private_openbao.approle("secret-svc")
    environment |= {
        "BIZOS_SECRET_BACKEND": "vault", "BIZOS_VAULT_URL": private_openbao.url, "BIZOS_VAULT_ROLE_ID": role.role_id,
        "BIZOS_VAULT_SECRET_ID": role.secret_id, "BIZOS_VAULT_MOUNT": role.mount,
    }  # fmt: skip
    del environment["BIZOS_SECRET_MASTER_KEY"]
    async with running(environment):
        assert await store(bus, VALUE) == 1
        await asyncio.to_thread(private_openbao.seal)

        with pytest.raises(RefusedError, match="sealed or away") as refused:
            await lent(bus)
        assert refused.value.problem.kind == "unavailable"
        status, body = await health(environment)
        assert (status, json.loads(body)["problems"]) == (503, {"vault": "Vault is sealed"})

        await asyncio.to_thread(private_openbao.unseal)
        assert await lent(bus) == VALUE
        assert (await health(environment))[0] == 200
