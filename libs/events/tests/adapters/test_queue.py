"""The work queue on a real Redis and a real PostgreSQL: every effect once, whatever fails."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import asyncpg
import pytest

from bizosaas_events.bus.base import Names, command_envelope
from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.dead_letters import DeadLetters, Filter
from bizosaas_events.envelope import Envelope, new_id, to_fields
from bizosaas_events.errors import DomainError, UnavailableError
from bizosaas_events.queue import MAX_DELIVERIES, Handle, QueueConsumer
from bizosaas_events.stopping import stop
from bizosaas_events.store.migrating import migrate
from bizosaas_events.testing.account import CODEC, Deposit, a_context
from bizosaas_events.testing.waiting import until
from bizosaas_sandbox.servers.redis import Redis as RedisServer
from bizosaas_sandbox.testing import one_redis

GROUP = "mail"


class Queue:
    """A queue, its database, and as many consumers as a test wants."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Client, env: str) -> None:
        self.pool = pool
        self.redis = redis
        self.stream = Names(env).queue("mail")
        self.seen: Counter[int] = Counter()
        self._sent = 0

    async def put(self, count: int, **changes: Any) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        for _ in range(count):
            deposit = Deposit(account_id="1", cents=self._sent)
            envelope = command_envelope(deposit, a_context(), CODEC, id=new_id(), source="test")
            fields: dict[Any, Any] = {**to_fields(envelope), **changes}
            pipeline.xadd(self.stream, fields)
            self._sent += 1
        await pipeline.execute()

    async def effect(self, connection: Any, envelope: Envelope) -> None:
        """What a handler does: one row per message, without a key that would hide a repeat."""
        cents = number(envelope)
        await connection.execute("insert into effect values ($1)", cents)
        self.seen[cents] += 1

    async def effects(self) -> list[int]:
        return [row["n"] for row in await self.pool.fetch("select n from effect order by n")]

    def consumer(self, handle: Handle | None = None, instance: str = "a", **options: Any) -> QueueConsumer:
        options = {"pause": 0.05, "idle_seconds": 0.6, **options}
        return QueueConsumer(
            GROUP, self.stream, handle or self.effect, pool=self.pool, redis=self.redis, instance=instance, **options
        )

    @contextlib.asynccontextmanager
    async def running(self, *consumers: QueueConsumer) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
        try:
            yield
            for consumer in consumers:
                consumer.stop()
            await asyncio.wait_for(asyncio.gather(*tasks), 10)
        finally:
            await stop(tasks)

    async def all_done(self) -> bool:
        groups = await self.redis.xinfo_groups(self.stream)
        return bool(groups and groups[0]["pending"] == 0 and groups[0]["lag"] == 0)


def number(envelope: Envelope) -> int:
    return int(json.loads(envelope.data)["cents"])


@pytest.fixture
async def queue(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
    redis: Client, env_name: str,
) -> AsyncIterator[Queue]:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    async with asyncpg.create_pool(url, min_size=1, max_size=10) as pool:
        await pool.execute("create table effect (n int not null)")
        yield Queue(pool, redis, env_name)


@pytest.mark.parametrize("transaction", [1, 50])
async def test_every_message_has_its_effect_once(queue: Queue, transaction: int) -> None:
    await queue.put(500)  # before the group exists
    async with queue.running(queue.consumer(transaction=transaction), queue.consumer(instance="b")):
        await until(queue.all_done)
        await queue.put(100)
        await until(queue.all_done)
    assert await queue.effects() == list(range(600))


@one_redis
async def test_a_message_sent_twice_has_its_effect_once(queue: Queue) -> None:
    await queue.put(10, id=new_id())
    async with queue.running(queue.consumer(transaction=4)):
        await until(queue.all_done)
    assert len(await queue.effects()) == 1


async def test_a_failure_is_tried_again_later_and_holds_up_nobody(queue: Queue) -> None:
    tries: Counter[int] = Counter()

    async def flaky(connection: Any, envelope: Envelope) -> None:
        tries[number(envelope)] += 1
        await queue.effect(connection, envelope)
        if number(envelope) % 10 == 3 and tries[number(envelope)] < 4:
            raise ConnectionRefusedError("the mail server is away")

    await queue.put(100)
    async with queue.running(queue.consumer(flaky), queue.consumer(flaky, "b", transaction=20)):
        await until(queue.all_done)
    assert await queue.effects() == list(range(100))
    assert await queue.pool.fetchval("select count(*) from dead_letter") == 0


