"""`bizos replay`: events recorded into a file, looked at step by step, and compared."""

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .output import Format, FormatOption, console, fail, plain, show
from .up import DataOption

if TYPE_CHECKING:
    from bizosaas_events.testing.recording import Recording

FileArgument = Annotated[Path, typer.Argument(help="A recording.")]
DatabaseOption = Annotated[
    str,
    typer.Option(
        help="The log's postgresql://user:password@host/database; in the variable nobody else sees the password.",
        envvar="BIZOS_DATABASE_URL",
    ),
]
ServiceOption = Annotated[str, typer.Option(help="Instead: the log of a service on this machine, as connector-svc.")]
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

StreamsOption = Annotated[list[str] | None, typer.Option("--stream", help="As connection-<id>; may be repeated.")]
MaskOption = Annotated[list[str] | None, typer.Option(help="A further field to mask; may be repeated.")]
IgnoreOption = Annotated[list[str] | None, typer.Option(help="A field not to compare, as time; may be repeated.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Events recorded into a file, and what they lead to.")
    app.add_typer(group, name="replay")

    @group.command("record")
    def record(
        out: Annotated[Path, typer.Option(help="The file to write, best beside the test that will use it.")],
        streams: StreamsOption = None,
        correlation: Annotated[str, typer.Option(help="What came of one request.")] = "",
        tenant: Annotated[str, typer.Option(help="Of one tenant.")] = "",
        since: Annotated[str, typer.Option("--from", help="ISO 8601, UTC where no offset is given.")] = "",
        until: Annotated[str, typer.Option("--to", help="ISO 8601, inclusive.")] = "",
        bare: Annotated[bool, typer.Option("--bare", help="Without what came before on the same streams.")] = False,
        mask: MaskOption = None,
        force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
        database: DatabaseOption = "",
        service: ServiceOption = "",
        data: DataOption = Path(".bizos"),
    ) -> None:
        """Record streams, one request or a time range of a service's log; personal data is masked."""
        if not (streams or correlation or tenant or since or until):
            fail("What is to be recorded? Give --stream, --correlation, --tenant, --from or --to.")
        if out.exists() and not force:
            fail(f"{out} is there already: choose another file with --out, or --force.")
        from bizosaas_events.testing.selecting import Selection

        from . import recordings

        selection = Selection(
            streams=streams or [], correlation=correlation, tenant=tenant, since=_time(since, "--from"),
            until=_time(until, "--to"), history=not bare,
        )  # fmt: skip
        made = asyncio.run(recordings.recorded(*recordings.log_of(database, service, data), selection, mask or []))
        made.write(out)
        masked = ", ".join(f"{field} ({count})" for field, count in (made.header.masked or {}).items()) or "nothing"
        _print(f"{len(made)} events of {len(made.streams)} streams are in {out}. Masked: {masked}.")
        _print(f"Read it through before it is committed. See what happened: bizos replay run {out}")

    @group.command("run")
    def run(
        file: FileArgument,
        until: Annotated[str, typer.Option(help="Stop at a version of each stream, or at a time (ISO 8601).")] = "",
        stream: Annotated[str, typer.Option(help="Only this stream.")] = "",
        step: Annotated[bool, typer.Option("--step", help="Show event after event, each at Enter.")] = False,
        format: FormatOption = Format.TABLE,
    ) -> None:
        """Show each event in words, and what it did to the public view of its object."""
        from . import recordings

        recording = recordings.read(file)
        if stream:
            recording = _only(recording, stream)
        if until.isdecimal():
            recording = recording.until(version=int(until))
        elif until:
            recording = recording.until(time=_time(until, "--until"))
        rows = recordings.rows_of(recording)
        if format is Format.JSON:
            show(rows, (), format, "")
        elif step:
            _walk(rows)
        else:
            console.print(_table(rows) if rows else "No events up to then.")

    @group.command("diff")
    def diff(
        one: FileArgument,
        other: Annotated[Path | None, typer.Argument(help="Another one; without it, what the log says now.")] = None,
        ignore: IgnoreOption = None,
        database: DatabaseOption = "",
        service: ServiceOption = "",
        data: DataOption = Path(".bizos"),
        format: FormatOption = Format.TABLE,
    ) -> None:
        """Show where two recordings differ, or a recording and the log. Exit code 3: they do."""
        from bizosaas_events.testing.comparing import differences

        from . import recordings

        mine = recordings.read(one)
        if other is not None:
            yours, names = recordings.read(other), (str(one), str(other))
        else:
            log, masked = recordings.log_of(database, service, data), ".".join(mine.header.masked or ()).split(".")
            yours, names = asyncio.run(recordings.recorded(*log, mine.header.selection, masked)), (str(one), "the log")
        found = differences(mine.envelopes, yours.envelopes, mine.codec, ignoring=ignore or [], names=names)
        if format is Format.JSON:
            keys = ("stream", "version", "field", "one", "other")
            show([{key: getattr(each, key) for key in keys} for each in found], keys, format, "")
        else:
            _print("\n".join(plain(str(each)) for each in found) or f"{len(mine)} events, the same in {names[1]}.")
        if found:
            raise typer.Exit(3)


def _only(recording: "Recording", stream: str) -> "Recording":
    if stream not in recording.streams:
        fail(f"There is no {stream} in this recording; it has {', '.join(recording.streams)}.")
    return recording.stream(stream)


def _table(rows: list[dict[str, Any]]) -> Table:
    """Of the view what is new in it, one field a line, and of ids their ends: the whole is in the JSON."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("step", "time", "version", "stream", "what happened", "view after it"):
        table.add_column(column, overflow="fold")
    for row in rows:
        news = [
            f"{name}: {_value(change['after'])}" for name, change in row["changes"].items() if _is_news(name, change)
        ]
        cells = (str(row["step"]), row["time"][11:23], str(row["version"]), row["stream"], row["words"])
        told = [*map(plain, cells), "\n".join(map(plain, news))]
        table.add_row(*(Text(_short(each)) for each in told))
    return table


def _is_news(name: str, change: dict[str, Any]) -> bool:
    """Not what a new object has not got yet, nor what stands in the row already."""
    return bool(change["before"] or change["after"]) and name not in ("id", "tenant_id", "updated_at")


def _short(text: str) -> str:
    return _UUID.sub(lambda match: f"…{match[0][-8:]}", text)


def _walk(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        _print(f"\n{row['step']} of {len(rows)}  {row['time']}  {row['stream']} version {row['version']}")
        _print(plain(row["words"]))
        for name, change in ((n, c) for n, c in row["changes"].items() if _is_news(n, c)):
            _print(plain(f"  {name}: {_value(change['before'])} → {_value(change['after'])}"))
        if row is not rows[-1]:
            try:
                input("Enter: the next one ")
            except EOFError:
                return


def _value(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _print(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _time(text: str, option: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} {text!r} is no time: write it as 2026-01-31T17:45:00Z.")
    return time if time.tzinfo else time.replace(tzinfo=UTC)
