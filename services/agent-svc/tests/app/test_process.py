"""agent-svc as it runs: a process of its own on real PostgreSQL and Redis, killed at the worst moments."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from agent_svc.domain.outputs import Draft
from agent_svc.testing import CMS, StandInConnector, a_context
from bizosaas_events import Envelope, messages, new_id
from bizosaas_events.bus import Names
from bizosaas_events.bus.base import decode_result
from bizosaas_events.bus.redis import RedisCommandBus, send_reply
from bizosaas_events.envelope import from_fields, to_fields
from bizosaas_events.messages.agent import ReadRunOutput, RunOutput, StartRun
from bizosaas_events.messages.connector import CallOperation, ConnectionEstablished, ConnectionRequested
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_sandbox.servers.children import free_port

REQUESTED = ConnectionRequested(
    connection_id="wp", connector="wordpress", label="Blog", settings={}, method="credentials"
)
ESTABLISHED = ConnectionEstablished(
    connection_id="wp", secret_id="s", secret_version=1, fingerprint="f", account="ann", operations=CMS
)
START_SECONDS = 60


class Process:
    """`python -m agent_svc`, started again after a kill with the same settings."""

    def __init__(self, settings: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self._environment = {**os.environ, **settings, "BIZOS_HEALTH_PORT": str(self.port)}
        self._log = log
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.child = subprocess.Popen([sys.executable, "-m", "agent_svc"], env=self._environment, stderr=log)

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()

    def health(self, path: str) -> int:
        """The status of a health path; 0: nobody listens."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=2).status_code
        except httpx.TransportError:
            return 0

    async def ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while await asyncio.to_thread(self.health, "/readyz") != 200:
            assert self.child is not None
            assert self.child.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            await asyncio.sleep(0.1)


@pytest.fixture
def process(database_url: str, redis_url: str, env_name: str, tmp_path: Path) -> Iterator[Process]:
    settings = {
        "BIZOS_DATABASE_URL": database_url, "BIZOS_REDIS_URL": redis_url, "BIZOS_ENV": env_name,
        "BIZOS_MODEL_DRIVER": "scripted", "BIZOS_COMMAND_IDLE_MS": "1000",
    }  # fmt: skip
    process = Process(settings, tmp_path / "log")
    yield process
    process.kill()