@one_redis
async def test_a_failure_that_stays_becomes_a_dead_letter(queue: Queue) -> None:
    tries = 0

    async def bug(connection: Any, envelope: Envelope) -> None:
        nonlocal tries
        if number(envelope) == 7:
            tries += 1
            raise ZeroDivisionError("a bug")
        await queue.effect(connection, envelope)

    await queue.put(20)
    consumer = queue.consumer(bug, transaction=5)
    async with queue.running(consumer):
        await until(queue.all_done)
    assert await queue.effects() == [n for n in range(20) if n != 7]
    (dead,) = await queue.pool.fetch("select * from dead_letter")
    assert (dead["consumer"], dead["stream"], dead["attempts"]) == (GROUP, queue.stream, MAX_DELIVERIES)
    assert (dead["failure"], dead["error"]) == ("bug", "ZeroDivisionError")
    assert "a bug" in dead["reason"]
    assert json.loads(json.loads(dead["fields"])["data"])["cents"] == 7
    assert tries == MAX_DELIVERIES + 1  # once more, when it failed together with the others of its transaction
    assert consumer.dead == 1


@one_redis
async def test_what_is_refused_or_unreadable_becomes_a_dead_letter_at_once(queue: Queue) -> None:
    async def refuse(connection: Any, envelope: Envelope) -> None:
        raise DomainError("There is no such mailbox.")

    await queue.redis.xadd(queue.stream, {"garbage": b"\xff"})
    await queue.put(1)
    async with queue.running(queue.consumer(refuse)):
        await until(queue.all_done)
    dead = await queue.pool.fetch("select * from dead_letter order by id")
    assert [(row["attempts"], row["failure"], row["reason"]) for row in dead] == [
        (1, "poison", "stream entry lacks the field 'id'"),
        (1, "poison", "There is no such mailbox."),
    ]
    shown = await DeadLetters(queue.pool, queue.redis).find(str(dead[0]["id"]))
    assert shown.fields == {"garbage": "\\xff"}


async def test_a_dead_letter_of_a_queue_is_sent_again_as_it_was_and_has_its_effect_once(queue: Queue) -> None:
    broken = True

    async def handle(connection: Any, envelope: Envelope) -> None:
        if broken:
            raise DomainError("There is no such mailbox.")
        await queue.effect(connection, envelope)

    letters = DeadLetters(queue.pool, queue.redis)
    await queue.put(2)
    async with queue.running(queue.consumer(handle)):
        await until(queue.all_done)
        first, second = await letters.page(Filter(consumer=GROUP))  # whichever of the two a worker had first
        kept = json.loads((await letters.find(first.id)).fields["data"])["cents"]
        await letters.retry(first.id)

        async def failed_again() -> bool:
            return [letter.attempts for letter in await letters.page(Filter())] == [1, 2]

        await until(failed_again)
        (again,) = [letter for letter in await letters.page(Filter()) if letter.attempts == 2]
        assert (again.key, again.first_at) == (first.key, first.first_at)
        broken = False
        edited = json.loads((await letters.find(second.id)).fields["data"]) | {"cents": 40}
        await letters.retry(again.id)
        await letters.retry(second.id, json.dumps(edited).encode())
        await letters.retry(second.id)  # a repeat
        await until(queue.all_done)
    assert sorted(await queue.effects()) == [kept, 40]
    assert await letters.page(Filter()) == []


async def test_the_very_bytes_of_what_cannot_be_read_are_sent_again(queue: Queue) -> None:
    fields: dict[Any, Any] = {b"garb\x00ge": b"\xff\x00\xe9\xf0\x9f\x92\xa9", b"type": b"a\x00b\xff"}
    await queue.redis.xadd(queue.stream, fields)
    letters = DeadLetters(queue.pool, queue.redis)
    async with queue.running(queue.consumer(queue.effect)):
        await until(queue.all_done)
    (dead,) = await letters.page(Filter())
    assert dead.type == "a\\0b\\xff"
    await queue.redis.delete(queue.stream)
    await letters.retry(dead.id)
    ((_, sent),) = cast("list[Any]", await queue.redis.xrange(queue.stream))
    assert {name: value for name, value in sent.items() if name != b"deadletter"} == fields


@one_redis
async def test_what_is_unavailable_is_tried_again(queue: Queue) -> None:
    tries = 0

    async def away(connection: Any, envelope: Envelope) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise UnavailableError("The mail server is away.")

    await queue.put(1)
    async with queue.running(queue.consumer(away)):
        await until(queue.all_done)
    assert tries == 2


@one_redis
async def test_an_outage_of_the_database_is_nobodys_failure(queue: Queue) -> None:
    tries = 0

    async def away(connection: Any, envelope: Envelope) -> None:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise asyncpg.CannotConnectNowError("the database system is starting up")
        await queue.effect(connection, envelope)

    await queue.put(1)
    async with queue.running(queue.consumer(away)):
        await until(queue.all_done)
    assert await queue.effects() == [0]


