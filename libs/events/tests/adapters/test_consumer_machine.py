"""Relays and ordered consumers against a model, in whatever order things happen to them."""

import asyncio
import functools
import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bizosaas_events.bus.connecting import connect
from bizosaas_events.consumer import Feed, OrderedConsumer
from bizosaas_events.dead_letters import DeadLetters, Filter
from bizosaas_events.envelope import Envelope, new_id
from bizosaas_events.errors import DomainError
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.testing.account import CODEC, Deposited, a_context
from bizosaas_events.testing.machine import AsyncMachine
from bizosaas_events.testing.waiting import until

PARTITIONS = 2
STREAMS = [f"account-{n}" for n in range(4)]
CONSUMERS = ("owner", "foreigner")  # one with the store at hand, one that has nothing but what is in Redis
POISON = 13
TABLES = """
create table projection (consumer text, stream text, n int not null, bad int not null, primary key (consumer, stream));
"""
EMPTY = """
truncate event, handled_command, consumer_partition, consumer_instance, relay_floor, dead_letter, projection;
update event_partition set position = 0, head = decode(repeat('00', 32), 'hex') where position > 0
"""
COUNT = """
insert into projection as p (consumer, stream, n, bad) values ($1, $2, 1, ($3 <> 1)::int)
on conflict (consumer, stream) do update set n = p.n + 1, bad = p.bad + ($3 <> p.n + 1)::int
"""


