"""What operators do about a service's dead letters, by commands to the service itself."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from bizosaas_events import Codec, Command, Envelope, Reply, messages, new_id
from bizosaas_events.bus import Answer, Handler, bind
from bizosaas_events.bus.base import Names, command_envelope, decode_result
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.dead_letters import DeadLetters, Filter, Report, keep
from bizosaas_events.envelope import to_fields
from bizosaas_events.failures import Failure
from bizosaas_events.messages import operations as said
from bizosaas_events.personal import MasterKey
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.person_keys import PersonKeys
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposit, HolderNamed, a_context
from bizosaas_events.testing.waiting import until
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_runtime.commands import CommandHost
from bizosaas_runtime.operations import handlers

EVERYTHING = Codec([*CODEC.types.values(), *messages.codec().types.values()])


class Stage:
    """The service `account`, whose handler of deposits has a bug until it is mended."""

    def __init__(
        self, store: PostgresEventStore, letters: DeadLetters, bus: RedisCommandBus, redis: Redis, env: str
    ) -> None:
        self.commands = Names(env).commands("account")
        self.store = store
        self.letters = letters
        self.bus = bus
        self.redis = redis
        self.broken = True
        self.deposits: set[int] = set()

    async def deposit(self, command: Deposit, envelope: Envelope) -> Answer:
        if self.broken:
            raise TypeError("a bug")
        self.deposits.add(command.cents)  # a set: a handler without an event may be called again
        return Answer()

    async def ask(self, command: said.OperatorCommand, id: str = "") -> Reply:
        context = a_context(PLATFORM_TENANT, role="platform_admin", actor="member:petra")
        return await self.bus.ask(command, context, id=id or new_id(), timeout=10)

    async def done(self, command: said.OperatorCommand, id: str = "") -> Reply:
        reply = await self.ask(command, id)
        assert reply.problem is None, reply.problem
        return reply

    async def bury(self, *cents: int) -> list[str]:
        """Deposits that became dead letters; their ids in order."""
        for n in cents:
            deposit = Deposit(account_id="1", cents=n)
            envelope = command_envelope(deposit, a_context(), EVERYTHING, id=new_id(), source="test")
            fields: dict[Any, Any] = {**to_fields(envelope)}
            before = len(await self.letters.page(Filter()))
            await self.redis.xadd(self.commands, fields)

            async def buried(before: int = before) -> bool:
                return len(await self.letters.page(Filter())) > before

            await until(buried)
        return [letter.id for letter in await self.letters.page(Filter())]


@pytest.fixture
async def pool(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]
) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    url = new_database(template=database_template("event_log", migrate))
    async with asyncpg.create_pool(url, min_size=2, max_size=10) as pool:
        yield pool


@pytest.fixture
async def stage(pool: "asyncpg.Pool[asyncpg.Record]", redis_url: str, env_name: str) -> AsyncIterator[Stage]:
    redis = Redis.from_url(redis_url)
    async with (
        RedisCommandBus(redis, EVERYTHING, env=env_name, source="test", instance=secrets.token_hex(3)) as bus,
    ):
        store = PostgresEventStore(pool, EVERYTHING, category="account", source="account-svc", partitions=8)
        letters = DeadLetters(pool, redis)
        stage = Stage(store, letters, bus, redis, env_name)
        host = CommandHost(
            service="account", codec=EVERYTHING, redis=redis, redis_url=redis_url, pool=pool, env=env_name,
            instance=secrets.token_hex(3), workers=8, idle_ms=200, handled=store.handled,
        )  # fmt: skip
        table: dict[type[Command], Handler] = {**bind(stage.deposit), **handlers(letters, store)}
        await host.start(table)
        running = asyncio.create_task(host.run())
        yield stage
        await host.drain()
        await stop([running])
    await redis.aclose()


async def test_a_command_is_mended_and_sent_again_and_the_tenant_has_it_on_record(stage: Stage) -> None:
    (id,) = await stage.bury(5)
    shown = decode_result(await stage.done(said.ShowDeadLetter(at="account", id=id)), said.DeadLetterShown).letter
    assert (shown.consumer, shown.failure, shown.attempts) == ("account", "bug", 5)
    wrong = await stage.ask(said.RetryDeadLetter(at="account", id=id, payload={"account_id": "1", "cents": "many"}))
    assert wrong.problem is not None
    assert (wrong.problem.slug, wrong.problem.field) == ("payload-invalid", "payload")
    assert "$.cents" in wrong.problem.detail

    stage.broken = False
    edit, command = said.RetryDeadLetter(at="account", id=id, payload={"account_id": "1", "cents": 7}), new_id()
    first = await stage.done(edit, command)
    again = await stage.done(edit, command)
    await until(lambda: bool(stage.deposits))

    assert first.position == again.position
    assert stage.deposits == {7}
    (event,) = await stage.store.load(f"deadletter-{id}")
    assert (event.tenantid, event.actorid, event.causationid) == ("acme", "member:petra", command)
    edited = stage.store.codec.decode(event)
    assert edited == said.DeadLetterEdited(
        letter_id=id, consumer="account", message_type="account.deposit.v1", subject="account", fields=["cents"]
    )


async def test_a_persons_data_is_not_written_in_clear_into_a_payload(
    stage: Stage, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    stage.store.keys = PersonKeys(pool, MasterKey(bytes(32)))
    named = HolderNamed(holder_id="ann", name="Ann", branch="North")
    (recorded,) = await stage.store.append([Write("holder-ann", 0, [named])], a_context())
    async with pool.acquire() as connection, connection.transaction():
        await keep(connection, "reader", "account", recorded, Report.of(TypeError("a bug"), Failure.BUG), 5)
    (letter,) = await stage.letters.page(Filter())
    payload = msgspec.json.decode(recorded.data) | {"branch": "South"}

    clear = await stage.ask(said.RetryDeadLetter(at="account", id=letter.id, payload={**payload, "name": "Anna"}))
    await stage.done(said.RetryDeadLetter(at="account", id=letter.id, payload=payload))

    assert clear.problem is not None
    assert (clear.problem.slug, clear.problem.field) == ("personal-value", "payload.name")
    assert "Ann" not in str(await pool.fetch("select * from dead_letter"))


async def test_what_is_given_up_is_gone_and_its_reason_is_kept(stage: Stage) -> None:
    (id,) = await stage.bury(5)
    for reason in ("", "  ", "x" * 501):
        refused = await stage.ask(said.DiscardDeadLetter(at="account", id=id, reason=reason))
        assert refused.problem is not None
        assert refused.problem.field == "reason"
    command = new_id()
    first = await stage.done(said.DiscardDeadLetter(at="account", id=id, reason=" a test "), command)
    again = await stage.done(said.DiscardDeadLetter(at="account", id=id, reason=" a test "), command)
    assert again.position == first.position
    unknown = await stage.ask(said.DiscardDeadLetter(at="account", id=id, reason="again"))
    assert unknown.problem is not None
    assert unknown.problem.kind == "not-found"
    (event,) = await stage.store.load(f"deadletter-{id}")
    assert msgspec.json.decode(event.data)["reason"] == "a test"


async def test_a_redrive_does_what_was_confirmed_and_records_which(stage: Stage) -> None:
    ids = await stage.bury(1, 2)
    which = Filter(failure="bug")
    selected = decode_result(
        await stage.done(said.SelectDeadLetters(at="account", which=which, limit=100)), said.DeadLettersSelected
    )
    assert selected.letters == 2
    later = [id for id in await stage.bury(3) if id not in ids]
    stage.broken = False
    command = new_id()
    redrive = said.RedriveDeadLetters(at="account", which=which, limit=100, confirmation=selected.confirmation)
    answered = decode_result(await stage.done(redrive, command), said.DeadLettersRetried)
    assert answered.letters == 2
    await until(lambda: len(stage.deposits) == 2)
    assert stage.deposits == {1, 2}
    assert [letter.id for letter in await stage.letters.page(Filter())] == later
    (event,) = await stage.store.load(f"redrive-{command}")
    assert event.tenantid == PLATFORM_TENANT
    assert msgspec.json.decode(event.data)["letter_ids"] == ids
    for limit in (0, 1001):
        refused = await stage.ask(said.SelectDeadLetters(at="account", limit=limit))
        assert refused.problem is not None
        assert refused.problem.field == "limit"


async def test_a_process_that_died_after_recording_does_it_when_the_command_comes_again(stage: Stage) -> None:
    (id,) = await stage.bury(5)
    stage.broken = False
    command, retried = new_id(), stage.letters.retry
    tries = 0

    async def dying(id: str, edited: bytes | None = None) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("as good as dead")
        await retried(id, edited)

    stage.letters.retry = dying  # type: ignore[method-assign]  # dies in the middle
    await stage.done(said.RetryDeadLetter(at="account", id=id), command)
    await until(lambda: stage.deposits == {5})
    assert tries == 2
    assert len(await stage.store.load(f"deadletter-{id}")) == 1


async def test_only_who_runs_the_platform_may(stage: Stage) -> None:
    context = a_context("acme", role="tenant_admin")
    reply = await stage.bus.ask(said.ListDeadLetters(at="account"), context, id=new_id(), timeout=10)
    assert reply.problem is not None
    assert reply.problem.slug == "permission-missing"
