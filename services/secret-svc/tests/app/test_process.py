"""secret-svc as a process of its own, on real PostgreSQL, Redis and OpenBao."""

import asyncio
import base64
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from redis.asyncio import Redis

from bizosaas_events import messages, new_id
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages.secret import ConfirmSecret, Leased, Stored
from bizosaas_events.testing.waiting import until
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
    async with starting(environment) as child:
        await asyncio.wait_for(ready(child, environment), 30)
        yield child


@asynccontextmanager
async def starting(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service, started; stopped afterwards."""
    log = Path(environment["BIZOS_SECRET_STORE_PATH"]).with_name("log")
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "secret_svc", env=environment, stderr=errors, stdout=errors
        )
    try:
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


def in_vault(environment: dict[str, str], server: OpenBao) -> dict[str, str]:
    """The settings of a secret-svc that keeps its secrets in this Vault."""
    role = server.approle("secret-svc")
    return {name: value for name, value in environment.items() if name != "BIZOS_SECRET_MASTER_KEY"} | {
        "BIZOS_SECRET_BACKEND": "vault", "BIZOS_VAULT_URL": server.url, "BIZOS_VAULT_ROLE_ID": role.role_id,
        "BIZOS_VAULT_SECRET_ID": role.secret_id, "BIZOS_VAULT_MOUNT": role.mount,
    }  # fmt: skip


async def test_a_sealed_vault_makes_it_not_ready_and_it_recovers_by_itself(
    environment: dict[str, str], bus: RedisCommandBus, private_openbao: OpenBao
) -> None:
    async with running(in_vault(environment, private_openbao)):
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


async def test_a_vault_that_comes_later_is_waited_for_and_said(
    environment: dict[str, str], bus: RedisCommandBus, private_openbao: OpenBao
) -> None:
    settings = in_vault(environment, private_openbao)
    await asyncio.to_thread(private_openbao.stop)
    async with starting(settings) as child:

        async def says_why() -> bool:
            status, body = await health(settings)
            return status == 503 and "Vault is away" in json.loads(body)["problems"].get("vault", "")

        await until(says_why, 30)
        await asyncio.to_thread(private_openbao.start)

        await asyncio.wait_for(ready(child, settings), 30)
        assert await store(bus, VALUE) == 1
        assert await lent(bus) == VALUE


@contextmanager
def collecting() -> Iterator[tuple[str, list[tuple[str, ExportTraceServiceRequest]]]]:
    """Who collects traces: its address, and of each request to it the path and the message."""
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(sent)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


async def test_what_it_did_is_told_to_who_collects_traces(environment: dict[str, str], bus: RedisCommandBus) -> None:
    with collecting() as (address, received):
        async with running(environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": address}):
            assert await store(bus, VALUE) == 1

    told = [
        (path, attribute.value.string_value, span.name)
        for path, message in received
        for resource in message.resource_spans
        for attribute in resource.resource.attributes
        if attribute.key == "service.name"
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert ("/v1/traces", "secret-svc", "secret.store.v1") in told
    assert VALUE not in b"".join(message.SerializeToString() for _, message in received)
