"""Database migrations, run at start under a lock: Alembic over a package's `migrations` folder."""

from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit, urlunsplit

from alembic import command
from alembic.config import Config
from alembic.script.revision import ResolutionError
from alembic.util.exc import CommandError
from sqlalchemy import create_engine, text

from . import migrations as event_log

# One number for all: whoever migrates a database first makes the others wait.
LOCK = 0x62697A6F73


class NewerDatabaseError(Exception):
    """The database is at a revision that this code does not know."""


def migrate(database_url: str, *packages: ModuleType) -> None:
    """Bring a database to the newest revision: the event log first, then each package's `migrations`.

    Processes that start together wait for each other. Blocking: call it in a
    thread. Raises sqlalchemy.exc.OperationalError when the database is away, NewerDatabaseError.
    """
    engine = create_engine(_sqlalchemy(database_url), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as guard:
            guard.execute(text("select pg_advisory_lock(:lock)"), {"lock": LOCK})
            try:
                for package in (event_log, *packages):
                    _upgrade(database_url, package)
            finally:
                guard.execute(text("select pg_advisory_unlock(:lock)"), {"lock": LOCK})
    finally:
        engine.dispose()


def _upgrade(database_url: str, package: ModuleType) -> None:
    folder = Path(str(package.__file__)).parent
    config = Config()
    config.set_main_option("script_location", str(Path(str(event_log.__file__)).parent))
    config.set_main_option("version_locations", str(folder / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = _sqlalchemy(database_url)
    config.attributes["version_table"] = f"revision_of_{package.__name__.split('.')[0]}"
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        raise NewerDatabaseError(
            f"the database was written by a newer version ({error}): start that version, or restore a backup from before it"
        ) from error


def _sqlalchemy(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+psycopg"))
