"""A gateway that really runs: on granian, PostgreSQL and Redis, the other services played on the streams."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bizosaas_events.store.migrating import migrate
from bizosaas_sandbox.servers.children import free_port
from gateway.adapters import migrations
from gateway.app.settings import Settings
from gateway.testing import World, running, some_settings


@pytest.fixture
def migrated_url(new_database: Any, database_template: Any) -> str:
    """A database of this test alone, with the gateway's tables."""
    template = database_template("gateway", lambda url: migrate(url, migrations))
    url: str = new_database(template=template)
    return url


@pytest.fixture
def settings_of(migrated_url: str, redis_url: str, env_name: str) -> Callable[..., Settings]:
    """Settings on this test's servers; others by name."""

    def build(**other: Any) -> Settings:
        where: dict[str, Any] = {
            "database_url": migrated_url,
            "redis_url": redis_url,
            "env": env_name,
            "port": free_port(),
        } | other
        return some_settings(**where)

    return build


@pytest.fixture
async def world(settings_of: Callable[..., Settings]) -> AsyncIterator[World]:
    async with running(settings_of()) as world:
        yield world