class Connectors:
    """connector-svc's place on the streams: announces a connection, and answers calls through the stand-in."""

    def __init__(self, redis: Redis, env: str) -> None:
        self.redis = redis
        self.names = Names(env)
        self.stand_in = StandInConnector()
        self.before: Callable[[CallOperation], Any] = lambda _: None
        self.before_reply: Callable[[CallOperation], Any] = lambda _: None
        self.after_reply: Callable[[CallOperation], Any] = lambda _: None

    async def announce(self, tenant: str) -> None:
        store = MemoryEventStore(messages.codec(), category="connector", source="connector-svc")
        for event in await store.append([Write("connection-wp", 0, [REQUESTED, ESTABLISHED])], a_context(tenant)):
            key = self.names.partition("connector", event.partition)
            fields: dict[Any, Any] = to_fields(event)
            await self.redis.xadd(key, fields, id=f"{event.sequence}-0")

    async def run(self) -> None:
        last = "0-0"
        codec = messages.codec()
        while True:
            found: Any = await self.redis.xread({self.names.commands("connector"): last}, block=500)
            for entry_id, fields in (entry for _, entries in found for entry in entries):
                last = entry_id
                envelope: Envelope = from_fields(fields)
                command = codec.decode(envelope)
                assert isinstance(command, CallOperation)
                await asyncio.to_thread(self.before, command)
                reply = await self.stand_in.answer(envelope, command)
                await asyncio.to_thread(self.before_reply, command)
                await send_reply(self.redis, self.names, envelope, reply)
                await asyncio.to_thread(self.after_reply, command)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis: Redis = Redis.from_url(redis_url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def connectors(redis: Redis, env_name: str) -> AsyncIterator[Connectors]:
    connectors = Connectors(redis, env_name)
    running = asyncio.create_task(connectors.run())
    yield connectors
    await stop([running])


@pytest.fixture
async def bus(redis: Redis, env_name: str) -> AsyncIterator[RedisCommandBus]:
    async with RedisCommandBus(redis, messages.codec(), env=env_name, source="gateway", instance=new_id()) as bus:
        yield bus


async def known(database_url: str, tenant: str) -> None:
    """Wait until the tenant's connection has reached the process."""
    connection = await asyncpg.connect(database_url)
    try:
        for _ in range(200):
            if await connection.fetchval("select 1 from agent_connections_1.connection where tenant = $1", tenant):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the connection did not become known")
    finally:
        await connection.close()


async def events_of(database_url: str, stream: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("select type from event where stream = $1 order by version", stream)
    finally:
        await connection.close()
    return [row["type"].removeprefix("agent.run.").removesuffix(".v1") for row in rows]


async def steps_of(database_url: str, run_id: str) -> list[tuple[str, bool]]:
    """The kind of each recorded step, and whether what came back is still there."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("select kind, payload from run_step where run_id = $1 order by n", run_id)
    finally:
        await connection.close()
    return [(row["kind"], bool(row["payload"])) for row in rows]


STEPS = [("model", True), ("tool", False), ("model", True), ("tool", False), ("model", True)]
DONE = ["started", *(["tool-call-decided", "tool-call-finished"] * 2), "completed"]


def a_run(run_id: str) -> StartRun:
    return StartRun(run_id=run_id, agent_id="content-creator", brief={"topic": "Tea", "audience": "beginners"})


async def test_it_answers_health_first_then_imports_crewai_runs_an_agent_and_drains(
    process: Process, connectors: Connectors, bus: RedisCommandBus, database_url: str
) -> None:
    started = time.monotonic()
    process.start()
    while await asyncio.to_thread(process.health, "/livez") != 200:
        assert time.monotonic() < started + START_SECONDS
        await asyncio.sleep(0.05)
    assert await asyncio.to_thread(process.health, "/readyz") == 503
    await process.ready()
    await connectors.announce("acme")
    await known(database_url, "acme")

    output = await bus.call(a_run("r1"), RunOutput, a_context(), id=new_id(), timeout=30)
    again = await bus.call(ReadRunOutput(run_id="r1"), RunOutput, a_context(), id=new_id(), timeout=10)

    draft = Draft.model_validate_json(bytes(output.output))
    assert (draft.content_id, output.simulated, bytes(again.output)) == ("100", True, bytes(output.output))
    assert await events_of(database_url, "run-r1") == DONE
    assert await steps_of(database_url, "r1") == STEPS
    assert process.child is not None
    process.child.terminate()
    assert await asyncio.to_thread(process.child.wait, 15) == 0


@pytest.mark.kill
@pytest.mark.parametrize("moment", ["before", "before_reply", "after_reply"])
async def test_a_killed_run_is_resumed_with_one_draft_and_one_end(
    process: Process, connectors: Connectors, bus: RedisCommandBus, database_url: str, moment: str
) -> None:
    process.start()
    await process.ready()
    await connectors.announce("acme")
    await known(database_url, "acme")
    kills = 0

    def kill(command: CallOperation) -> None:
        nonlocal kills
        if command.operation == "cms.create_draft" and kills == 0:
            kills += 1
            process.kill()
            process.start()

    setattr(connectors, moment, kill)

    reply = await bus.ask(a_run("r1"), a_context(), id=new_id(), timeout=60)

    assert kills == 1
    draft = Draft.model_validate_json(bytes(decode_result(reply, RunOutput).output))
    assert len(connectors.stand_in.drafts) == 1
    assert draft.content_id == "100"
    assert await events_of(database_url, "run-r1") == DONE
    assert await steps_of(database_url, "r1") == STEPS


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"BIZOS_DATABASE_URL": ""}, "BIZOS_DATABASE_URL is wrong"),
        ({"BIZOS_MODEL_DRIVER": "psychic"}, "BIZOS_MODEL_DRIVER is wrong: 'psychic' is none of"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_names_itself(
    settings: dict[str, str], words: str, database_url: str, redis_url: str, env_name: str
) -> None:
    environment = {
        **os.environ, "BIZOS_DATABASE_URL": database_url, "BIZOS_REDIS_URL": redis_url, "BIZOS_ENV": env_name,
        "BIZOS_HEALTH_PORT": "0", **settings,
    }  # fmt: skip

    done = subprocess.run(
        [sys.executable, "-m", "agent_svc"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 78
    assert words in done.stderr
    assert "Traceback" not in done.stderr
