"""Migrations of a real PostgreSQL."""

import asyncio

import asyncpg

from bizosaas_events.store.migrating import migrate


async def test_processes_that_start_together_wait_for_each_other(database_url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrate, database_url) for _ in range(6)))
    connection = await asyncpg.connect(database_url)
    assert len(await connection.fetch("select version_num from revision_of_bizosaas_events")) == 1
    assert await connection.fetchval("select count(*) from event_partition") == 1024
    await connection.close()
