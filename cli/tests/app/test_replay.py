"""A part of a real log recorded, looked at and compared."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from bizosaas_cli.keys import variable
from bizosaas_cli.main import app
from bizosaas_events import Context, Event, messages
from bizosaas_events.messages.connector import ConnectionEstablished, ConnectionInterrupted, ConnectionRequested
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_sandbox.testing import PostgresServer

STREAM = "connection-0190a000-0000-7000-8000-00000000c0de"
START = datetime(2026, 11, 24, 10, 7, tzinfo=UTC)
EVENTS: list[Event] = [
    ConnectionRequested(connection_id="c", connector="openid", label="Ada's account", settings={}, method="oauth"),
    ConnectionEstablished(
        connection_id="c", secret_id="s", secret_version=1, fingerprint="f1", account="ada@lovelace.example"
    ),
    ConnectionInterrupted(connection_id="c", reason="revoked", reconnect=True, detail="ada@lovelace.example is gone."),
]


def bizos(*arguments: str | Path, answers: str = "") -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, arguments)], input=answers, env={"BIZOS_DATABASE_URL": ""})


async def fill(url: str, events: list[Event], version: int = 0) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        store = PostgresEventStore(pool, messages.codec(), category="connector", source="connector-svc", partitions=4)
        for n, event in enumerate(events, version):
            context = Context(
                tenant="acme", actor="member:1", role="tenant_admin", time=START + timedelta(minutes=n),
                correlation_id=f"request-{n}", causation_id="x",
            )  # fmt: skip
            await store.append([Write(STREAM, n, [event])], context)


@pytest.fixture
def log(database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]) -> str:
    """A connection that was made and lost, in a log of its own: its address, with a password."""
    url = new_database(template=database_template("event_log", migrate))
    asyncio.run(fill(url, EVENTS))
    return url


@pytest.fixture
def file(log: str, tmp_path: Path) -> Path:
    """The recording of it."""
    told = bizos("record", "--database", log, "--stream", STREAM, "--out", tmp_path / "lost.ndjson")
    assert told.exit_code == 0, told.output
    return tmp_path / "lost.ndjson"


def test_a_stream_is_recorded_without_personal_data_and_without_the_password(log: str, tmp_path: Path) -> None:
    told = bizos("record", "--database", log, "--stream", STREAM, "--out", tmp_path / "lost.ndjson")

    assert told.exit_code == 0, told.output
    assert "3 events of 1 streams" in told.stdout
    assert "Masked: (other text) (1), account (1), label (1)." in told.stdout
    text = (tmp_path / "lost.ndjson").read_text()
    assert f'"source":"database {urlsplit(log).path[1:]}"' in text
    password = urlsplit(log).password
    assert password
    assert not [word for word in ("Ada", "ada@", "lovelace", f":{password}@") if word in text + told.output]


def test_a_request_is_recorded_with_what_came_before_it_unless_it_is_to_be_bare(log: str, tmp_path: Path) -> None:
    asked = ("record", "--database", log, "--correlation", "request-1", "--out")
    assert "2 events" in bizos(*asked, tmp_path / "whole.ndjson").stdout
    assert "1 events" in bizos(*asked, tmp_path / "bare.ndjson", "--bare").stdout


def test_a_time_range_is_recorded_and_a_time_without_offset_is_utc(log: str, tmp_path: Path) -> None:
    asked = ("record", "--database", log, "--from", "2026-11-24T10:07", "--to", "2026-11-24T11:08+01:00", "--out")
    assert "2 events" in bizos(*asked, tmp_path / "r.ndjson").stdout
    assert "masked-" not in (tmp_path / "r.ndjson").read_text().splitlines()[0]


def test_a_further_field_is_masked_when_asked_for(log: str, tmp_path: Path) -> None:
    asked = ("record", "--database", log, "--stream", STREAM, "--mask", "fingerprint", "--out", tmp_path / "r.ndjson")
    assert "fingerprint (1)" in bizos(*asked).stdout
    assert '"f1"' not in (tmp_path / "r.ndjson").read_text()
    assert bizos("diff", tmp_path / "r.ndjson", "--database", log).exit_code == 0, "and again to compare"


def test_the_log_of_a_service_on_this_machine_is_found_by_its_name(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    url = postgres_server.create_database("connector_svc", password="p@ss/w:rd")
    migrate(url)
    asyncio.run(fill(url, EVENTS))
    servers = [{"name": "PostgreSQL", "url": f"postgresql://127.0.0.1:{postgres_server.port}/postgres"}]
    (tmp_path / "run.json").write_text(json.dumps({"servers": servers}))
    (tmp_path / "databases.json").write_text(json.dumps({variable("connector-svc", "DATABASE_PASSWORD"): "p@ss/w:rd"}))
    here = ("--service", "connector-svc", "--data", tmp_path)

    told = bizos("record", *here, "--stream", STREAM, "--out", tmp_path / "r.ndjson")

    assert told.exit_code == 0, told.output
    assert bizos("diff", tmp_path / "r.ndjson", *here).exit_code == 0
    assert '"source":"connector-svc"' in (tmp_path / "r.ndjson").read_text()
    postgres_server.drop_database("connector_svc")


def test_run_tells_each_event_and_what_it_did(file: Path) -> None:
    told = bizos("run", file)

    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert re.match(r"step +time +version +stream +what happened +view after it", lines[0])
    assert re.match(r"1 +10:07:00Z +1 +connection-…0", lines[1])
    assert told.stdout.count("interrupted") == 2, "in words, and in the view"


def test_run_stops_at_a_version_or_a_time(file: Path) -> None:
    for until in ("2", "2026-11-24T10:08:00Z", "2026-11-24T11:08:00+01:00"):
        rows = json.loads(bizos("run", file, "--until", until, "--format", "json").stdout)
        assert [row["version"] for row in rows] == [1, 2]
    assert rows[1]["time"] == "2026-11-24T10:08:00Z"
    assert rows[1]["view"]["status"] == "connected"
    assert rows[1]["changes"]["status"] == {"before": "requested", "after": "connected"}
    assert rows[1]["words"].startswith("the connection works as masked-")
    refused = bizos("run", file, "--until", "yesterday")
    assert "--until 'yesterday' is no time: write it as 2026-01-31T17:45:00Z." in refused.stderr


def test_run_walks_step_by_step(file: Path) -> None:
    told = bizos("run", file, "--step", answers="\n\n")
    assert told.exit_code == 0
    assert "3 of 3  2026-11-24T10:09:00Z" in told.stdout
    assert "  status: connected → interrupted" in told.stdout
    assert "2 of 3" in bizos("run", file, "--step", answers="\n").stdout, "the end of the input is an end"


def test_what_somebody_wrote_does_nothing_to_the_terminal(file: Path) -> None:
    file.write_text(file.read_text().replace("is gone.", r"is \u001b[2J[red]gone."))
    for told in (bizos("run", file), bizos("run", file, "--step", answers="\n\n\n")):
        assert "\x1b" not in told.stdout
        assert "[red]gone" in "".join(told.stdout.split())


def test_run_shows_one_stream_of_many(file: Path) -> None:
    assert len(json.loads(bizos("run", file, "--stream", STREAM, "-f", "json").stdout)) == 3
    assert f"it has {STREAM}" in bizos("run", file, "--stream", "call-1").stderr.replace("\n", "")


def test_a_recording_does_not_differ_from_its_log_until_something_happens(file: Path, log: str) -> None:
    same = bizos("diff", file, "--database", log)
    assert (same.exit_code, same.stdout) == (0, "3 events, the same in the log.\n")

    asyncio.run(fill(log, [EVENTS[1]], version=3))
    told = bizos("diff", file, "--database", log)
    assert told.exit_code == 3
    assert told.stdout == f"{STREAM} version 4: only the log has connector.connection.established.v1\n"


def test_two_recordings_that_differ_say_where(file: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.ndjson"
    changed.write_text(file.read_text().replace('"reconnect":true', '"reconnect":false'))

    told = bizos("diff", file, changed)
    assert told.exit_code == 3
    assert told.stdout == f"{STREAM} version 3: reconnect: {file} True, {changed} False\n"
    assert json.loads(bizos("diff", file, changed, "--format", "json").stdout) == [
        {"stream": STREAM, "version": 3, "field": "reconnect", "one": True, "other": False}
    ]
    assert bizos("diff", file, changed, "--ignore", "reconnect").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["record", "--out", "x"], "What is to be recorded? Give --stream"),
        (["record", "--out", "x", "--stream", "s"], "Which log? Give --database, or --service"),
        (["record", "--out", "x", "--stream", "s", "--database", "mysql://u:hush@h/d"], "no address of PostgreSQL"),
        (["record", "--out", "x", "--stream", "s", "--database", "postgresql://u:hu#sh@h:1/d"], "cannot be read"),
        (
            ["record", "--out", "x", "--stream", "s", "--database", "postgresql://u:hush@127.0.0.1:1/d"],
            "cannot be read",
        ),
        (
            ["record", "--out", "x", "--stream", "s", "--service", "portal"],
            "portal has no log: choose one of tenant-svc",
        ),
        (["record", "--out", "x", "--stream", "s", "--service", "audit-svc", "--data", "none"], "bizos up"),
        (["record", "--out", "x", "--from", "noon"], "--from 'noon' is no time"),
        (["run", "none.ndjson"], "There is no file none.ndjson"),
        (["diff", "none.ndjson", "none.ndjson"], "There is no file none.ndjson"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = bizos(*arguments)
    assert told.exit_code == 1
    assert said in told.stderr.replace("\n", " ")
    assert "hush" not in told.output
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_a_log_is_said_to_be_one(database_url: str, tmp_path: Path) -> None:
    told = bizos("record", "--database", database_url, "--stream", STREAM, "--out", tmp_path / "r.ndjson")
    assert "holds no event log" in told.stderr


def test_nothing_recorded_writes_no_file(log: str, tmp_path: Path) -> None:
    told = bizos("record", "--database", log, "--stream", "connection-9", "--out", tmp_path / "r.ndjson")
    assert "There are no such events" in told.stderr
    assert list(tmp_path.iterdir()) == []
