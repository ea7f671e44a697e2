"""The whole platform on this machine: servers, services, and what keeps them running."""

import fcntl
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import httpx
from dotenv import dotenv_values

from bizosaas_sandbox.servers.base import Server, ServerError
from bizosaas_sandbox.servers.binaries import Binary
from bizosaas_sandbox.servers.children import answers, free_port
from bizosaas_sandbox.servers.postgres import Postgres
from bizosaas_sandbox.servers.process import ProcessServer
from bizosaas_sandbox.servers.redis import Redis
from bizosaas_sandbox.servers.redis_cluster import RedisCluster
from bizosaas_sandbox.servers.temporal import Temporal

from .keys import AUDIT_SIGNING_KEY, SEALED_TO, load_or_make, variable

SERVICES = ("tenant-svc", "connector-svc", "secret-svc", "agent-svc", "workflow-svc", "audit-svc", "gateway")
PUBLIC_KEYS = {"gateway": SEALED_TO, "connector-svc": ("secret-svc",)}
"""Which service seals to which."""

PRIVATE = ("redis", "temporal", "services")
"""Folders with what people wrote and vendors answered. PostgreSQL closes its own, which another user may have to reach."""

Say = Callable[[str], None]


class CannotStartError(Exception):
    """Something about this machine is not as it must be; the message says what to do."""


class AlreadyRunningError(CannotStartError):
    """The platform, or something else, is where this one wants to be."""


