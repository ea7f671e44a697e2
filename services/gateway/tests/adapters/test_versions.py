"""The read model in versions: an existing database becomes the first one, and another one is built like it."""

import importlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from bizosaas_events.store.migrating import migrate
from gateway.adapters import migrations
from gateway.adapters.views import TABLES

_FIRST = importlib.import_module(f"{migrations.__name__}.versions.0001_read_model")

_CATALOGUE = {
    "columns": """select table_name, column_name, data_type, is_nullable from information_schema.columns
                  where table_schema = $1 order by 1, ordinal_position""",
    "indexes": "select replace(indexdef, $1 || '.', '') from pg_indexes where schemaname = $1 order by indexname",
    "policies": """select tablename, policyname, cmd, qual, with_check from pg_policies where schemaname = $1
                   order by 1, 2""",
    "security": """select relname, relrowsecurity, relforcerowsecurity from pg_class
                   where relnamespace = $1::regnamespace and relkind = 'r'""",
}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_the_views_of_an_existing_database_become_the_first_version(connection: Any, database_url: str) -> None:
    migrate(database_url)
    await connection.execute(_FIRST.SCHEMA)
    await connection.execute(
        """create table revision_of_gateway (version_num varchar(32) primary key);
           insert into revision_of_gateway values ('0001');
           insert into consumer_partition (consumer, category, part, position) values ('gateway', 'tenant', 3, 7);
           select set_config('app.tenant', '*', false);
           insert into view values ('connection', 'c', 'acme', 2, '{"label": "Blog"}', now(), now());
           insert into feed_counter values ('acme', 1);
           insert into feed values ('acme', 1, gen_random_uuid(), 't', 's', 1, now(), 'a', 'w', 'tenant/3@7', 'r', 'c')"""
    )

    migrate(database_url, migrations)

    (row,) = await connection.fetch("select id, version from gateway_1.view")
    assert tuple(row) == ("c", 2)
    assert await connection.fetchval("select max(number) from feed") == 1
    assert await connection.fetch("select consumer, position from consumer_partition") == [("gateway@1", 7)]
    (version,) = await connection.fetch("select number, definition, state from projection_version")
    assert tuple(version) == (1, 1, "live")


async def test_a_version_that_is_built_is_as_well_protected(connection: Any, database_url: str) -> None:
    migrate(database_url, migrations)
    await connection.execute("create schema gateway_2; set search_path = gateway_2")
    await connection.execute(TABLES)

    for what, query in _CATALOGUE.items():
        first, second = [await connection.fetch(query, schema) for schema in ("gateway_1", "gateway_2")]
        assert first, what
        assert first == second, what
