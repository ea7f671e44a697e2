"""The whole platform for tests of journeys."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from typer.testing import CliRunner, Result

from bizosaas_events.bus.connecting import connect
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.oidc import OidcProvider
from bizosaas_sandbox.servers.redis import Redis
from bizosaas_sandbox.servers.redis_cluster import RedisCluster
from bizosaas_sandbox.servers.wordpress import WordPress, WordPressStandIn, start_wordpress

from .demo import vendor_settings
from .machine import SERVICES, Machine
from .main import app
from .stage import World
from .story import Story

ON_A_CLUSTER = "BIZOS_TEST_REDIS_CLUSTER"
"""With this at 1, the journeys run on a Redis Cluster; those that kill the one Redis have none to kill then."""


@dataclass(frozen=True)
class Platform:
    """A running platform, with a CMS and an OAuth vendor beside it."""

    machine: Machine
    blog: WordPress | WordPressStandIn
    vendor: OidcProvider

    def story(self) -> Story:
        """A story to play; each makes a tenant of its own."""
        kill = self.machine.services["connector-svc"].kill
        return Story(World(self.machine.url, self.machine.keys, self.blog, self.vendor, kill))


class Operator:
    """The first admin of a running platform, at the command line."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def run(self, *arguments: str) -> Result:
        keys = self.platform.machine.keys
        where = ["--url", self.platform.machine.url, "--email", keys["BIZOS_ADMIN_EMAIL"]]
        return CliRunner().invoke(app, [*arguments, *where], env={"BIZOS_PASSWORD": keys["BIZOS_ADMIN_PASSWORD"]})

    def done(self, *arguments: str) -> str:
        told = self.run(*arguments)
        assert told.exit_code == 0, told.output
        return told.stdout

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.done(*arguments, "--format", "json"))
        return rows


@contextmanager
def running_platform(folder: Path) -> Iterator[Platform]:
    """Start all of it on free ports, and stop it. Raises the sandbox's UnavailableError where there is no vendor."""
    port = free_port()
    callback = f"http://127.0.0.1:{port}/v1/oauth/callback"
    with OidcProvider(folder / "vendor", access_token_ttl=2, redirect_uris=[callback]) as vendor:
        # Heads are signed often, since nobody wants to wait for them here.
        settings = vendor_settings(vendor) | {"BIZOS_HEADS_SECONDS": "2"}
        redis = RedisCluster if os.environ.get(ON_A_CLUSTER) == "1" else Redis
        machine = Machine(
            folder, lambda text: None, port=port, temporal_ui_port=free_port(), extra=settings, redis=redis
        )
        with machine, start_wordpress(folder) as blog:
            yield Platform(machine, blog, vendor)


def eventually(look: Callable[[], Any], seconds: float = 30) -> Any:
    """What `look` finds as soon as it is true, or at last."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found or time.monotonic() > end:
            return found
        time.sleep(0.2)


async def everything_in_postgres(platform: Platform) -> dict[str, str]:
    """Every value of every table of every service, by service and table, as text; bytes as the text they hold."""
    found: dict[str, str] = {}
    for service in SERVICES:
        connection = await asyncpg.connect(platform.machine.services[service].settings["BIZOS_DATABASE_URL"])
        try:
            # The gateway's tables show nothing to who does not say for which tenant, their owner included.
            await connection.execute("select set_config('app.tenant', '*', false)")
            tables = await connection.fetch(
                "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
            )
            for schema, table in tables:
                rows = await connection.fetch(f'select * from "{schema}"."{table}"')
                found[f"{service} {schema}.{table}"] = "\n".join(_text_of(value) for row in rows for value in row)
        finally:
            await connection.close()
    return found


async def everything_in_redis(platform: Platform) -> str:
    """Every value of every key, as text."""
    redis: Any = connect(platform.machine.servers[1].url)
    parts: list[str] = []
    async for key in redis.scan_iter(count=1000):
        match await redis.type(key):
            case b"stream":
                value = [each for _, fields in await redis.xrange(key) for each in fields.values()]
            case b"string":
                value = [await redis.get(key) or b""]
            case b"hash":
                value = [each for pair in (await redis.hgetall(key)).items() for each in pair]
            case b"none":
                continue  # its time had come
            case other:
                raise AssertionError(f"{key} is a {other}, which nobody looks into yet")
        parts += map(_text_of, [key, *value])
    await redis.aclose()
    return "\n".join(parts)


def logs_of(platform: Platform) -> str:
    """What all services logged."""
    return "\n".join(service.log.read_text(errors="replace") for service in platform.machine.services.values())


def _text_of(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