class ServiceProcess(ProcessServer):
    """One of our services as a child process, ready when `/readyz` says so."""

    name: ClassVar[str] = "service"
    grace: ClassVar[float] = 30.0
    """As in Kubernetes: longer than commands and requests in hand may take to be finished."""

    def __init__(
        self, service: str, data: Path, *, settings: Mapping[str, str], port: int, timeout: float = 90
    ) -> None:
        super().__init__(data, port=port, timeout=timeout)
        self.name = service  # type: ignore[misc]  # one class for seven services: the name belongs to the instance
        self.settings = settings

    def find(self) -> Binary:
        return Binary(path=Path(sys.executable), version="this", source="this environment")

    def command(self) -> list[str | Path]:
        return [self.binary.path, "-m", self.name.replace("-", "_")]

    def environment(self) -> Mapping[str, str]:
        listens = "BIZOS_HTTP_PORT" if self.name == "gateway" else "BIZOS_HEALTH_PORT"
        return {**super().environment(), **self.settings, listens: str(self.port)}

    def ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Machine:
    """The platform in one data folder. `start` returns when everything answers; `stop` drains and ends everything.

    A service that ends by itself is started again. `extra` are settings for all
    services, such as those of an OAuth vendor; `.env` of the working directory
    comes before them and after what is generated.
    """

    data: Path
    say: Say
    port: int = 8000
    temporal_ui_port: int = 8233
    extra: Mapping[str, str] = field(default_factory=dict)
    redis: type[Redis] | type[RedisCluster] = Redis
    servers: list[Server] = field(default_factory=list)
    services: dict[str, ServiceProcess] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.data = self.data.absolute()
        self._lock: IO[str] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start all of it. Raises AlreadyRunningError or ServerError; what was started by then is stopped again."""
        self._claim()
        try:
            self._start_servers()
            self._start_services()
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._watcher.start()
        return self

    def stop(self) -> None:
        """Let every service drain, then end the servers they need."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join(timeout=30)
        enders = [threading.Thread(target=service.stop) for service in self.services.values()]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        for server in reversed(self.servers):
            server.stop()
        (self.data / "run.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _claim(self) -> None:
        if self.port == self.temporal_ui_port:
            raise CannotStartError(f"--port and --temporal-port are both {self.port}: choose two.")
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self._lock = (self.data / "lock").open("a+")
        except OSError as error:
            raise CannotStartError(
                f"{self.data} cannot be written ({error.strerror}): choose another folder with --data."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "another process"
            self._lock.close()
            self._lock = None
            raise AlreadyRunningError(
                f"The platform already runs on {self.data} (process {owner}): stop it with Ctrl-C there, "
                "or choose another folder with --data."
            ) from error
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        for port, option in ((self.port, "--port"), (self.temporal_ui_port, "--temporal-port")):
            if answers(port):
                self._lock.close()
                self._lock = None
                raise AlreadyRunningError(f"Port {port} is in use by another program: choose another with {option}.")

    def _start_servers(self) -> None:
        for folder in PRIVATE:
            (self.data / folder).mkdir(exist_ok=True)
            (self.data / folder).chmod(0o700)
        self.keys = self._readable(self.data / "keys.env", load_or_make)
        postgres = Postgres(self.data / "postgres", say=self.say, settings={"max_connections": "200"})
        redis = self.redis(self.data / "redis", say=self.say)
        temporal = Temporal(self.data / "temporal", say=self.say, ui_port=self.temporal_ui_port)
        servers: tuple[Server, ...] = (postgres, redis, temporal)
        for server in servers:
            self.servers.append(server)
            server.start()
        for service in SERVICES:
            self.services[service] = ServiceProcess(
                service,
                self.data / "services" / service,
                port=self.port if service == "gateway" else free_port(),
                settings=self._settings(service, postgres, redis, temporal),
            )

    def _settings(
        self, service: str, postgres: Postgres, redis: Redis | RedisCluster, temporal: Temporal
    ) -> dict[str, str]:
        settings = {
            "BIZOS_REDIS_URL": redis.url,
            "BIZOS_DATABASE_URL": postgres.create_database(service.replace("-", "_"), password=self._password(service)),
            "BIZOS_COMMAND_IDLE_MS": "2000",
            "BIZOS_ALLOW_PRIVATE_ADDRESSES": "true",
            "BIZOS_SECRET_BACKEND": "env",
            "BIZOS_SECRET_STORE_PATH": str(self.data / "secrets.json"),
            "BIZOS_TEMPORAL_ADDRESS": temporal.url,
            "BIZOS_TEMPORAL_NAMESPACE": temporal.namespace,
            "BIZOS_MODEL_DRIVER": "scripted",
            "BIZOS_PUBLIC_URL": self.url,
            "BIZOS_HEADS_PATH": str(self.data / "heads.ndjson"),
        }
        mine = _needed_by(service, self.keys)
        settings |= (
            mine | {k: v for k, v in dotenv_values(".env").items() if v and k.startswith("BIZOS_")} | dict(self.extra)
        )
        if service in SEALED_TO:
            settings["BIZOS_SEALING_KEY"] = self.keys[variable(service, "SEALING_KEY")]
        return settings

    def _password(self, service: str) -> str:
        name = variable(service, "DATABASE_PASSWORD")
        path = self.data / "databases.json"
        kept = self._readable(path, lambda path: json.loads(path.read_text())) if path.exists() else {}
        if name not in kept:
            kept[name] = secrets.token_urlsafe(18)
            path.touch(mode=0o600)
            path.write_text(json.dumps(kept))
        return kept[name]

    def _readable(self, path: Path, read: Callable[[Path], dict[str, str]]) -> dict[str, str]:
        try:
            return read(path)
        except ValueError as error:
            raise CannotStartError(
                f"{path} was changed and cannot be read any more: put it back as it was, or move the whole folder "
                f"{self.data} away to begin with an empty one."
            ) from error

    def _start_services(self) -> None:
        """All at once: each waits by itself for what it needs."""
        began = time.monotonic()
        failures: list[ServerError] = []

        def begin(service: ServiceProcess) -> None:
            try:
                service.start()
                self.say(f"{service.name} is ready after {time.monotonic() - began:.1f} s")
            except ServerError as error:
                failures.append(error)

        starters = [threading.Thread(target=begin, args=(service,)) for service in self.services.values()]
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join()
        if failures:
            raise failures[0]
        self._note()

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            for name, service in self.services.items():
                if service.running or self._stopping.is_set():
                    continue
                self.restarts[name] = self.restarts.get(name, 0) + 1
                self.say(f"{name} ended and is started again")
                try:
                    service.start()
                    self._note()
                except ServerError as error:
                    self.say(str(error))
                    self._stopping.wait(min(2.0 ** self.restarts[name], 30))

    def _note(self) -> None:
        """What `bizos status` reads."""
        note: dict[str, Any] = {
            "process": os.getpid(),
            "url": self.url,
            "temporal": f"http://127.0.0.1:{self.temporal_ui_port}",
            "servers": [
                {"name": s.name, "version": s.version, "source": s.source, "url": _public(s)} for s in self.servers
            ],
            "services": [{"name": s.name, "url": s.url, "pid": s.pid} for s in self.services.values()],
        }
        (self.data / "run.json").write_text(json.dumps(note, indent=1))


def _public(server: Server) -> str:
    """A server's address without the password in it."""
    scheme, _, rest = server.url.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest


def _needed_by(service: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Each service sees the keys it needs and no other."""
    wanted = {variable(other, "PUBLIC_KEY") for other in PUBLIC_KEYS.get(service, ())}
    if service == "secret-svc":
        wanted.add("BIZOS_SECRET_MASTER_KEY")
    if service == "audit-svc":
        wanted.add(AUDIT_SIGNING_KEY)
    if service == "tenant-svc":
        wanted |= {"BIZOS_PERSONAL_MASTER_KEY", "BIZOS_ADMIN_EMAIL", "BIZOS_ADMIN_PASSWORD"}
    return {name: value for name, value in keys.items() if name in wanted}
