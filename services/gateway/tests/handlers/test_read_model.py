"""Events become views and feeds."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from bizosaas_events import Envelope, messages, new_id
from bizosaas_events.envelope import now
from bizosaas_events.messages.connector import ConnectionEstablished, ConnectionRenamed, ConnectionRequested
from bizosaas_events.messages.tenant import MemberAdded
from bizosaas_events.store.migrating import migrate
from gateway.adapters import migrations
from gateway.adapters.views import TABLES
from gateway.handlers.projections import _KNOWN, ReadModel, storable


def an_envelope(event: Any, stream: str, version: int = 1, type_: str = "") -> Envelope:
    id = new_id()
    return Envelope(
        id=id, source="s", type=type_ or event.__struct_config__.tag, subject=stream, time=now(), tenantid="acme",
        actorid="member:ada", actorrole="tenant_admin", correlationid=id, causationid=id, partition=0,
        sequence=version, streamversion=version, data=messages.codec().encode(event),
    )  # fmt: skip


ASKED = ConnectionRequested(connection_id="c", connector="wordpress", label="Blog", settings={}, method="credentials")
WORKS = ConnectionEstablished(connection_id="c", secret_id="s", secret_version=1, fingerprint="f", account="admin")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    migrate(database_url, migrations)
    connection = await asyncpg.connect(database_url)
    await connection.execute("select set_config('app.tenant', '*', false)")
    await connection.execute("set search_path = gateway_1, public")
    yield connection
    await connection.close()


async def apply(connection: Any, *envelopes: Envelope) -> None:
    async with connection.transaction():
        await ReadModel(messages.codec(), messages.views()).apply(connection, envelopes)
    await connection.execute("select set_config('app.tenant', '*', false)")


async def state(connection: Any, kind: str = "connection", id: str = "c") -> dict[str, Any]:
    row = await connection.fetchrow("select version, state::text from view where kind = $1 and id = $2", kind, id)
    return {"version": row[0], **msgspec.json.decode(row[1])}


async def test_a_view_is_folded_within_a_batch_and_across_batches(connection: Any) -> None:
    await apply(connection, an_envelope(ASKED, "connection-c"), an_envelope(WORKS, "connection-c", 2))
    await apply(connection, an_envelope(ConnectionRenamed(connection_id="c", label="New"), "connection-c", 3))

    found = await state(connection)
    assert (found["version"], found["status"], found["label"]) == (3, "connected", "New")


async def test_a_view_of_a_kind_that_the_gateway_has_no_word_of_needs_nothing(connection: Any) -> None:
    kinds = set(messages.views())

    assert {"connection", "run", "approval", "tenant"} <= kinds
    source = __import__("inspect").getsource(ReadModel)
    assert not [kind for kind in kinds if f'"{kind}"' in source]


async def test_the_feed_is_numbered_without_gaps_and_says_who_in_words(connection: Any) -> None:
    ada = MemberAdded(member_id="ada", tenant_id="acme", email="a@b.c", name="Ada Admin", role="tenant_admin")
    await apply(connection, an_envelope(ada, "member-ada"))
    await apply(connection, an_envelope(ASKED, "connection-c"), an_envelope(WORKS, "connection-c", 2))

    rows = await connection.fetch("select number, words from feed where tenant = 'acme' order by number")

    assert [row[0] for row in rows] == [1, 2, 3]
    assert rows[1][1] == "Ada Admin asked to connect wordpress as “Blog”"


async def test_an_event_of_a_newer_service_moves_the_version_and_holds_nothing_up(connection: Any) -> None:
    newer = an_envelope(ASKED, "connection-c", 2, type_="connector.connection.polished.v1")

    await apply(connection, an_envelope(ASKED, "connection-c"), newer)

    assert (await state(connection))["version"] == 2
    assert await connection.fetchval("select count(*) from feed") == 2


async def test_a_nul_in_some_vendors_text_holds_nothing_up(connection: Any) -> None:
    odd = msgspec.structs.replace(ASKED, label="a\0b", settings={"path": "C:\\u0000"})

    await apply(connection, an_envelope(odd, "connection-c"))

    found = await state(connection)
    assert found["label"] == "a\ufffdb"
    assert found["settings"] == {"path": "C:\\u0000"}
    assert "\\u0000" in storable(odd)


async def test_what_another_version_has_told_is_not_told_again(connection: Any) -> None:
    events = [an_envelope(ASKED, "connection-c"), an_envelope(WORKS, "connection-c", 2)]
    await apply(connection, *events)
    told = await connection.fetch("select * from feed order by number")
    await connection.execute("create schema gateway_2; set search_path = gateway_2, public")
    await connection.execute(TABLES)

    await apply(connection, *events)
    await apply(connection, an_envelope(ConnectionRenamed(connection_id="c", label="New"), "connection-c", 3))

    assert (await state(connection))["version"] == 3, "the other version's view is all there"
    now_told = await connection.fetch("select * from feed order by number")
    assert now_told[:2] == told
    assert [row["number"] for row in now_told] == [1, 2, 3]


async def test_what_was_known_is_looked_up_by_key_in_a_table_that_postgresql_takes_for_empty(connection: Any) -> None:
    """A plan that was made when the table was empty is kept while it grows: it must not be to read all of it."""
    await connection.execute(f"prepare known as {_KNOWN}")
    await connection.execute("set plan_cache_mode = force_generic_plan")
    asked = "execute known(array['tenant'], array['t7'], array[gen_random_uuid()])"
    await connection.fetch(asked)
    await connection.execute(
        "insert into view select 'tenant', 't' || n, 'acme', 1, '{}', now(), now() from generate_series(1, 3000) n"
    )

    plan = "\n".join(row[0] for row in await connection.fetch(f"explain {asked}"))

    assert "Seq Scan on view" not in plan
    assert "Seq Scan on feed" not in plan
    assert [row["id"] for row in await connection.fetch(asked)] == ["t7"]
