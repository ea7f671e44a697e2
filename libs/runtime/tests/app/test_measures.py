"""What `/metrics` says of a log, its relay, its consumers and its dead letters."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from bizosaas_events import ConcurrencyError, DomainError, Envelope
from bizosaas_events.consumer import Feed, OrderedConsumer
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import CODEC, Deposited, a_context
from bizosaas_events.testing.waiting import until
from bizosaas_runtime.measures import Measures


@pytest.fixture
async def measures(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str],
    redis_url: str, env_name: str,
) -> AsyncIterator[Measures]:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    async with asyncpg.create_pool(url, min_size=2, max_size=10) as pool, Redis.from_url(redis_url) as redis:
        store = PostgresEventStore(pool, CODEC, category="account", source="account-svc", partitions=1)
        relay = Relay(store, pool, redis, env=env_name)

        async def refuse(connection: Any, envelopes: Sequence[Envelope]) -> None:
            if any(e.subject == "account-1" for e in envelopes):
                raise DomainError("No such account.")

        consumer = OrderedConsumer(
            "counter", [Feed("account", 1)], refuse, pool=pool, redis=redis, env=env_name, instance="a"
        )
        async with Measures(store, pool, redis, env=env_name) as measures:
            measures.relay = relay
            measures.consumers.add(consumer)
            for n in range(4):
                await store.append([Write(f"account-{n % 2}", n // 2, [Deposited(cents=n)])], a_context())
            with pytest.raises(ConcurrencyError):
                await store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context())
            yield measures


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_who_is_behind_and_what_was_put_aside_can_be_scraped(measures: Measures) -> None:
    (consumer,), relay = measures.consumers, measures.relay
    assert relay is not None
    await measures.look()
    assert value("bizos_store_events_appended_total", category="account") == 4
    assert value("bizos_store_append_conflicts_total", category="account") == 1
    assert value("bizos_relay_events_behind", category="account") == 4
    assert (value("bizos_relay_seconds_behind", category="account") or 0) > 0

    tasks = [asyncio.create_task(work()) for work in (relay.run, consumer.run)]
    part = {"consumer": "counter", "category": "account", "partition": "0"}

    async def caught_up() -> bool:
        await measures.look()
        return value("bizos_consumer_events_behind", **part) == 0

    try:
        await until(caught_up)
        told(part)
    finally:
        await stop(tasks)
    assert value("bizos_consumer_fence", **part) is None, "it gave its lease back"


def told(part: dict[str, str]) -> None:
    assert value("bizos_consumer_fence", **part) == 1
    assert value("bizos_consumer_seconds_behind", **part) == 0
    assert value("bizos_consumer_partitions_held", consumer="counter") == 1
    assert value("bizos_consumer_events_applied_total", consumer="counter") == 2
    assert value("bizos_dead_letters", consumer="counter", state="waiting") == 1
    assert value("bizos_dead_letters", consumer="counter", state="parked") == 1
    assert (value("bizos_dead_letters_oldest_seconds", consumer="counter", state="waiting") or 0) > 0
    assert value("bizos_relay_events_behind", category="account") == 0