class Machine(AsyncMachine):
    database_url = redis_url = ""

    async def begin(self, stack: AsyncExitStack) -> None:
        self.log: dict[str, list[int]] = {stream: [] for stream in STREAMS}
        self.mended: dict[str, int] = dict.fromkeys(STREAMS, 0)
        self.outages = 0
        self.at_work: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.pool = await stack.enter_async_context(open_pool(self.database_url, min_size=1, max_size=8))
        await self.pool.execute(EMPTY)
        self.redis = connect(self.redis_url)
        stack.push_async_callback(self.redis.aclose)
        stack.push_async_callback(self._stop)
        self.env = f"machine-{new_id()}"
        self.store = PostgresEventStore(self.pool, CODEC, category="account", source="test", partitions=PARTITIONS)
        self.letters = DeadLetters(self.pool, self.redis)

    async def _stop(self) -> None:
        await stop(list(self.at_work.values()))

    @rule(
        stream=st.sampled_from(STREAMS),
        cents=st.lists(st.one_of(st.integers(0, 9), st.just(POISON)), min_size=1, max_size=9),
    )
    def append_some(self, stream: str, cents: list[int]) -> None:
        self.append(stream, cents)

    def append(self, stream: str, cents: list[int]) -> None:
        write = Write(stream, len(self.log[stream]), [Deposited(cents=c) for c in cents])
        self.run(self.store.append([write], a_context()))
        self.log[stream] += cents

    @rule(name=st.sampled_from(["relay", *CONSUMERS]), instance=st.sampled_from("ab"))
    def start_or_stop(self, name: str, instance: str) -> None:
        if (name, instance) in self.at_work:
            self.run(stop([self.at_work.pop((name, instance))]))
        else:
            self.run(self._start(name, instance))

    @rule(
        name=st.sampled_from(CONSUMERS), stream=st.sampled_from(STREAMS), cents=st.lists(st.integers(0, 9), min_size=1)
    )
    def take_all_partitions_away(self, name: str, stream: str, cents: list[int]) -> None:
        """As one does who thinks that their holder is dead, while there is something to do."""
        taken = "update consumer_partition set owner = 'a ghost', fence = fence + 1 where consumer = $1"
        self.run(self.pool.execute(taken, name))
        self.append(stream, cents)
        self.run(asyncio.sleep(0.1))

    @rule()
    def flush(self) -> None:
        self.run(self._flush())

    async def _flush(self) -> None:
        for key in [key async for key in self.redis.scan_iter(f"*{self.env}*")]:
            await self.redis.delete(key)

    @rule(times=st.integers(1, 4))
    def let_something_be_away(self, times: int) -> None:
        self.outages += times

    @rule(seconds=st.floats(0.01, 0.3))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @precondition(lambda self: any(POISON in cents for cents in self.log.values()))
    @rule()
    def mend(self) -> None:
        """Let everything be handled that is in the log by now, and have all dead letters tried again."""
        self.mended = {stream: len(cents) for stream, cents in self.log.items()}
        self.run(self._redrive())

    async def _redrive(self) -> None:
        for letter in await self.letters.page(Filter(state="waiting"), limit=200):
            await self.letters.retry(letter.id)

    @rule()
    def settle(self) -> None:
        """With everybody at work, all arrives, and what cannot be handled is put aside with what follows of its key."""
        self.run(self._settle())

    async def _settle(self) -> None:
        self.outages = 0
        for name in ("relay", *CONSUMERS):
            if not any(running == name for running, _ in self.at_work):
                await self._start(name, "a")
        applied = {stream: self._handled(stream) for stream in STREAMS}
        expected = {(name, stream): n for name in CONSUMERS for stream, n in applied.items() if n}
        aside = len(CONSUMERS) * sum(len(cents) - applied[stream] for stream, cents in self.log.items())

        async def settled() -> bool:
            return await self._projected() == expected and await self._aside() == aside

        async def what() -> str:
            return f"{expected} and {aside} aside, but {await self._projected()} and {await self._aside()}"

        try:
            await until(settled, 20)
        except AssertionError:
            raise AssertionError(await what()) from None

    @invariant()
    def nothing_is_out_of_order_or_doubled(self) -> None:
        self.run(self._sound())

    async def _sound(self) -> None:
        assert await self.pool.fetchval("select coalesce(sum(bad), 0) from projection") == 0
        for (_, stream), n in (await self._projected()).items():
            assert n <= len(self.log[stream])

    def _handled(self, stream: str) -> int:
        """How many events of a stream come before its first that cannot be handled."""
        cents = self.log[stream]
        bad = (n for n in range(self.mended[stream], len(cents)) if cents[n] == POISON)
        return next(bad, len(cents))

    async def _projected(self) -> dict[tuple[str, str], int]:
        rows = await self.pool.fetch("select consumer, stream, n from projection")
        return {(row["consumer"], row["stream"]): row["n"] for row in rows}

    async def _aside(self) -> int:
        count: int = await self.pool.fetchval("select count(*) from dead_letter")
        return count

    async def _start(self, name: str, instance: str) -> None:
        if name == "relay":
            work = Relay(self.store, self.pool, self.redis, env=self.env).run
        else:
            work = OrderedConsumer(
                name, [Feed("account", PARTITIONS, self.store if name == "owner" else None)],
                functools.partial(self._apply, name), pool=self.pool, redis=self.redis, env=self.env,
                instance=instance, ttl=0.6, batch=5, together=name != "owner",
            ).run  # fmt: skip
        self.at_work[name, instance] = asyncio.create_task(work())
        await asyncio.sleep(0)

    async def _apply(self, name: str, connection: Any, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            if self.outages:
                self.outages -= 1
                raise ConnectionResetError("away")
            if json.loads(envelope.data)["cents"] == POISON and envelope.streamversion > self.mended[envelope.subject]:
                raise DomainError("13")
            await connection.execute(COUNT, name, envelope.subject, envelope.streamversion)


@pytest.mark.timeout(600)
def test_whatever_happens_everything_arrives_once_and_in_order(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str], redis_url: str
) -> None:
    url = new_database(template=database_template("event_log", migrate))

    with psycopg.connect(url) as connection:
        connection.execute(TABLES)

    class OnThem(Machine):
        database_url = url

    OnThem.redis_url = redis_url
    play = settings(
        max_examples=6, stateful_step_count=15, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )  # fmt: skip
    run_state_machine_as_test(OnThem, settings=play)
