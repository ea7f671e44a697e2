"""The ledger, in memory and in PostgreSQL; and the read model of connections."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from agent_svc.adapters import migrations
from agent_svc.adapters.connections import PostgresConnections
from agent_svc.adapters.ledger import PostgresLedger
from agent_svc.adapters.memory import MemoryLedger
from agent_svc.domain.ports import Kept, Ledger, Step
from agent_svc.handlers.projections import project_connections
from agent_svc.testing import a_context
from bizosaas_events import Event, messages
from bizosaas_events.envelope import Envelope
from bizosaas_events.messages.connector import ConnectionClosed, ConnectionEstablished, ConnectionRequested
from bizosaas_events.store.base import Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.store.migrating import migrate


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    await asyncio.to_thread(migrate, database_url, migrations)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
        yield pool


@pytest.fixture(params=["memory", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return MemoryLedger() if request.param == "memory" else PostgresLedger(request.getfixturevalue("pool"))


def a_step(n: int, kind: str = "tool", payload: bytes = b'{"a":1}') -> Step:
    return msgspec.convert(
        {"n": n, "kind": kind, "name": "cms.list_content", "digest": f"d{n}", "payload": payload}, Step
    )


async def test_steps_are_kept_in_order_and_for_each_run_alone(ledger: Ledger) -> None:
    steps = [a_step(0, "model"), a_step(1), a_step(2, "model")]
    for step in steps:
        assert await ledger.record("r1", step) == step
    await ledger.record("r2", a_step(0))

    assert await ledger.steps("r1") == steps
    assert await ledger.steps("r3") == []


async def test_the_first_of_two_that_record_a_step_wins_and_both_get_it(ledger: Ledger) -> None:
    first, second = a_step(0, payload=b"first"), a_step(0, payload=b"second")

    kept = await asyncio.gather(ledger.record("r1", first), ledger.record("r1", second))

    assert kept[0] == kept[1]
    assert await ledger.steps("r1") == [kept[0]]


async def test_scrubbing_forgets_what_tools_gave_and_nothing_else(ledger: Ledger) -> None:
    for step in (a_step(0, "model"), a_step(1)):
        await ledger.record("r1", step)

    await ledger.scrub("r1")
    await ledger.scrub("r1")

    assert await ledger.steps("r1") == [a_step(0, "model"), a_step(1, payload=b"")]


async def test_the_first_output_is_kept(ledger: Ledger) -> None:
    first = Kept(output=msgspec.Raw(b'{"t":1}'), output_type="Draft", steps=1, tokens_in=2, tokens_out=3)
    second = msgspec.structs.replace(first, steps=9)

    assert await ledger.output("r1") is None
    assert (await ledger.keep_output("r1", first)).steps == 1
    assert (await ledger.keep_output("r1", second)).steps == 1
    found = await ledger.output("r1")
    assert found is not None
    assert bytes(found.output) == b'{"t":1}'


async def test_what_tools_gave_to_runs_that_nobody_finished_is_forgotten_in_time(pool: "asyncpg.Pool[Any]") -> None:
    ledger = PostgresLedger(pool)
    await ledger.record("old", a_step(0))
    await pool.execute("update run_step set at = now() - interval '25 hours'")
    await ledger.record("new", a_step(0))

    assert await ledger.scrub_abandoned(24) == 1

    assert (await ledger.steps("old"))[0].payload == b""
    assert (await ledger.steps("new"))[0].payload


REQUESTED = ConnectionRequested(
    connection_id="wp", connector="wordpress", label="Blog", settings={}, method="credentials"
)
ESTABLISHED = ConnectionEstablished(
    connection_id="wp", secret_id="s", secret_version=1, fingerprint="f", account="ann", operations=["cms.list_content"]
)


async def recorded(*events: Event) -> list[Envelope]:
    store = MemoryEventStore(messages.codec(), category="connector", source="connector-svc")
    return await store.append([Write("connection-wp", 0, events)], a_context("acme"))


async def project(pool: "asyncpg.Pool[Any]", *envelopes: Envelope) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("set local search_path = agent_connections_1")
        await project_connections(connection, envelopes)


async def test_connections_are_known_with_what_they_offer_until_they_are_closed(pool: "asyncpg.Pool[Any]") -> None:
    connections = PostgresConnections(pool, lambda: "agent_connections_1")
    *before, closed = await recorded(REQUESTED, ESTABLISHED, ConnectionClosed(connection_id="wp"))
    stranger = msgspec.structs.replace(before[0], type="connector.connection.invented.v9")

    await project(pool, *before, stranger)

    (found,) = await connections.of("acme")
    assert (found.id, found.status, found.operations) == ("wp", "connected", ["cms.list_content"])
    assert await connections.of("other") == []

    await project(pool, closed)
    assert await connections.of("acme") == []
