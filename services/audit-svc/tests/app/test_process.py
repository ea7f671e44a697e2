"""audit-svc as a process of its own, on real PostgreSQL and Redis, fed by the logs of other services."""

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from audit_svc.testing import KEY, a_context, happened
from bizosaas_events import Event, messages, new_id
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.heads import Reading
from bizosaas_events.messages.audit import (
    History,
    ReadHistory,
    ReadStateAt,
    ReadVerification,
    StateAt,
    Verification,
    Verified,
    VerifyJournal,
)
from bizosaas_events.messages.connector import ConnectionRenamed, ConnectionRequested
from bizosaas_events.messages.tenant import MemberAdded, MemberSignedIn
from bizosaas_events.personal import MasterKey, opened
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.person_keys import PersonKeys
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.waiting import until
from bizosaas_ports.signing import signed_by
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.redis import Redis as RedisServer

NewDatabase = Callable[..., str]
PARTITIONS = 4
ANN = MemberAdded(member_id="ann", tenant_id="acme", email="ann@acme.test", name="Ann", role="tenant_admin")
BLOG = ConnectionRequested(connection_id="c", connector="wordpress", label="Blog", settings={}, method="credentials")


class Platform:
    """Two services that record and relay, and what audit-svc needs to start."""

    def __init__(self, environment: dict[str, str], log: Path, logs: dict[str, PostgresEventStore]) -> None:
        self.environment = environment
        self.log = log
        self.logs = logs
        self.ports: dict[int, str] = {}
        """The health port of each process."""

    @asynccontextmanager
    async def auditing(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process of audit-svc, ready; stopped afterwards."""
        environment = self.environment | {"BIZOS_HEALTH_PORT": str(free_port())}
        with self.log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "audit_svc", env=environment, stdout=errors, stderr=errors
            )
        self.ports[child.pid] = environment["BIZOS_HEALTH_PORT"]
        try:
            await until(lambda: asyncio.to_thread(ready, environment["BIZOS_HEALTH_PORT"], child), 45)
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

    async def journalled(self) -> bool:
        """Whether the journal ends where every owner's log ends, with the very same hashes."""
        connection = await asyncpg.connect(self.environment["BIZOS_DATABASE_URL"])
        try:
            rows = await connection.fetch("select category, part, position, hash from chain_head")
        except asyncpg.UndefinedTableError:
            return False
        finally:
            await connection.close()
        ends = {(row["category"], row["part"]): (row["position"], row["hash"]) for row in rows}
        owners = {
            (name, head.partition): (head.position, head.hash)
            for name, log in self.logs.items()
            for head in await log.heads()
        }
        return owners.items() <= ends.items()


def ready(port: str, child: asyncio.subprocess.Process) -> bool:
    assert child.returncode is None, "audit-svc ended"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        return False


@asynccontextmanager
async def a_platform(databases: Sequence[str], redis_url: str, env: str, folder: Path) -> AsyncIterator[Platform]:
    """The logs of tenant-svc and connector-svc, each in its own database, with a relay each."""
    redis = Redis.from_url(redis_url)
    logs, relays, pools = {}, [], []
    for name, url in zip(("tenant", "connector"), databases[1:], strict=True):
        await asyncio.to_thread(migrate, url)
        pool = await asyncpg.create_pool(url, min_size=1, max_size=4)
        store = PostgresEventStore(pool, messages.codec(), category=name, source=f"{name}-svc", partitions=PARTITIONS)
        store.keys = PersonKeys(pool, MasterKey(bytes(32)))
        logs[name] = store
        relays.append(asyncio.create_task(Relay(store, pool, redis, env=env).run()))
        pools.append(pool)
    environment = {
        "PATH": os.environ["PATH"], "BIZOS_ENV": env, "BIZOS_DATABASE_URL": databases[0], "BIZOS_REDIS_URL": redis_url,
        "BIZOS_PARTITIONS": str(PARTITIONS), "BIZOS_AUDIT_SIGNING_KEY": KEY.export(), "BIZOS_HEADS_SECONDS": "1",
        "BIZOS_HEADS_PATH": str(folder / "heads.ndjson"),
    }  # fmt: skip
    try:
        yield Platform(environment, folder / "log", logs)
    finally:
        await stop(relays)
        for pool in pools:
            await pool.close()
        await redis.aclose()


@pytest.fixture
async def platform(new_database: NewDatabase, redis_url: str, env_name: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with a_platform([new_database() for _ in range(3)], redis_url, env_name, tmp_path) as platform:
        yield platform


@pytest.fixture
async def bus(redis_url: str, env_name: str) -> AsyncIterator[RedisCommandBus]:
    redis = Redis.from_url(redis_url)
    async with RedisCommandBus(redis, messages.codec(), env=env_name, source="test", instance=new_id()) as bus:
        yield bus
    await redis.aclose()


async def note(platform: Platform, log: str, stream: str, event: Event, minute: int) -> datetime:
    recorded = await happened(platform.logs[log], stream, event, context=a_context(minute=minute))
    return recorded[0].time


async def test_what_services_record_is_told_shown_and_verified(platform: Platform, bus: RedisCommandBus) -> None:
    await note(platform, "tenant", "member-ann", ANN, 0)
    await note(platform, "connector", "connection-c", BLOG, 1)
    then = await note(platform, "connector", "connection-c", ConnectionRenamed(connection_id="c", label="News"), 2)
    await note(platform, "connector", "connection-c", ConnectionRenamed(connection_id="c", label="Nuevas"), 3)
    async with platform.auditing():
        await until(platform.journalled, 30)
        admin, root = a_context(role="tenant_admin"), a_context("platform", "member:root")

        history = await bus.call(ReadHistory(), History, admin, id=new_id(), timeout=15)
        keys = {person: key for person, (_, key) in (await platform.logs["tenant"].person_keys(["ann"])).items()}
        assert [opened(entry.words, keys) for entry in history.entries] == [
            "Ann renamed the connection to “Nuevas”",
            "Ann renamed the connection to “News”",
            "Ann asked to connect wordpress as “Blog”",
            "Ann added Ann <ann@acme.test> as tenant_admin",
        ]
        ask = ReadStateAt(kind="connection", id="c", at=then)
        state = await bus.call(ask, StateAt, admin, id=new_id(), timeout=15)
        assert (state.version, b'"label":"News"' in bytes(state.state)) == (2, True)

        verified = await bus.call(VerifyJournal(), Verified, root, id=new_id(), timeout=15)
        assert (verified.events, verified.breaks) == (4, [])

        async def itself_told() -> bool:
            told = await bus.call(ReadHistory(), History, root, id=new_id(), timeout=15)
            return [entry.words for entry in told.entries] == [
                "member root verified the hash chains of 4 events: 0 broken"
            ]

        await until(itself_told)


async def test_a_journal_that_was_tampered_with_is_told_at_its_position(
    platform: Platform, bus: RedisCommandBus
) -> None:
    for n in range(20):
        await note(platform, "tenant", f"member-{n % 4}", MemberSignedIn(member_id=str(n)), n)
    async with platform.auditing():
        await until(platform.journalled, 30)
        connection = await asyncpg.connect(platform.environment["BIZOS_DATABASE_URL"])
        part = await connection.fetchval("select part from chain_head where position >= 3 limit 1")
        await connection.execute("alter table entry disable trigger all")
        await connection.execute(
            "update entry set data = overlay(data placing 'x' from 9) where part = $1 and position = 2", part
        )
        await connection.close()

        verified = await bus.call(
            VerifyJournal(), Verified, a_context("platform", "member:root"), id=new_id(), timeout=15
        )

        assert [(b.category, b.partition, b.position) for b in verified.breaks] == [("tenant", part, 2)]


async def test_the_heads_are_signed_and_exported_and_a_cut_tail_makes_the_process_unready(
    platform: Platform, bus: RedisCommandBus
) -> None:
    for n in range(20):
        await note(platform, "tenant", f"member-{n % 4}", MemberSignedIn(member_id=str(n)), n)
    path = Path(platform.environment["BIZOS_HEADS_PATH"])

    def reading() -> Reading:
        found = Reading(lambda message, signature: signed_by(KEY.public, message, signature))
        for line in path.read_bytes().splitlines():
            found.take(line)
        return found

    async def signed(events: int) -> bool:
        return sum(held.position for held in reading().vector.heads.values()) == events

    root = a_context("platform", "member:root")
    async with platform.auditing() as child:
        await until(platform.journalled, 30)
        await until(lambda: signed(20), 20)
        id = new_id()
        verified = await bus.call(VerifyJournal(), Verified, root, id=id, timeout=15)
        assert (verified.events, verified.breaks) == (20, [])
        assert verified.signed_until is not None
        told = await bus.call(ReadVerification(id=id), Verification, root, id=new_id(), timeout=15)
        assert (told.status, told.events, told.of_events, told.result) == ("done", 20, 20, verified)

        connection = await asyncpg.connect(platform.environment["BIZOS_DATABASE_URL"])
        mine = "category = 'tenant' and part = $1"
        (part, end), *_ = await connection.fetch("select part, position from chain_head where category = 'tenant'")
        await connection.execute("alter table entry disable trigger all")
        await connection.execute(f"delete from entry where {mine} and position = $2", part, end)
        before = f"(select hash from entry where {mine} and position = $2)"
        await connection.execute(f"update chain_head set position = $2, hash = {before} where {mine}", part, end - 1)
        await connection.close()

        verified = await bus.call(VerifyJournal(), Verified, root, id=new_id(), timeout=15)
        assert [(b.category, b.partition, b.position) for b in verified.breaks] == [("tenant", part, end)]
        url = f"http://127.0.0.1:{platform.ports[child.pid]}/readyz"
        await until(lambda: asyncio.to_thread(tells, url, f"tenant/{part}@{end} is no longer there"), 20)
    assert reading().breaks == []
    assert KEY.export() not in platform.log.read_text()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BIZOS_AUDIT_SIGNING_KEY", "c2hvcnQ=", "BIZOS_AUDIT_SIGNING_KEY is wrong"),
        ("BIZOS_AUDIT_SIGNING_KEY", "", "BIZOS_AUDIT_SIGNING_KEY is wrong"),
        ("BIZOS_AUDIT_FORMER_PUBLIC_KEYS", "x", "BIZOS_AUDIT_FORMER_PUBLIC_KEYS is wrong"),
        ("BIZOS_HEADS_PATH", "/proc/none/heads.ndjson", "BIZOS_HEADS_PATH=/proc/none/heads.ndjson cannot be written"),
    ],
)
async def test_a_wrong_setting_ends_the_start_and_names_itself(
    platform: Platform, name: str, value: str, said: str
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "audit_svc", stderr=asyncio.subprocess.PIPE,
        env=platform.environment | {"BIZOS_HEALTH_PORT": str(free_port()), name: value},
    )  # fmt: skip
    _, errors = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 78
    assert said in errors.decode()
    assert "c2hvcnQ=" not in errors.decode()


