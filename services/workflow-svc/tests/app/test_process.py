"""workflow-svc as a process of its own, on real PostgreSQL, Redis and Temporal; connector-svc answers from memory."""

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from bizosaas_events import Command, Envelope, Event, Reply, messages, new_id
from bizosaas_events.bus import Answer, Handler
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.messages.connector import CallOperation, OperationResult
from bizosaas_events.messages.workflow import ApprovalRequested, WorkflowFinished
from bizosaas_events.stopping import stop
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_runtime.commands import CommandHost
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.temporal import Temporal
from bizosaas_sandbox.testing import NewDatabase
from workflow_svc.testing import a_context, a_start, a_verdict, first_approval

E = TypeVar("E", bound=Event)


@pytest.fixture
def environment(database_url: str, redis_url: str, env_name: str, private_temporal: Temporal) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "BIZOS_ENV": env_name,
        "BIZOS_DATABASE_URL": database_url,
        "BIZOS_REDIS_URL": redis_url,
        "BIZOS_PARTITIONS": "4",
        "BIZOS_HEALTH_PORT": str(free_port()),
        "BIZOS_COMMAND_IDLE_MS": "1000",
        "BIZOS_TEMPORAL_ADDRESS": private_temporal.url,
        "BIZOS_TEMPORAL_NAMESPACE": private_temporal.namespace,
    }