@one_redis
async def test_what_could_not_be_acknowledged_in_an_outage_is_when_it_is_over(
    queue: Queue, private_redis: RedisServer
) -> None:
    away = asyncio.Event()

    async def until_the_outage(connection: Any, envelope: Envelope) -> None:
        await queue.effect(connection, envelope)
        await away.wait()

    queue.redis = redis = connect(private_redis.url)
    await queue.put(12)
    async with queue.running(queue.consumer(until_the_outage, count=4)):
        await until(lambda: len(queue.seen) == 4)  # no more may be in hand
        await asyncio.to_thread(private_redis.kill)
        away.set()
        await asyncio.sleep(0.5)  # the acknowledgement has failed
        await asyncio.to_thread(private_redis.start)
        await until(lambda: len(queue.seen) == 12)
        await until(queue.all_done)
    assert await queue.effects() == list(range(12))
    await redis.aclose()


@one_redis
async def test_stopping_finishes_what_runs_and_hands_over_the_rest_at_once(queue: Queue) -> None:
    began = 0

    async def slow(connection: Any, envelope: Envelope) -> None:
        nonlocal began
        began += 1
        await queue.effect(connection, envelope)
        await asyncio.sleep(0.3)

    await queue.put(20)
    first = queue.consumer(slow, workers=2, idle_seconds=60)
    async with queue.running(first):
        await until(lambda: began == 2)
    assert await queue.effects() == [0, 1]
    assert first.handled == 2
    async with queue.running(queue.consumer(instance="b", idle_seconds=60)):
        await until(queue.all_done, 5)
    assert await queue.effects() == list(range(20))


async def test_a_cancelled_consumer_hands_over_too_and_leaves_no_half_effect(queue: Queue) -> None:
    async def stuck(connection: Any, envelope: Envelope) -> None:
        await queue.effect(connection, envelope)
        await asyncio.sleep(60)

    await queue.put(20)
    running = asyncio.create_task(queue.consumer(stuck, idle_seconds=60).run())
    await until(lambda: len(queue.seen) == 10)  # as many as the pool has connections
    await stop([running])
    assert await queue.effects() == []
    async with queue.running(queue.consumer(instance="b", idle_seconds=60)):
        await until(queue.all_done, 5)
    assert await queue.effects() == list(range(20))


@one_redis
async def test_a_long_handler_is_left_alone(queue: Queue) -> None:
    async def slow(connection: Any, envelope: Envelope) -> None:
        queue.seen[number(envelope)] += 1
        await asyncio.sleep(1.5)

    await queue.put(5)
    async with queue.running(*(queue.consumer(slow, instance, idle_seconds=0.4) for instance in "ab")):
        await until(queue.all_done)
    assert queue.seen == dict.fromkeys(range(5), 1)


async def test_a_lost_group_is_made_again_at_the_beginning(queue: Queue) -> None:
    async with queue.running(queue.consumer()):
        await queue.put(20)
        await until(queue.all_done)
        await queue.redis.delete(queue.stream)
        await queue.put(20)
        await until(_exists(queue))
        await until(queue.all_done)
    assert await queue.effects() == list(range(40))


async def test_what_is_done_is_deleted_and_consumers_that_are_gone_are_forgotten(
    queue: Queue,
) -> None:
    await queue.put(200)
    async with queue.running(queue.consumer(instance="gone")):
        await until(queue.all_done)
    async with queue.running(queue.consumer(gone_seconds=0.5)):

        async def tidy() -> bool:
            consumers = await queue.redis.xinfo_consumers(queue.stream, GROUP)
            names = [consumer["name"] for consumer in consumers]
            return names == [b"a"] and int(await queue.redis.xlen(queue.stream)) <= 1

        await until(tidy)


@one_redis
async def test_without_an_inbox_nothing_is_written_by_the_queue(queue: Queue) -> None:
    async def note(connection: Any, envelope: Envelope) -> None:
        assert connection is None
        queue.seen[number(envelope)] += 1

    await queue.put(100)
    async with queue.running(queue.consumer(note, inbox=False)):
        await until(queue.all_done)
    assert queue.seen == dict.fromkeys(range(100), 1)
    assert await queue.pool.fetchval("select count(*) from inbox") == 0


def _exists(queue: Queue) -> Callable[[], Awaitable[bool]]:
    async def exists() -> bool:
        return bool(await queue.redis.exists(queue.stream) and await queue.redis.xinfo_groups(queue.stream))

    return exists
