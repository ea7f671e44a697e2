"""A work queue against a model, in whatever order things happen to it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from bizosaas_events.bus.base import Names, command_envelope
from bizosaas_events.bus.connecting import connect
from bizosaas_events.dead_letters import DeadLetters, Filter
from bizosaas_events.envelope import Envelope, new_id, to_fields
from bizosaas_events.errors import DomainError
from bizosaas_events.queue import QueueConsumer
from bizosaas_events.stopping import stop
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import open_pool
from bizosaas_events.testing.account import CODEC, Deposit, a_context
from bizosaas_events.testing.machine import AsyncMachine
from bizosaas_events.testing.waiting import until

GROUP = "mail"
KINDS = ("fine", "fine", "refused", "fails twice")


class Machine(AsyncMachine):
    database_url = redis_url = ""

    async def begin(self, stack: AsyncExitStack) -> None:
        self.sent: list[str] = []
        self.mended = 0
        """So many are handled now, although they were refused at first."""
        self.failures = Counter[int]()
        self.outages = 0
        self.at_work: dict[str, tuple[QueueConsumer, asyncio.Task[None]]] = {}
        self.pool = await stack.enter_async_context(open_pool(self.database_url, min_size=1, max_size=8))
        await self.pool.execute("truncate effect, inbox, dead_letter")
        self.redis = connect(self.redis_url)
        stack.push_async_callback(self.redis.aclose)
        stack.push_async_callback(self._stop_all)
        self.stream = Names(f"machine-{new_id()}").queue("mail")
        self.letters = DeadLetters(self.pool, self.redis)

    async def _stop_all(self) -> None:
        await stop([task for _, task in self.at_work.values()])

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8), times=st.sampled_from([1, 1, 2]))
    def send(self, kinds: list[str], times: int) -> None:
        """Some messages, or each of them twice, as one does who was not told that it arrived."""
        self.run(self._send(kinds, times))

    async def _send(self, kinds: list[str], times: int) -> None:
        for kind in kinds:
            deposit = Deposit(account_id=kind, cents=len(self.sent))
            envelope = command_envelope(deposit, a_context(), CODEC, id=new_id(), source="test")
            fields: dict[Any, Any] = {**to_fields(envelope)}
            for _ in range(times):
                await self.redis.xadd(self.stream, fields)
            self.sent.append(kind)

    @rule(instance=st.sampled_from("abc"), gently=st.booleans())
    def start_or_stop(self, instance: str, gently: bool) -> None:
        if instance in self.at_work:
            self.run(self._stop(*self.at_work.pop(instance), gently))
        else:
            self.run(self._start(instance))

    async def _stop(self, consumer: QueueConsumer, task: "asyncio.Task[None]", gently: bool) -> None:
        if gently:
            consumer.stop()
            await task
        else:
            await stop([task])

    @rule(times=st.integers(1, 4))
    def let_something_be_away(self, times: int) -> None:
        self.outages += times

    @rule(seconds=st.floats(0.01, 0.2))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule()
    def mend(self) -> None:
        """Refuse nothing any more that was sent by now, and have all dead letters sent again."""
        self.mended = len(self.sent)
        self.run(self._redrive())

    async def _redrive(self) -> None:
        for letter in await self.letters.page(Filter(), limit=200):
            await self.letters.retry(letter.id)

    @rule()
    def settle(self) -> None:
        self.run(self._settle())

    async def _settle(self) -> None:
        self.outages = 0
        if not self.at_work:
            await self._start("a")
        dead = {n for n, kind in enumerate(self.sent) if kind == "refused" and n >= self.mended}
        expected = [n for n in range(len(self.sent)) if n not in dead]

        async def settled() -> bool:
            return await self._effects() == expected and await self._dead() >= dead

        await until(settled, 20, what=f"all but {sorted(dead)} of {len(self.sent)}")

    @invariant()
    def nothing_is_done_twice(self) -> None:
        effects = self.run(self._effects())
        assert len(effects) == len(set(effects))

    async def _effects(self) -> list[int]:
        return [row["n"] for row in await self.pool.fetch("select n from effect order by n")]

    async def _dead(self) -> set[int]:
        letters = [await self.letters.find(letter.id) for letter in await self.letters.page(Filter(), limit=200)]
        return {json.loads(letter.fields["data"])["cents"] for letter in letters}

    async def _start(self, instance: str) -> None:
        consumer = QueueConsumer(
            GROUP, self.stream, self._handle, pool=self.pool, redis=self.redis, instance=instance, workers=2,
            count=10, idle_seconds=0.5, pause=0.02, transaction=3,
        )  # fmt: skip
        self.at_work[instance] = consumer, asyncio.create_task(consumer.run())
        await asyncio.sleep(0)

    async def _handle(self, connection: Any, envelope: Envelope) -> None:
        deposit = json.loads(envelope.data)
        n, kind = deposit["cents"], deposit["account_id"]
        if self.outages:
            self.outages -= 1
            raise ConnectionResetError("away")
        if kind == "refused" and n >= self.mended:
            raise DomainError("no")
        await connection.execute("insert into effect values ($1)", n)
        if kind == "fails twice" and self.failures[n] < 2:
            self.failures[n] += 1
            raise ValueError("a bug, after the effect")


@pytest.mark.timeout(600)
def test_whatever_happens_every_message_has_its_effect_once(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str], redis_url: str
) -> None:
    url = new_database(template=database_template("event_log", migrate))

    with psycopg.connect(url) as connection:
        connection.execute("create table effect (n int not null)")

    class OnThem(Machine):
        database_url = url

    OnThem.redis_url = redis_url
    play = settings(max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(OnThem, settings=play)