@asynccontextmanager
async def running(environment: dict[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service, alive; stopped afterwards."""
    with log.open("ab") as out:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workflow_svc", env=environment, stderr=out, stdout=out
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        code = await asyncio.wait_for(child.wait(), 40)
    assert code in (0, -signal.SIGKILL), await asyncio.to_thread(log.read_text)


async def health(environment: dict[str, str]) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{environment['BIZOS_HEALTH_PORT']}/readyz", timeout=5) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    return await asyncio.to_thread(ask)


async def healthy(environment: dict[str, str], status: int, *words: str) -> None:
    """Wait until the service says so."""
    async with asyncio.timeout(40):
        while True:
            code, body = await health(environment)
            if code == status and all(word in body for word in words):
                return
            await asyncio.sleep(0.2)


@pytest.fixture
async def bus(redis_url: str, env_name: str) -> AsyncIterator[RedisCommandBus]:
    redis = Redis.from_url(redis_url)
    async with RedisCommandBus(redis, messages.codec(), env=env_name, source="test", instance=new_id()) as bus:
        yield bus
    await redis.aclose()


@pytest.fixture
async def calls(
    new_database: NewDatabase, redis_url: str, env_name: str
) -> AsyncIterator[list[tuple[CallOperation, Envelope]]]:
    """What connector-svc was asked to do, which it says it did."""
    url = new_database()
    await asyncio.to_thread(migrate, url)
    asked: list[tuple[CallOperation, Envelope]] = []

    async def call(command: CallOperation, envelope: Envelope) -> Answer:
        asked.append((command, envelope))
        return Answer(result=OperationResult(call_id="call-1", data=msgspec.Raw(b"{}")))

    async def unhandled(command_id: str) -> Envelope | None:
        return None

    redis = Redis.from_url(redis_url)
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        host = CommandHost(
            service="connector", codec=messages.codec(), redis=redis, redis_url=redis_url, pool=pool, env=env_name,
            instance=new_id(), workers=2, idle_ms=1000, handled=unhandled,
        )  # fmt: skip
        handlers: dict[type[Command], Handler] = {CallOperation: call}
        await host.start(handlers)
        keeping = asyncio.create_task(host.run())
        yield asked
        await host.drain()
        await stop([keeping])
    await redis.aclose()


class Log:
    """The service's own log, read from its database."""

    def __init__(self, store: PostgresEventStore) -> None:
        self._store = store

    async def seen(self, event: type[E], stream: str) -> E:
        async with asyncio.timeout(60):
            while True:
                for envelope in await self._store.load(stream):
                    found = self._store.codec.decode(envelope)
                    if isinstance(found, event):
                        return found
                await asyncio.sleep(0.1)

    async def types(self, stream: str) -> list[str]:
        return [envelope.type for envelope in await self._store.load(stream)]


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[Log]:
    await asyncio.to_thread(migrate, database_url)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        yield Log(PostgresEventStore(pool, messages.codec(), category="workflow", source="test", partitions=4))


async def ask(bus: RedisCommandBus, command: Command) -> Reply:
    return await bus.ask(command, a_context(), id=new_id(), timeout=30)


async def approved(bus: RedisCommandBus, log: Log, id: str) -> None:
    """Somebody approves what the workflow asks for."""
    asked = await log.seen(ApprovalRequested, f"approval-{first_approval(id)}")
    reply = await ask(bus, a_verdict("approved", asked.approval_id, asked.arguments_digest))
    assert reply.problem is None


async def test_temporal_away_at_the_start_and_the_service_killed_while_a_person_thinks_lose_and_double_nothing(
    environment: dict[str, str], bus: RedisCommandBus, calls: list[tuple[CallOperation, Envelope]], log: Log,
    private_temporal: Temporal, tmp_path: Path,
) -> None:  # fmt: skip
    id, out = new_id(), tmp_path / "log"
    await asyncio.to_thread(private_temporal.stop)
    async with running(environment, out) as child:
        await healthy(environment, 503, '"temporal"', '"temporal worker"', "Temporal is away")
        assert (await ask(bus, a_start(id))).problem is None
        await asyncio.to_thread(private_temporal.start)
        await log.seen(ApprovalRequested, f"approval-{first_approval(id)}")
        await healthy(environment, 200)
        child.send_signal(signal.SIGKILL)
        await child.wait()
    async with running(environment, out):
        await approved(bus, log, id)
        finished = await log.seen(WorkflowFinished, f"workflow-{id}")
    assert (finished.outcome, len(calls)) == ("completed", 1)
    (call, envelope), *_ = calls
    assert (call.arguments, call.idempotency_key, envelope.actorid) == ({"id": "17"}, first_approval(id), "member:ann")
    assert await log.types(f"workflow-{id}") == ["workflow.workflow.started.v1", "workflow.workflow.finished.v1"]
    assert await log.types(f"approval-{first_approval(id)}") == [
        "workflow.approval.requested.v1", "workflow.approval.decided.v1",
    ]  # fmt: skip


@pytest.mark.parametrize("pending", ["start", "verdict"])
async def test_temporal_killed_while_something_is_pending_is_caught_up_with_when_it_is_back(
    environment: dict[str, str], bus: RedisCommandBus, calls: list[tuple[CallOperation, Envelope]], log: Log,
    private_temporal: Temporal, tmp_path: Path, pending: str,
) -> None:  # fmt: skip
    id = new_id()
    async with running(environment, tmp_path / "log"):
        await healthy(environment, 200)
        if pending == "verdict":
            await ask(bus, a_start(id))
            await log.seen(ApprovalRequested, f"approval-{first_approval(id)}")
        await asyncio.to_thread(private_temporal.kill)
        if pending == "start":
            assert (await ask(bus, a_start(id))).problem is None
        else:
            await approved(bus, log, id)
        await healthy(environment, 503, "consumer workflow-starter")
        await asyncio.to_thread(private_temporal.start)
        if pending == "start":
            await approved(bus, log, id)
        finished = await log.seen(WorkflowFinished, f"workflow-{id}")
        await healthy(environment, 200)
    assert (finished.outcome, len(calls)) == ("completed", 1)


async def test_it_drains_although_temporal_is_away(
    environment: dict[str, str], private_temporal: Temporal, tmp_path: Path
) -> None:
    async with running(environment, tmp_path / "log") as child:
        await healthy(environment, 200)
        await asyncio.to_thread(private_temporal.kill)
        await healthy(environment, 503, '"temporal"')
        child.terminate()
        assert await asyncio.wait_for(child.wait(), 20) == 0


@pytest.mark.parametrize(
    ("address", "said"),
    [(None, b"BIZOS_TEMPORAL_ADDRESS is missing"), ("http://temporal", b"BIZOS_TEMPORAL_ADDRESS is wrong")],
)
async def test_an_address_that_is_missing_or_wrong_stops_the_start_and_names_itself(
    address: str | None, said: bytes
) -> None:
    environment = {
        "PATH": os.environ["PATH"], "BIZOS_DATABASE_URL": "postgresql://w@127.0.0.1/w",
        "BIZOS_REDIS_URL": "redis://127.0.0.1",
    }  # fmt: skip
    if address is not None:
        environment["BIZOS_TEMPORAL_ADDRESS"] = address
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workflow_svc", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode == 78
    assert said in errors
