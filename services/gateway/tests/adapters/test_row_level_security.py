"""What keeps tenants apart is in the database: SQL of the same role sees no more than the gateway does."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from bizosaas_events import Envelope, messages, new_id
from bizosaas_events.envelope import now
from bizosaas_events.messages.agent import AgentPublished
from bizosaas_events.messages.connector import ConnectionRequested
from bizosaas_events.projecting import Projector
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import open_pool
from gateway.adapters import migrations
from gateway.adapters.views import PostgresViews
from gateway.handlers.projections import ReadModel


def an_envelope(event: Any, stream: str, tenant: str, version: int = 1, sequence: int = 1) -> Envelope:
    codec, id = messages.codec(), new_id()
    return Envelope(
        id=id, source="s", type=event.__struct_config__.tag, subject=stream, time=now(), tenantid=tenant,
        actorid="member:a", actorrole="tenant_admin", correlationid=id, causationid=id, partition=0,
        sequence=sequence, streamversion=version, data=codec.encode(event),
    )  # fmt: skip


def requested(id: str, label: str = "Blog") -> ConnectionRequested:
    return ConnectionRequested(connection_id=id, connector="wordpress", label=label, settings={}, method="credentials")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    """A connection of the gateway's own role, with something of two tenants and a published agent."""
    migrate(database_url, migrations)
    connection = await asyncpg.connect(database_url)
    await connection.execute("set search_path = gateway_1, public")
    agent = AgentPublished(
        agent_id="writer", version=1, name="W", category="c", goal="g", tier="t", tools=[], output="o", digest="d"
    )
    batch = [
        an_envelope(requested("a"), "connection-a", "acme"),
        an_envelope(requested("e"), "connection-e", "evil"),
        an_envelope(agent, "agent-writer", "platform"),
    ]
    async with connection.transaction():
        await ReadModel(messages.codec(), messages.views()).apply(connection, batch)
    yield connection
    await connection.close()


async def rows(connection: Any, table: str, tenant: str | None) -> set[str]:
    async with connection.transaction():
        if tenant is not None:
            await connection.execute("select set_config('app.tenant', $1, true)", tenant)
        return {row[0] for row in await connection.fetch(f"select tenant from {table}")}


@pytest.mark.parametrize("table", ["view", "feed", "feed_counter"])
async def test_without_a_tenant_nothing_is_visible(connection: Any, table: str) -> None:
    assert await rows(connection, table, None) == set()
    assert await rows(connection, table, "") == set()


@pytest.mark.parametrize("table", ["feed", "feed_counter"])
async def test_a_tenant_sees_its_own_and_nothing_else(connection: Any, table: str) -> None:
    assert await rows(connection, table, "acme") == {"acme"}
    assert await rows(connection, table, "*") == {"acme", "evil", "platform"}


async def test_a_tenant_sees_its_own_objects_and_the_published_agents(connection: Any) -> None:
    assert await rows(connection, "view", "acme") == {"acme", "platform"}
    assert await rows(connection, "view", "nobody") == {"platform"}


async def test_a_read_is_one_tenants_and_leaves_nothing_of_it_on_the_connection(
    connection: Any, database_url: str
) -> None:
    read_model = cast(Projector, SimpleNamespace(reading=SimpleNamespace(schema="gateway_1")))
    async with open_pool(database_url, min_size=1, max_size=1) as pool:
        views = PostgresViews(pool, read_model)
        assert await views.one("acme", "connection", "a") is not None
        assert await views.one("acme", "connection", "e") is None
        assert await views.one("*", "connection", "e") is not None
        assert await pool.fetch("select id from gateway_1.view") == []


async def test_a_tenant_cannot_write(connection: Any) -> None:
    writing = "insert into view values ('connection', 'x', 'acme', 1, '{}', now(), now())"
    await connection.execute("select set_config('app.tenant', 'acme', false)")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(writing)
    assert await connection.execute("update view set version = 9") == "UPDATE 0"
    assert await connection.execute("delete from view") == "DELETE 0"
