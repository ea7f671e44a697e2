"""Command handlers on FastStream: what is sent is handled, once, whatever happens to it and to us."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from redis.asyncio import RedisCluster

from bizosaas_events import Codec, Command, Context, Envelope, Kind, Reply, Result, new_id
from bizosaas_events.bus import Answer, CommandBus, Handler, bind
from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.envelope import to_fields
from bizosaas_events.stopping import stop
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, HANDLERS, Deposit, a_context
from bizosaas_events.testing.bus import CommandBusSuite
from bizosaas_events.testing.waiting import until
from bizosaas_runtime.commands import MAX_DELIVERIES, CommandHost
from bizosaas_sandbox.testing import one_redis

IDLE_MS = 800


class Probe(Command, frozen=True, kw_only=True, tag="account.probe.v1"):
    """A command whose handler does whatever the test wants."""

    service = "account"

    n: int = 0


class Probed(Result, frozen=True, kw_only=True, tag="account.probed.v1"):
    by: str


PROBING = Codec([*CODEC.types.values(), Probe, Probed])


class Stage:
    """A database, a Redis, a bus, and as many hosts of the service `account` as a test wants."""

    def __init__(
        self, pool: "asyncpg.Pool[Any]", redis: Client, redis_url: str, env: str, bus: RedisCommandBus
    ) -> None:
        self.pool = pool
        self.redis = redis
        self.redis_url = redis_url
        self.env = env
        self.bus = bus
        self.store = PostgresEventStore(pool, PROBING, category="account", source="account-svc", partitions=8)
        self.stream = f"{{{env}:cmd:account}}"

    @contextlib.asynccontextmanager
    async def host(
        self, probe: Callable[[int], Any] | None = None, *, workers: int = 8, idle_ms: int = IDLE_MS, drain: bool = True
    ) -> AsyncIterator[CommandHost]:
        instance = secrets.token_hex(3)

        async def handle_probe(command: Probe, envelope: Envelope) -> Answer:
            if probe is not None:
                await probe(command.n)
            return Answer(result=Probed(by=instance))

        handlers: dict[type[Command], Handler] = bind(*HANDLERS, handle_probe, store=self.store)
        host = CommandHost(
            service="account", codec=PROBING, redis=self.redis, redis_url=self.redis_url, pool=self.pool, env=self.env,
            instance=instance, workers=workers, idle_ms=idle_ms, handled=self.store.handled,
        )  # fmt: skip
        await host.start(handlers)
        running = asyncio.create_task(host.run())
        try:
            yield host
        finally:
            if drain:
                await host.drain()
            await stop([running])

    async def probe(self, n: int = 0, *, timeout: float = 15) -> Reply:
        return await self.bus.ask(Probe(n=n), a_context(), id=new_id(), timeout=timeout)

    async def dead(self) -> list[asyncpg.Record]:
        return await self.pool.fetch("select * from dead_letter order by id")

    async def pending(self) -> int:
        return int((await self.redis.xpending(self.stream, "account"))["pending"])


@pytest.fixture
async def stage(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
    any_redis_url: str, env_name: str,
) -> AsyncIterator[Stage]:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    redis = connect(any_redis_url)
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=8) as pool,
        RedisCommandBus(redis, PROBING, env=env_name, source="test", instance="test-1") as bus,
    ):
        yield Stage(pool, redis, any_redis_url, env_name, bus)
    await redis.aclose()


class TestCommandHostBehindItsBus(CommandBusSuite):
    @pytest.fixture
    async def bus(self, stage: Stage) -> AsyncIterator[CommandBus]:
        async with stage.host():
            yield stage.bus

    @pytest.fixture
    def store(self, stage: Stage) -> PostgresEventStore:
        return stage.store


async def test_what_was_sent_before_the_first_start_is_handled(stage: Stage) -> None:
    await stage.bus.send(Deposit(account_id="1", cents=5), a_context(), id=new_id())

    async def handled() -> bool:
        return len(await stage.store.load("account-1")) == 1

    async with stage.host():
        await until(handled)


@one_redis
async def test_a_bug_is_tried_again_and_then_kept_as_a_dead_letter(stage: Stage) -> None:
    tries = 0

    async def bug(n: int) -> None:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError("division by zero")

    async with stage.host(bug):
        reply = await stage.probe()
        assert reply.problem is not None
        assert (reply.problem.kind, reply.problem.slug) == (Kind.UNAVAILABLE, "internal")
        assert reply.command_id in reply.problem.remedy
        assert tries == MAX_DELIVERIES
        (dead,) = await stage.dead()
        assert (dead["consumer"], dead["stream"]) == ("account", stage.stream)
        assert (dead["failure"], dead["attempts"]) == ("bug", MAX_DELIVERIES)
        assert "in bug" in dead["traceback"]
        assert "division by zero" in dead["reason"]
        assert json.loads(dead["fields"])["id"] == reply.command_id
        await until(lambda: _is_zero(stage.pending()))


@one_redis
async def test_a_bug_that_goes_away_leaves_no_trace(stage: Stage) -> None:
    tries = 0

    async def flaky(n: int) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ZeroDivisionError

    async with stage.host(flaky):
        assert (await stage.probe()).problem is None
        assert (tries, await stage.dead()) == (3, [])


@one_redis
async def test_what_cannot_be_read_becomes_a_dead_letter_at_once_and_holds_up_nobody(stage: Stage) -> None:
    async with stage.host():
        well = {
            **to_fields(_an_envelope("account.deposit.v1", b'{"type":"account.deposit.v1","account_id":"1","cents":1}'))
        }
        entries: tuple[dict[Any, Any], ...] = (
            {"garbage": b"\xff"},
            {**well, "id": "no uuid"},
            {**well, "data": b"\xff\xfe"},
            {**well, "data": b'{"type":"account.deposit.v1","account_id":"1","cents":"much"}'},
            {**well, "type": "account.unheard-of.v1"},
            {
                **well,
                "type": "account.account.deposited.v1",
                "data": b'{"type":"account.account.deposited.v1","cents":1}',
            },
        )
        for fields in entries:
            await stage.redis.xadd(stage.stream, fields)
        assert (await stage.probe()).problem is None
        await until(lambda: _is_zero(stage.pending()))
        reasons = [dead["reason"] for dead in await stage.dead()]
        for expected in ("lacks the field 'id'", "badly formed", "JSON is malformed", "$.cents", "no message of type",
                         "is not a command"):  # fmt: skip
            assert sum(expected in reason for reason in reasons) == 1, expected
        assert len(reasons) == 6


@one_redis
async def test_an_outage_is_waited_out_and_never_becomes_a_dead_letter(stage: Stage) -> None:
    tries = 0

    async def away(n: int) -> None:
        nonlocal tries
        tries += 1
        if tries <= MAX_DELIVERIES + 1:
            raise asyncpg.CannotConnectNowError("the database system is starting up")

    async with stage.host(away):
        assert (await stage.probe()).problem is None
        assert (tries, await stage.dead()) == (MAX_DELIVERIES + 2, [])


@one_redis
async def test_a_handler_that_takes_longer_than_others_wait_is_left_alone(stage: Stage) -> None:
    calls = 0

    async def slow(n: int) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(4 * IDLE_MS / 1000)

    async with stage.host(slow), stage.host(slow):
        replies = await asyncio.gather(*(stage.probe(n) for n in range(3)))
    assert [reply.problem for reply in replies] == [None] * 3
    assert calls == 3


@one_redis
async def test_what_waits_inside_the_client_is_not_taken_for_abandoned(stage: Stage) -> None:
    calls: list[int] = []

    async def slow(n: int) -> None:
        calls.append(n)
        await asyncio.sleep(0.1)

    async with stage.host(slow, workers=2), stage.host(slow, workers=2):
        await asyncio.gather(*(stage.probe(n) for n in range(60)))
    assert sorted(calls) == list(range(60))


@one_redis
async def test_draining_finishes_what_is_in_hand_and_hands_over_the_rest_at_once(stage: Stage) -> None:
    began: list[int] = []

    async def slow(n: int) -> None:
        began.append(n)
        await asyncio.sleep(0.3)

    async with stage.host(slow, workers=2, idle_ms=60_000, drain=False) as first:
        asked = [asyncio.create_task(stage.probe(n)) for n in range(12)]
        await until(lambda: len(began) == 2)
        await first.drain()
        async with stage.host(slow, workers=12, idle_ms=60_000):
            replies = await asyncio.gather(*asked)
    assert [reply.problem for reply in replies] == [None] * 12
    assert len(began) == 12


@pytest.mark.parametrize(
    "any_redis_url",
    [pytest.param("redis_cluster_server", marks=pytest.mark.xdist_group("redis-cluster"))],
    indirect=True,
    ids=["cluster"],
)
async def test_after_an_error_draining_leaves_no_connection_open(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def of_the_host() -> int:
        lists: Any = await stage.redis.client_list(target_nodes=RedisCluster.PRIMARIES)
        return sum("faststream" in client["lib-name"] for clients in lists.values() for client in clients)

    async with stage.host() as host:
        assert (await stage.probe()).problem is None
        assert await of_the_host() > 0
        client: Any = await host._broker.connect()
        # As redis-py leaves it after a ConnectionError, until the next command.
        monkeypatch.setattr(RedisCluster, "initialize", lambda self, **_: asyncio.sleep(0))
        client._initialize = True
        await host.drain()
        monkeypatch.undo()
    await until(lambda: _is_zero(of_the_host()))


async def test_a_lost_group_is_made_again_at_the_beginning(stage: Stage) -> None:
    async with stage.host() as host:
        assert (await stage.probe()).problem is None
        for _ in range(2):
            await stage.redis.delete(stage.stream)
            assert (await stage.probe(timeout=10)).problem is None
        await until(lambda: host.problem() == "")
        assert (await stage.probe()).problem is None


async def test_a_stream_holds_little_more_than_what_is_waiting(stage: Stage) -> None:
    async with stage.host():
        await asyncio.gather(*(stage.probe(n) for n in range(100)))

        async def trimmed() -> bool:
            return int(await stage.redis.xlen(stage.stream)) <= 1

        await until(trimmed)


def _an_envelope(type: str, data: bytes) -> Envelope:
    context: Context = a_context()
    return Envelope(
        id=new_id(), source="test", type=type, subject="account", time=context.time, tenantid=context.tenant,
        actorid=context.actor, actorrole=context.role, correlationid=context.correlation_id,
        causationid=context.causation_id, data=data,
    )  # fmt: skip


async def _is_zero(number: Any) -> bool:
    return bool(await number == 0)
