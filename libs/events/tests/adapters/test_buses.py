"""Every command bus passes the same suite; and what only the one on Redis promises."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
from redis.exceptions import RedisError

from bizosaas_events.bus.base import CommandBus, Names
from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.bus.memory import Answerer, MemoryCommandBus
from bizosaas_events.bus.reading import Streams
from bizosaas_events.bus.redis import LARGE, Delivery, RedisCommandBus, send_reply
from bizosaas_events.envelope import Command, Envelope, Reply, from_fields, new_id
from bizosaas_events.errors import ReplyTimeoutError, UnavailableError
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import EventStore
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.testing.account import CODEC, Balance, Deposit, Withdraw, a_context
from bizosaas_events.testing.bus import CommandBusSuite, account_answerer
from bizosaas_events.testing.waiting import until
from bizosaas_sandbox.servers.redis import Redis as RedisServer


@pytest.fixture
def store() -> EventStore:
    return MemoryEventStore(CODEC, category="account", source="account-svc", partitions=8)


class TestMemoryCommandBus(CommandBusSuite):
    @pytest.fixture
    def bus(self, store: EventStore) -> CommandBus:
        bus = MemoryCommandBus(CODEC)
        bus.serve("account", account_answerer(store))
        return bus


async def serve(redis: Client, env: str, answerer: Answerer) -> None:
    """The smallest service: reads its commands from the beginning, one after another, and answers."""
    async with Streams(redis) as reading:
        await serve_from(reading, redis, env, answerer)


async def serve_from(reading: Streams, redis: Client, env: str, answerer: Answerer) -> None:
    names, last = Names(env), "0-0"
    while True:
        stream = names.commands("account").encode()
        try:
            found = await reading.read({stream: last}, count=100, block_ms=100)
        except RedisError:
            await asyncio.sleep(0.1)
            continue
        for _, entries in found:
            for entry_id, fields in entries:
                last = entry_id.decode()
                envelope = from_fields(fields)
                reply = await answerer(envelope, cast(Command, CODEC.decode(envelope)))
                await send_reply(redis, names, envelope, reply)


@contextlib.asynccontextmanager
async def served(redis: Client, env: str, store: EventStore) -> AsyncIterator[None]:
    serving = asyncio.create_task(serve(redis, env, account_answerer(store)))
    try:
        yield
    finally:
        await stop([serving])


def bus_on(redis: Client, env: str, *, remember_seconds: int = 0) -> RedisCommandBus:
    return RedisCommandBus(redis, CODEC, env=env, source="test", instance="test-1", remember_seconds=remember_seconds)


class TestRedisCommandBus(CommandBusSuite):
    @pytest.fixture
    async def bus(self, store: EventStore, redis: Client, env_name: str) -> AsyncIterator[CommandBus]:
        async with served(redis, env_name, store), bus_on(redis, env_name) as bus:
            yield bus


async def test_without_an_answer_in_time_the_caller_is_told_and_the_command_goes_on(
    redis: Client, env_name: str, store: EventStore
) -> None:
    command = new_id()
    async with bus_on(redis, env_name) as bus:
        with pytest.raises(ReplyTimeoutError, match=r"account-svc has not answered within 0\.1 s"):
            await bus.ask(Deposit(account_id="1", cents=5), a_context(), id=command, timeout=0.1)
        assert await bus.outcome(command) is None
        async with served(redis, env_name, store):

            async def answered() -> bool:
                return await bus.outcome(command) is not None

            await until(answered)
        assert len(await store.load("account-1")) == 1


async def test_who_sent_a_command_and_how_it_ended_is_remembered_where_that_is_asked_for(
    redis: Client, env_name: str, store: EventStore
) -> None:
    command, deposit = new_id(), Deposit(account_id="1", cents=5)
    async with bus_on(redis, env_name) as bus:
        await bus.send(deposit, a_context(), id=command)
        assert await bus.sender(command) is None
    async with bus_on(redis, env_name, remember_seconds=60) as bus:
        await bus.send(deposit, a_context("acme", actor="member:ann lee"), id=command)
        assert await bus.sender(command) == ("pending", "acme", "member:ann lee")
        async with served(redis, env_name, store):
            refused = await bus.ask(Withdraw(account_id="2", cents=5), a_context(), id=new_id(), timeout=5)
            assert refused.problem is not None
            assert await bus.sender(refused.command_id) == ("refused", "acme", a_context().actor)
            await until(lambda: _ended(bus, command))
        assert await bus.sender(command) == ("done", "acme", "member:ann lee")
        await bus.forget(command)
        assert await bus.sender(command) == ("done", "acme", "member:ann lee")


async def _ended(bus: RedisCommandBus, command: str) -> bool:
    sender = await bus.sender(command)
    return sender is not None and sender.ended != "pending"


async def test_a_large_answer_is_read_once_and_then_gone_from_redis(redis: Client, env_name: str) -> None:
    """An export goes through Redis page by page, and must not fill it."""
    large = msgspec.Raw(b'"' + b"x" * 2 * LARGE + b'"')

    async def answer(envelope: Envelope, command: Command) -> Reply:
        return Reply(command_id=envelope.id, result=large if cast(Deposit, command).cents else msgspec.Raw(b"1"))

    async with bus_on(redis, env_name) as bus:
        serving = asyncio.create_task(serve(redis, env_name, answer))
        for cents, kept in ((1, 0), (0, 1), (2, 0), (0, 1), (0, 2)):
            command = new_id()
            reply = await bus.ask(Deposit(account_id="1", cents=cents), a_context(), id=command, timeout=5)
            assert len(bytes(reply.result)) == (2 * LARGE + 2 if cents else 1)

            async def so_many(kept: int = kept) -> bool:
                return int(await redis.xlen(Names(env_name).replies("test-1"))) == kept

            await until(so_many)
            assert await bus.outcome(command) == reply
            await bus.forget(command)
            assert await bus.outcome(command) is None
        await stop([serving])


async def delivered(redis: Client, env: str) -> tuple[Delivery, Envelope]:
    """A command that somebody sent, and that a group has read."""
    stream = Names(env).commands("account")
    async with bus_on(redis, env) as bus:
        await bus.send(Deposit(account_id="1", cents=5), a_context(), id=new_id(), timeout=1)
    await redis.xgroup_create(stream, "group", id="0")
    found: Any = await redis.xreadgroup("group", "consumer", {stream: ">"})
    ((id, fields),) = dict(found)[stream.encode()]
    return Delivery(stream, "group", id.decode()), from_fields(fields)


async def pending(redis: Client, delivery: Delivery) -> int:
    return int((await redis.xpending(delivery.stream, delivery.group))["pending"])


async def test_a_command_is_acknowledged_with_its_answer(redis: Client, env_name: str) -> None:
    delivery, envelope = await delivered(redis, env_name)
    reply = Reply(command_id=envelope.id)

    await send_reply(redis, Names(env_name), envelope, reply)
    assert await pending(redis, delivery) == 1
    await send_reply(redis, Names(env_name), envelope, reply, handled=delivery)

    assert await pending(redis, delivery) == 0
    assert await redis.xlen(envelope.replyto) == 2


async def test_an_answer_that_redis_has_no_room_for_leaves_the_command_pending(
    private_redis: RedisServer, env_name: str
) -> None:
    async with contextlib.aclosing(connect(private_redis.url)) as redis:
        delivery, envelope = await delivered(redis, env_name)
        reply = Reply(command_id=envelope.id)
        private_redis.ask("CONFIG SET maxmemory 1")

        with pytest.raises(RedisError, match="used memory"):
            await send_reply(redis, Names(env_name), envelope, reply, handled=delivery)

        assert await pending(redis, delivery) == 1
        private_redis.ask("CONFIG SET maxmemory 0")
        await send_reply(redis, Names(env_name), envelope, reply, handled=delivery)
        assert await pending(redis, delivery) == 0


@pytest.mark.kill
async def test_a_dead_redis_is_said_at_once_and_found_again(
    private_redis: RedisServer, env_name: str, store: EventStore
) -> None:
    deposit = Deposit(account_id="1", cents=5)
    async with (
        contextlib.aclosing(connect(private_redis.url)) as redis,
        bus_on(redis, env_name, remember_seconds=60) as bus,
    ):
        async with served(redis, env_name, store):
            await bus.call(deposit, Balance, a_context(), id=new_id(), timeout=5)
        private_redis.kill()
        refused = await asyncio.gather(
            *(bus.send(deposit, a_context(), id=new_id()) for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(error, UnavailableError) and error.retry_after for error in refused)
        private_redis.start()
        async with served(redis, env_name, store):
            # The listener pauses for two seconds at most before it looks again.
            assert await bus.call(deposit, Balance, a_context(), id=new_id(), timeout=8) == Balance(cents=10)
        private_redis.flushall()
        async with served(redis, env_name, store):
            assert await bus.call(deposit, Balance, a_context(), id=new_id(), timeout=8) == Balance(cents=15)
