"""Sequenced dead letters: what fails is put aside with what follows of its key, and comes back in order, once."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from redis.asyncio import Redis

from bizosaas_events.consumer import ATTEMPTS, Feed, OrderedConsumer
from bizosaas_events.dead_letters import (
    AtWorkError,
    DeadLetter,
    DeadLetterNotFoundError,
    DeadLetters,
    Filter,
    ParkedError,
    SelectionError,
)
from bizosaas_events.envelope import Envelope
from bizosaas_events.errors import DomainError
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store import migrations
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposited, a_context
from bizosaas_events.testing.waiting import until

PARTITIONS = 2
STREAMS = 6


class Stage:
    """A log, its relay, and consumers that refuse what a test wants, all in this process."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis, env: str, together: bool) -> None:
        self.together = together
        self.pool = pool
        self.redis = redis
        self.env = env
        self.letters = DeadLetters(pool, redis)
        self.store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)
        self.broken: dict[tuple[str, int], Exception] = {}
        self.tries = 0
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, *, instance: str = "a", **options: Any) -> tuple[OrderedConsumer, "asyncio.Task[None]"]:
        feed = Feed("account", PARTITIONS, self.store)
        consumer = OrderedConsumer(
            "counter", [feed], self.apply, pool=self.pool, redis=self.redis, env=self.env, instance=instance, ttl=1.0,
            batch=20, together=self.together, **options,
        )  # fmt: skip
        task = asyncio.create_task(consumer.run())
        self.tasks.append(task)
        return consumer, task

    async def apply(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        for e in envelopes:
            cents = json.loads(e.data)["cents"]
            await connection.execute("insert into applied values ($1, $2, $3)", e.subject, e.streamversion, cents)
            if (error := self.broken.get((e.subject, e.streamversion))) is not None and cents < 1000:
                self.tries += 1
                raise error

    async def fill(self, rounds: int, streams: int = STREAMS) -> None:
        for _ in range(rounds):
            for n in range(streams):
                version = len(await self.store.load(f"account-{n}"))
                await self.store.append([Write(f"account-{n}", version, [Deposited(cents=version)])], a_context())

    async def applied(self, stream: int) -> list[int]:
        """The versions of a stream in the order in which they were applied."""
        rows = await self.pool.fetch("select version from applied where stream = $1 order by n", f"account-{stream}")
        return [row["version"] for row in rows]

    async def reached(self, stream: int, *versions: int) -> None:
        async def there() -> bool:
            return len(await self.applied(stream)) >= len(versions)

        await until(there, what=f"{versions} of stream {stream}")
        assert await self.applied(stream) == list(versions)

    async def waiting(self, number: int = 1, **filter: Any) -> list[DeadLetter]:
        """The dead letters, when there are so many."""

        async def there() -> bool:
            return len(await self.letters.page(Filter(state="waiting", **filter))) == number

        await until(there, what=f"{number} dead letters")
        return await self.letters.page(Filter(state="waiting", **filter))


@pytest.fixture(params=[False, True], ids=["each by itself", "together"])
async def stage(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
    redis_url: str, env_name: str, request: pytest.FixtureRequest,
) -> AsyncIterator[Stage]:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    redis = Redis.from_url(redis_url)
    async with asyncpg.create_pool(url, min_size=2, max_size=10) as pool:
        await pool.execute(
            "create table applied (stream text, version int, cents int, n int generated always as identity, "
            "unique (stream, version))"
        )
        stage = Stage(pool, redis, env_name, request.param)
        stage.tasks.append(asyncio.create_task(Relay(stage.store, pool, redis, env=env_name).run()))
        try:
            yield stage
            for task in stage.tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            await stop(stage.tasks)
            await redis.aclose()


async def test_a_rejected_event_parks_what_follows_of_its_key_and_other_keys_go_on(stage: Stage) -> None:
    stage.broken["account-1", 2] = DomainError("No such account.")
    consumer, _ = stage.start()
    await stage.fill(4)
    for n in (0, 2, 3, 4, 5):
        await stage.reached(n, 1, 2, 3, 4)
    await stage.reached(1, 1)
    (letter,) = await stage.waiting()
    assert (letter.consumer, letter.key, letter.category) == ("counter", "account-1", "account")
    assert (letter.failure, letter.error, letter.attempts) == ("poison", "DomainError", 1)
    await until(lambda: sum(consumer.held.values()) == 4 * STREAMS)
    (letter,) = await stage.letters.page(Filter())
    assert letter.behind == 2
    found = await stage.letters.find(letter.id)
    assert found.fields["id"] == (await stage.store.load("account-1"))[1].id
    assert found.fields["data"] == '{"type":"account.account.deposited.v1","cents":1}'
    assert "in apply" in found.traceback
    assert [parked.state for parked in await stage.letters.behind(found, 10)] == ["parked", "parked"]
    assert consumer.failing == {}


async def test_a_bug_is_tried_some_times_before_it_is_a_dead_letter(stage: Stage) -> None:
    stage.broken["account-1", 1] = ZeroDivisionError("a bug")
    consumer, _ = stage.start(version="7.1")
    await stage.fill(2)
    (letter,) = await stage.waiting()
    assert (letter.failure, letter.error, letter.reason) == ("bug", "ZeroDivisionError", "a bug")
    assert (letter.attempts, letter.version) == (ATTEMPTS, "7.1")
    # Once more when it failed together with the others of its batch, and once with those that shared a transaction.
    assert 1 <= stage.tries - ATTEMPTS <= 2
    await stage.reached(0, 1, 2)
    assert consumer.failing == {}


async def test_a_value_that_does_not_fit_its_column_is_a_bug_and_no_outage(stage: Stage) -> None:
    async def apply(connection: Any, envelopes: Sequence[Envelope]) -> None:
        await connection.execute("insert into applied values ($1)", 7)

    stage.apply = apply  # type: ignore[method-assign]  # another effect for this test
    stage.start()
    await stage.fill(1, streams=1)
    (letter,) = await stage.waiting()
    assert (letter.failure, letter.error) == ("bug", "DataError")


async def test_a_consumer_whose_effect_must_be_whole_is_held_up_instead(stage: Stage) -> None:
    stage.broken["account-1", 1] = DomainError("No such account.")
    consumer, _ = stage.start(attempts=None)
    await stage.fill(2)
    await until(lambda: consumer.retried > 1)
    assert list(consumer.failing)
    assert await stage.letters.page(Filter()) == []
    stage.broken.clear()
    await stage.reached(1, 1, 2)


async def test_what_is_tried_again_comes_before_what_was_parked_behind_it(stage: Stage) -> None:
    stage.broken["account-1", 2] = DomainError("No such account.")
    stage.start()
    await stage.fill(4)
    (letter,) = await stage.waiting()
    await stage.reached(0, 1, 2, 3, 4)
    stage.broken.clear()
    await stage.letters.retry(letter.id)
    await stage.reached(1, 1, 2, 3, 4)
    await stage.fill(1)
    await stage.reached(1, 1, 2, 3, 4, 5)
    assert await stage.pool.fetchval("select count(*) from dead_letter") == 0


async def test_what_fails_again_waits_again_and_the_next_of_its_key_can_fail_too(stage: Stage) -> None:
    stage.broken["account-1", 2] = ZeroDivisionError("a bug")
    stage.broken["account-1", 4] = DomainError("No such account.")
    stage.start(attempts=1)
    await stage.fill(5)
    (letter,) = await stage.waiting()
    await stage.reached(0, 1, 2, 3, 4, 5)
    await stage.letters.retry(letter.id)

    async def again() -> bool:
        found = await stage.letters.find(letter.id)
        return found.state == "waiting" and found.attempts == letter.attempts + 1 and found.behind == 3

    await until(again)
    del stage.broken["account-1", 2]
    await stage.letters.retry(letter.id)
    await stage.reached(1, 1, 2, 3)

    async def next_one() -> bool:
        return [(each.reason, each.behind) for each in await stage.letters.page(Filter())] == [("No such account.", 1)]

    await until(next_one)
    (second,) = await stage.letters.page(Filter())
    assert (second.state, second.attempts) == ("waiting", 1)


async def test_an_edited_payload_is_what_the_consumer_gets_and_the_recorded_event_stays(stage: Stage) -> None:
    stage.broken["account-1", 2] = DomainError("No such account.")
    stage.start()
    await stage.fill(2)
    (letter,) = await stage.waiting()
    edited = '{"type":"account.account.deposited.v1","cents":1234}'
    await stage.letters.retry(letter.id, edited.encode())
    await stage.reached(1, 1, 2)
    assert await stage.pool.fetchval("select cents from applied where stream = 'account-1' and version = 2") == 1234
    assert json.loads((await stage.store.load("account-1"))[1].data)["cents"] == 1


async def test_both_payloads_are_shown_while_it_waits(stage: Stage) -> None:
    stage.broken["account-1", 1] = DomainError("No such account.")
    stage.start()
    await stage.fill(1)
    (letter,) = await stage.waiting()
    edited = '{"type":"account.account.deposited.v1","cents":7}'
    await stage.letters.retry(letter.id, edited.encode())

    async def failed() -> bool:
        return (await stage.letters.find(letter.id)).attempts == 2

    await until(failed)
    found = await stage.letters.find(letter.id)
    assert (json.loads(found.fields["data"])["cents"], found.edited) == (0, edited)


async def test_discarding_the_first_lets_the_next_one_follow(stage: Stage) -> None:
    stage.broken["account-1", 2] = DomainError("No such account.")
    stage.broken["account-2", 1] = DomainError("No such account.")
    stage.start()
    await stage.fill(3)
    first, second = await stage.waiting(2)
    await stage.reached(0, 1, 2, 3)
    await stage.letters.discard((first if first.key == "account-1" else second).id)
    await stage.reached(1, 1, 3)
    await stage.fill(1)
    await stage.reached(1, 1, 3, 4)
    assert [letter.key for letter in await stage.letters.page(Filter())] == ["account-2"]


async def test_a_discarded_one_that_nothing_follows_frees_its_key(stage: Stage) -> None:
    stage.broken["account-1", 1] = DomainError("No such account.")
    stage.start()
    await stage.fill(1)
    (letter,) = await stage.waiting()
    await stage.letters.discard(letter.id)
    await stage.fill(2)
    await stage.reached(1, 2, 3)


async def test_whoever_takes_over_a_partition_knows_what_stands_still(stage: Stage) -> None:
    stage.broken["account-1", 2] = DomainError("No such account.")
    _, first = stage.start()
    await stage.fill(3)
    (letter,) = await stage.waiting()
    await stage.reached(0, 1, 2, 3)
    await stop([first])
    stage.broken.clear()
    other, _ = stage.start(instance="b")
    await stage.fill(2)
    await stage.reached(0, 1, 2, 3, 4, 5)
    await until(lambda: sum(other.held.values()) == 5 * STREAMS)
    await stage.reached(1, 1)
    await stage.letters.retry(letter.id)
    await stage.reached(1, 1, 2, 3, 4, 5)


async def test_many_parked_events_come_back_in_batches(stage: Stage) -> None:
    stage.broken["account-0", 1] = DomainError("No such account.")
    stage.start()
    await stage.fill(90, streams=1)
    (letter,) = await stage.waiting()
    await stage.letters.retry(letter.id)
    stage.broken.clear()
    await stage.reached(0, *range(1, 91))


async def test_only_the_first_of_a_key_can_be_tried_again(stage: Stage) -> None:
    stage.broken["account-1", 1] = DomainError("No such account.")
    consumer, task = stage.start()
    await stage.fill(2)
    await until(lambda: sum(consumer.held.values()) == 2 * STREAMS)
    (letter,) = await stage.waiting()
    (parked,) = await stage.letters.behind(letter, 10)
    with pytest.raises(ParkedError) as refused:
        await stage.letters.ready(parked.id)
    assert letter.id in refused.value.remedy
    await stop([task])
    await stage.letters.retry(letter.id)
    with pytest.raises(AtWorkError):
        await stage.letters.ready(letter.id)
    for unknown in ("018f0000-0000-7000-8000-000000000000", "no id"):
        with pytest.raises(DeadLetterNotFoundError):
            await stage.letters.find(unknown)


async def test_a_selection_is_found_counted_and_confirmed_before_it_is_tried_again(stage: Stage) -> None:
    for n in range(4):
        stage.broken[f"account-{n}", 1] = DomainError("No such account.") if n else ZeroDivisionError()
    stage.start(attempts=1)
    await stage.fill(1)
    await stage.waiting(4)
    letters = stage.letters
    assert [letter.failure for letter in await letters.page(Filter(failure="bug"))] == ["bug"]
    assert len(await letters.page(Filter(key="account-2"))) == len(await letters.page(Filter(), limit=1)) == 1
    assert len(await letters.page(Filter(type="account.account.deposited.v1", tenant="acme"))) == 4
    assert await letters.page(Filter(before=datetime.now(UTC) - timedelta(hours=1))) == []
    pages = await letters.page(Filter(), limit=3)
    assert len(await letters.page(Filter(), after=pages[-1].id)) == 1
    poison = Filter(failure="poison")
    number, confirmation = await letters.select(poison, 2)
    assert number == 2
    for filter, text in ((Filter(), confirmation), (poison, "2.x.y"), (poison, ""), (poison, "9" + confirmation)):
        with pytest.raises(SelectionError):
            await letters.confirmed(filter, 2, text)
    ids = await letters.confirmed(poison, 2, confirmation)
    assert ids == [letter.id for letter in await letters.page(poison, limit=2)]
    await letters.discard(ids[0])
    assert await letters.confirmed(poison, 2, confirmation) == ids[1:]
    assert (await letters.select(Filter(consumer="other"), 2)).letters == 0
    assert [(c.consumer, c.state, c.letters) for c in await letters.counts()] == [("counter", "waiting", 3)]


async def test_the_dead_letters_of_the_first_version_are_kept(new_database: Callable[..., str]) -> None:
    url = new_database()
    config = Config()
    folder = Path(str(migrations.__file__)).parent
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url.replace("postgresql:", "postgresql+psycopg:").replace(
        "postgres:", "postgresql+psycopg:"
    )
    config.attributes["version_table"] = "revision_of_bizosaas_events"
    await asyncio.to_thread(command.upgrade, config, "0001")
    connection = await asyncpg.connect(url)
    try:
        old = "insert into dead_letter (consumer, id, fields, reason, attempts) values ($1, $2, $3, $4, $5)"
        fields = {"id": "x", "type": "tenant.create.v1", "subject": "tenant", "tenantid": "acme", "data": "a\0b"}
        await connection.execute(old, "{live:cmd:tenant}", "1-0", json.dumps(fields).encode(), "a bug", 5)
        await connection.execute(old, "{live:queue:mail}:sender", "2-0", b'{"garbage": "\\\\xff"}', "lacks", 1)
        await asyncio.to_thread(migrate, url)
        rows = await connection.fetch("select * from dead_letter order by entry")
        assert [(r["consumer"], r["stream"], r["entry"], r["type"], r["tenant"], r["failure"]) for r in rows] == [
            ("tenant", "{live:cmd:tenant}", "1-0", "tenant.create.v1", "acme", "bug"),
            ("sender", "{live:queue:mail}", "2-0", "", "", "poison"),
        ]
        assert json.loads(rows[0]["fields"]) == fields
    finally:
        await connection.close()
