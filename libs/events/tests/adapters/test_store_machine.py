"""Every event store against the same model."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from bizosaas_events.store.base import EventStore
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.testing.account import CODEC
from bizosaas_events.testing.store_machine import PARTITIONS, EventStoreMachine

pytestmark = pytest.mark.timeout(300)

EMPTY = """
truncate event, handled_command;
update event_partition set position = 0, head = decode(repeat('00', 32), 'hex') where position > 0
"""


def test_the_store_in_memory_is_like_the_model() -> None:
    class Machine(EventStoreMachine):
        @asynccontextmanager
        async def open(self) -> AsyncIterator[EventStore]:
            yield MemoryEventStore(CODEC, category="account", source="test", partitions=PARTITIONS)

    play = settings(max_examples=30, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Machine, settings=play)


def test_postgres_is_like_the_model(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]
) -> None:
    url = new_database(template=database_template("event_log", migrate))

    class Machine(EventStoreMachine):
        @asynccontextmanager
        async def open(self) -> AsyncIterator[EventStore]:
            async with open_pool(url, min_size=1, max_size=1) as pool:
                await pool.execute(EMPTY)
                yield PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)

    play = settings(
        max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(Machine, settings=play)
