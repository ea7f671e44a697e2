"""Postgres and Redis in containers by testcontainers, where a container engine is there.

testcontainers belongs to the development group, so it is imported only when containers are wanted.
"""

import functools
import gc
import os
import time
import warnings
from contextlib import ExitStack
from typing import Self

from bizosaas_sandbox.servers.base import ServerError
from bizosaas_sandbox.servers.children import answers
from bizosaas_sandbox.servers.databases import SUPERUSER, PostgresDatabases
from bizosaas_sandbox.servers.postgres import THROW_AWAY

WANTED = "BIZOS_TEST_CONTAINERS"
POSTGRES_IMAGE = "postgres:17-alpine"
REDIS_IMAGE = "redis:7.4-alpine"
READY_WITHIN = 90.0


@functools.cache
def wanted() -> bool:
    """Whether an engine answers that has the images or can fetch them. `BIZOS_TEST_CONTAINERS=0` does without."""
    if os.environ.get(WANTED) == "0":
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker-py leaves its socket open where nobody answers
        there = _an_engine_has_the_images()
        gc.collect()
    return there


def _an_engine_has_the_images() -> bool:
    try:
        import docker  # type: ignore[import-untyped]  # it ships no types
        from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]  # as above
    except ImportError:
        return False
    with ExitStack() as closing:
        try:
            client = docker.from_env()
            closing.callback(client.close)
            for image in (POSTGRES_IMAGE, REDIS_IMAGE):
                try:
                    client.images.get(image)
                except ImageNotFound:
                    client.images.pull(image)
        except DockerException:
            return False
    return True


class _Container:
    """What the two have in common. The container is thrown away, with its data, when it is stopped."""

    name: str
    image: str
    inside: int
    source = "container"

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer

        self._container = DockerContainer(self.image).with_exposed_ports(self.inside)
        self._running = False

    @property
    def version(self) -> str:
        return self.image.split(":")[1].split("-")[0]

    @property
    def port(self) -> int:
        return int(self._container.get_exposed_port(self.inside))

    def start(self) -> Self:
        if not self._running:
            self._container.start()
            self._running = True
            deadline = time.monotonic() + READY_WITHIN
            while not self._ready():
                if time.monotonic() > deadline:
                    log = b"\n".join(self._container.get_logs()).decode(errors="replace")
                    self.stop()
                    raise ServerError(self.name, f"did not answer within {READY_WITHIN:g} seconds", log[-2000:])
                time.sleep(0.1)
        return self

    def stop(self) -> None:
        if self._running:
            self._running = False
            self._container.stop()

    def _ready(self) -> bool:
        return answers(self.port)


class PostgresContainer(_Container, PostgresDatabases):
    """A Postgres in a container, with the same operations on databases as the child process."""

    name = "PostgreSQL"
    image = POSTGRES_IMAGE
    inside = 5432
    superuser_password = "thrown-away-with-the-container"

    def __init__(self) -> None:
        super().__init__()
        self._container.with_env("POSTGRES_PASSWORD", self.superuser_password)
        self._container.with_command(" ".join(["postgres", *(f"-c {k}={v}" for k, v in THROW_AWAY.items())]))

    @property
    def url(self) -> str:
        return self.admin_url()

    def execute(self, sql: str, database: str = "postgres") -> str:
        # By TCP, where the image listens only once it has finished setting itself up.
        psql = f'printf %s "$SQL" | psql -XqAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -U {SUPERUSER} -d "$DATABASE"'
        code, (out, err) = self._container.get_wrapped_container().exec_run(
            ["sh", "-c", psql],
            environment={"SQL": sql, "DATABASE": database, "PGPASSWORD": self.superuser_password},
            demux=True,
        )
        if code:
            raise ServerError(self.name, (err or b"").decode().strip())
        return (out or b"").decode().strip()

    def _ready(self) -> bool:
        try:
            return self.execute("SELECT 1") == "1" and answers(self.port)
        except ServerError:
            return False


class RedisContainer(_Container):
    """A Redis in a container."""

    name = "Redis"
    image = REDIS_IMAGE
    inside = 6379

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
