"""What a process measures of its log, its consumers and its dead letters, for `/metrics`.

A partition is measured by the process that holds its lease, so the series of
all processes together are one row a partition. What has to be asked for is
asked every few seconds, beside the work, and never by a scrape.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self
from weakref import WeakSet

import asyncpg
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bizosaas_events.bus.connecting import Client
from bizosaas_events.consumer import OrderedConsumer
from bizosaas_events.dead_letters import Counts, DeadLetters
from bizosaas_events.envelope import now
from bizosaas_events.lag import Lag, lags, unsent
from bizosaas_events.outages import STORAGE_ERRORS
from bizosaas_events.relay import Relay
from bizosaas_events.stopping import stop
from bizosaas_events.store.postgres import PostgresEventStore

SECONDS = 5.0

_PARTITION = ("consumer", "category", "partition")

_log = logging.getLogger(__name__)


class Measures(Collector):
    """Measures while it is entered. `consumers` and `relay` are whatever the process has."""

    def __init__(self, store: PostgresEventStore, pool: "asyncpg.Pool[Any]", redis: Client, *, env: str) -> None:
        self.consumers: WeakSet[OrderedConsumer] = WeakSet()
        self.relay: Relay | None = None
        self._store = store
        self._dead_letters = DeadLetters(pool, redis)
        self._redis = redis
        self._env = env
        self._lags: list[Lag] = []
        self._letters: list[Counts] = []
        self._unsent = (0, 0.0)
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        REGISTRY.register(self)
        self._looking = asyncio.create_task(self._look_again())
        return self

    async def __aexit__(self, *_: object) -> None:
        REGISTRY.unregister(self)
        if self._looking is not None:
            await stop([self._looking])

    async def look(self) -> None:
        """Ask Redis and PostgreSQL how far everybody is. Raises what says that one is away."""
        self._letters = await self._dead_letters.counts()
        self._unsent = await unsent(self._redis, self._env, self._store)
        logs = {category: feed.partitions for c in self.consumers for category, feed in c.feeds.items()}
        self._lags = [
            lag for category, partitions in logs.items() for lag in await lags(self._redis, self._env, category, partitions)
        ]  # fmt: skip

    async def _look_again(self) -> None:
        while True:
            try:
                await self.look()
            except STORAGE_ERRORS as error:
                # What is not known is not told: a scrape shows a gap, and not what was true before the outage.
                self._lags, self._letters = [], []
                _log.debug("nothing measured: %s", error)
            await asyncio.sleep(SECONDS)

    def collect(self) -> Iterator[Metric]:
        """Every series, as `prometheus_client` asks for them."""
        consumers = sorted(self.consumers, key=lambda consumer: consumer.name)
        yield from self._of_consumers(consumers)
        yield from self._of_partitions(consumers)
        yield from self._of_letters()
        yield from self._of_log()

    def _of_consumers(self, consumers: Sequence[OrderedConsumer]) -> Iterator[Metric]:
        applied = CounterMetricFamily(
            "bizos_consumer_events_applied", "Events this process has applied.", None, ["consumer"]
        )
        retried = CounterMetricFamily(
            "bizos_consumer_retries", "How often something was tried again.", None, ["consumer"]
        )
        held = GaugeMetricFamily(
            "bizos_consumer_partitions_held", "Partitions leased to this process.", None, ["consumer"]
        )
        failing = GaugeMetricFamily(
            "bizos_consumer_partitions_failing",
            "Partitions held up by an event that cannot be applied.",
            None,
            ["consumer"],
        )
        for c in consumers:
            for family, value in (
                (applied, c.applied), (retried, c.retried), (held, len(c.held)), (failing, len(c.failing))
            ):  # fmt: skip
                family.add_metric([c.name], value)
        yield from (applied, retried, held, failing)

    def _of_partitions(self, consumers: Sequence[OrderedConsumer]) -> Iterator[Metric]:
        fences = GaugeMetricFamily("bizos_consumer_fence", "Of the lease that this process holds.", None, _PARTITION)
        events = GaugeMetricFamily("bizos_consumer_events_behind", "Events not applied yet.", None, _PARTITION)
        seconds = GaugeMetricFamily(
            "bizos_consumer_seconds_behind", "Age of the next event to apply.", None, _PARTITION
        )
        ours = {(c.name, *key): fence for c in consumers for key, fence in c.fences.items()}
        for (name, category, partition), fence in ours.items():
            fences.add_metric([name, category, str(partition)], fence)
        for lag in self._lags:
            if (lag.consumer, lag.category, lag.partition) in ours:
                labels = [lag.consumer, lag.category, str(lag.partition)]
                events.add_metric(labels, lag.events)
                seconds.add_metric(labels, lag.seconds)
        yield from (fences, events, seconds)

    def _of_letters(self) -> Iterator[Metric]:
        labels = ["consumer", "state"]
        letters = GaugeMetricFamily(
            "bizos_dead_letters", "Dead letters in the service's database: every process says the same.", None, labels
        )
        oldest = GaugeMetricFamily("bizos_dead_letters_oldest_seconds", "Age of the oldest of them.", None, labels)
        for each in self._letters:
            letters.add_metric([each.consumer, each.state], each.letters)
            oldest.add_metric([each.consumer, each.state], (now() - each.oldest).total_seconds())
        yield from (letters, oldest)

    def _of_log(self) -> Iterator[Metric]:
        log = self._store.category
        appended = CounterMetricFamily(
            "bizos_store_events_appended", "Events this process has recorded.", None, ["category"]
        )
        conflicts = CounterMetricFamily(
            "bizos_store_append_conflicts", "Appends refused because the stream had moved on.", None, ["category"]
        )
        appended.add_metric([log], self._store.recorded)
        conflicts.add_metric([log], self._store.conflicts)
        yield from (appended, conflicts)
        if self.relay is None:
            return
        sent = CounterMetricFamily("bizos_relay_events_sent", "Events this process has relayed.", None, ["category"])
        behind = GaugeMetricFamily(
            "bizos_relay_events_behind", "Events that Redis does not have yet.", None, ["category"]
        )
        seconds = GaugeMetricFamily("bizos_relay_seconds_behind", "Age of the oldest of them.", None, ["category"])
        failing = GaugeMetricFamily(
            "bizos_relay_failing_seconds", "For how long relaying has failed.", None, ["category"]
        )
        sent.add_metric([log], self.relay.sent)
        behind.add_metric([log], self._unsent[0])
        seconds.add_metric([log], self._unsent[1])
        since = self.relay.failing_since
        failing.add_metric([log], time.monotonic() - since if since else 0.0)
        yield from (sent, behind, seconds, failing)
