"""Databases and roles of a Postgres, whichever way that Postgres was started."""

import re
import secrets
from abc import ABC, abstractmethod
from urllib.parse import quote

SUPERUSER = "postgres"
NAME = re.compile(r"[a-z_][a-z0-9_-]{0,62}")


class PostgresDatabases(ABC):
    """One database and one role per service, made by the superuser over `execute`."""

    @property
    @abstractmethod
    def version(self) -> str: ...

    @property
    @abstractmethod
    def port(self) -> int: ...

    @property
    @abstractmethod
    def superuser_password(self) -> str: ...

    @abstractmethod
    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run statements as the superuser with psql and return what it prints; ServerError when one fails."""

    def admin_url(self, database: str = "postgres") -> str:
        """Where the superuser connects: for making databases and for looking, never for a service."""
        return self.role_url(SUPERUSER, self.superuser_password, database)

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
        if int(self.version.split(".")[0]) < 15:  # before, `public` was the superuser's and open to everybody
            self.execute(f"ALTER SCHEMA public OWNER TO {owner}; REVOKE CREATE ON SCHEMA public FROM PUBLIC;", name)
        return self.role_url(role, password, name)

    def copy_database(self, name: str, template: str, role: str, password: str) -> str:
        """A new database with the content of another one, to which nobody may be connected meanwhile."""
        database = _identifier(name)
        # Without the detour through the write-ahead log, which is the default, it takes a quarter less (measured).
        copied = "STRATEGY FILE_COPY" if int(self.version.split(".")[0]) >= 15 else ""
        self.execute(
            f"CREATE DATABASE {database} TEMPLATE {_identifier(template)} OWNER {_identifier(role)} {copied};\n"
            f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;\n"
        )
        return self.role_url(role, password, name)

    def drop_database(self, name: str) -> None:
        """Remove the database; whoever is still connected is disconnected."""
        self.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE);\n")

    def role_url(self, role: str, password: str, database: str) -> str:
        who = quote(role, safe="") + (f":{quote(password, safe='')}" if password else "")
        return f"postgresql://{who}@127.0.0.1:{self.port}/{quote(database, safe='')}"


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