def tells(url: str, text: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return False
    except urllib.error.HTTPError as error:
        with error:
            return text in error.read().decode()


@pytest.mark.kill
async def test_killed_processes_and_a_flushed_redis_lose_and_double_nothing(
    new_database: NewDatabase, private_redis: RedisServer, env_name: str, tmp_path: Path
) -> None:
    databases = [new_database() for _ in range(3)]
    async with a_platform(databases, private_redis.url, env_name, tmp_path) as platform:

        async def record() -> None:
            for n in range(600):
                log = ("tenant", "connector")[n % 2]
                event = MemberSignedIn(member_id=str(n))
                await happened(platform.logs[log], f"member-{n % 40}", event, context=a_context(minute=n))
                await asyncio.sleep(0.01)

        recording = asyncio.create_task(record())
        async with platform.auditing():
            for n in range(3):
                async with platform.auditing() as doomed:
                    await asyncio.sleep(0.5)
                    doomed.send_signal(signal.SIGKILL)
                    await doomed.wait()
                if n == 1:
                    await asyncio.to_thread(private_redis.flushall)
            await recording
            await until(platform.journalled, 60)

        connection = await asyncpg.connect(databases[0])
        try:
            told = await connection.fetch("select category, count(*), count(distinct id) from entry group by category")
            assert sorted(map(tuple, told)) == [("connector", 300, 300), ("tenant", 300, 300)]
        finally:
            await connection.close()
        redis = Redis.from_url(private_redis.url)
        bus = RedisCommandBus(redis, messages.codec(), env=env_name, source="test", instance=new_id())
        async with bus, platform.auditing():
            root = a_context("platform", "member:root")
            verified = await bus.call(VerifyJournal(), Verified, root, id=new_id(), timeout=30)
            assert (verified.events, verified.breaks) == (600, [])
        await redis.aclose()
