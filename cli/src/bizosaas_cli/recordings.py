"""Recordings of this platform's logs: made, and told event by event. Loaded on demand, since it brings pytest."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import msgspec

from bizosaas_events import Envelope, Event, messages
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.folding import Step, decoded
from bizosaas_events.testing.masking import PERSONAL_DATA
from bizosaas_events.testing.recording import Recording, RecordingError, record
from bizosaas_events.testing.selecting import Selection

from .keys import variable
from .machine import SERVICES
from .output import fail

KEPT = frozenset({"workflow.workflow.started.v1:name", "agent.agent.published.v1:name"})
"""Names of things in our own catalogues, which are nobody's."""
READ_ONLY = {"default_transaction_read_only": "on"}
PATTERN = "postgresql://user:password@host/database"

Row = dict[str, Any]


def read(path: Path) -> Recording:
    """A recording of our messages."""
    with _told():
        return Recording.read(path, messages.codec())


async def recorded(url: str, source: str, selection: Selection, mask: list[str]) -> Recording:
    """What a log holds of a selection; `mask` names fields to mask beside the usual ones."""
    fields = PERSONAL_DATA.fields | {field.casefold() for field in mask}
    masking = PERSONAL_DATA._replace(fields=fields, kept=KEPT)
    with _told():
        async with asyncpg.create_pool(url, min_size=1, max_size=1, server_settings=READ_ONLY) as pool:
            store = PostgresEventStore(pool, messages.codec(), category="", source="", partitions=1)
            return await record(store, selection, source=source, masking=masking)


def log_of(database: str, service: str, data: Path) -> tuple[str, str]:
    """Where a log is, and how a recording names it: without host and password."""
    if not service:
        return _database(database)
    if service not in SERVICES:
        fail(f"{service} has no log: choose one of {', '.join(SERVICES)}.")
    note = data / "run.json"
    if not note.exists():
        fail(f"Nothing runs on {data}: start it with `bizos up`, or give --database.")
    servers = {server["name"]: server["url"] for server in json.loads(note.read_text())["servers"]}
    passwords = json.loads((data / "databases.json").read_text())
    name, password = service.replace("-", "_"), quote(passwords[variable(service, "DATABASE_PASSWORD")], safe="")
    host = urlsplit(servers["PostgreSQL"]).netloc.rpartition("@")[2]
    return f"postgresql://{name}:{password}@{host}/{name}", service


def rows_of(recording: Recording) -> list[Row]:
    """Every event in words, with what it did to the public view of its object; `view` None: it has none."""
    steps = {step.number: step for step in recording.step(messages.views())}
    return [
        _row(steps.get(number) or Step(number, envelope, decoded(envelope, recording.codec), None, None))
        for number, envelope in enumerate(recording.envelopes, 1)
    ]


def words_of(event: Event | None, envelope: Envelope) -> str:
    """What happened, in one line; people by their ids, since their names are masked anyway."""
    if event is None or not event.says:
        return envelope.type
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return " ".join(event.says.format_map({**fields, "actor": envelope.actorid}).split())


def _row(step: Step) -> Row:
    envelope = step.envelope
    return {
        "step": step.number, "time": msgspec.to_builtins(envelope.time), "version": envelope.streamversion, "stream": envelope.subject,
        "type": envelope.type, "actor": envelope.actorid, "words": words_of(step.event, envelope),
        "changes": {name: {"before": a, "after": b} for name, (a, b) in msgspec.to_builtins(step.changes).items()},
        "view": msgspec.to_builtins(step.after),
    }  # fmt: skip


def _database(url: str) -> tuple[str, str]:
    if not url:
        fail("Which log? Give --database, or --service for one of this machine's platform.")
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        fail(f"--database is no address of PostgreSQL: {PATTERN}.")
    return url, f"database {parts.path.strip('/')}"


@contextmanager
def _told() -> Iterator[None]:
    """What can go wrong, in one sentence; none of these errors names the password."""
    try:
        yield
    except RecordingError as error:
        fail(str(error))
    except FileNotFoundError as error:
        fail(f"There is no file {error.filename}.")
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError):
        fail("This database holds no event log.")
    except (asyncpg.PostgresError, OSError) as error:
        fail(f"The log cannot be read: {error}")
    except ValueError:  # its text may quote a part of the address
        fail(f"--database cannot be read: {PATTERN}, with special characters as %40.")
