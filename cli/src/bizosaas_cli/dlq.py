"""`bizos dlq`: what could not be handled, to look at, mend, have tried again, or give up."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import click
import httpx
import typer
from rich.text import Text

from .audit import EmailOption, UrlOption, admin
from .client import Client, ProblemError
from .output import Format, FormatOption, console, fail, plain, show

PATH = "/v1/admin/dead-letters"
COLUMNS = ("service", "id", "consumer", "type", "key", "failure", "attempts", "behind", "first_at", "reason")
PARKED = ("id", "type", "position", "first_at")
WAIT = "wait=20"
SECONDS = 15.0
"""How long to look what became of a second try."""

ServiceArgument = Annotated[str, typer.Argument(help="The service whose dead letter it is, such as tenant.")]
IdArgument = Annotated[str, typer.Argument(help="The dead letter's id.")]
ConsumerOption = Annotated[str, typer.Option(help="Only of this consumer or queue; of commands: the service.")]
TypeOption = Annotated[str, typer.Option(help="Only messages of this type.")]
TenantOption = Annotated[str, typer.Option(help="Only messages of this tenant, by id.")]
KeyOption = Annotated[str, typer.Option(help="Only about this object, such as connection-<id>.")]
FailureOption = Annotated[str, typer.Option(help="Only `poison` (unreadable, rejected) or only `bug`.")]
AgeOption = Annotated[float, typer.Option(help="Only what failed first so many minutes ago, or earlier.", min=0)]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="What could not be handled: look, mend, try again, give up.")
    app.add_typer(group, name="dlq")

    @group.command("list")
    def list_letters(
        service: Annotated[str, typer.Option(help="Only of this service; of all by default.")] = "",
        consumer: ConsumerOption = "", type: TypeOption = "", tenant: TenantOption = "", key: KeyOption = "",
        failure: FailureOption = "", older: AgeOption = 0,
        state: Annotated[str, typer.Option(help="waiting, retrying, or parked; the first two by default.")] = "",
        limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
        cursor: Annotated[str, typer.Option(help="Go on behind this id.")] = "",
        url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "", format: FormatOption = Format.TABLE,
    ) -> None:  # fmt: skip
        """List dead letters, oldest first. Behind each stand the later events of the same object."""
        query = {
            "service": service, "consumer": consumer, "type": type, "tenant": tenant, "key": key, "failure": failure,
            "state": state, "cursor": cursor, "older_than": str(int(older * 60)) if older else "",
        }  # fmt: skip
        with admin(url, email) as client, said():
            asked = httpx.QueryParams({"limit": limit} | {name: value for name, value in query.items() if value})
            page = client.ask("GET", f"{PATH}?{asked}")
        rows = [{"service": item["service"], **item["letter"]} for item in page["items"]]
        if format is Format.TABLE:
            rows = [brief(row) for row in rows]
        show(rows, COLUMNS, format, "There are no dead letters.")
        if page["next"] and format is Format.TABLE:
            console.print(f"There are more: --cursor {page['next']}")
        for name in page["missing"]:
            console.print(f"[yellow]![/yellow] {name}-svc did not answer: its dead letters are not shown.")

    @group.command("show")
    def show_letter(
        service: ServiceArgument, id: IdArgument,
        url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "", format: FormatOption = Format.TABLE,
    ) -> None:  # fmt: skip
        """Show one: its envelope, why it failed, and what is parked behind it."""
        with admin(url, email) as client, said():
            found = client.ask("GET", f"{PATH}/{service}/{id}")
        if format is Format.JSON:
            print(json.dumps(found))
            return
        letter = found["letter"]
        fields, traceback = letter.pop("fields"), letter.pop("traceback")
        for part in (letter, fields):
            rows = [{"what": name, "is": value} for name, value in part.items() if value not in ("", None)]
            show(rows, ("what", "is"), format, "")
            console.print()
        console.print(Text(traceback))
        show([brief(row) for row in found["parked"]], PARKED, format, "Nothing is parked behind it.")

    @group.command("retry")
    def retry(
        service: ServiceArgument, id: IdArgument, yes: YesOption = False,
        url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "",
    ) -> None:  # fmt: skip
        """Have one tried again, before what is parked behind it."""
        with admin(url, email) as client, said():
            letter = client.ask("GET", f"{PATH}/{service}/{id}")["letter"]
            confirm(f"Try {letter['type']} of {letter['key']} again, and {letter['behind']} behind it?", yes)
            again(client, service, letter, None)

    @group.command("edit")
    def edit(
        service: ServiceArgument, id: IdArgument,
        file: Annotated[Path | None, typer.Option(help="The payload as JSON; without it $EDITOR is opened.")] = None,
        yes: YesOption = False, url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "",
    ) -> None:  # fmt: skip
        """Give the handler another payload and have it tried again. What was recorded is not changed."""
        with admin(url, email) as client, said():
            letter = client.ask("GET", f"{PATH}/{service}/{id}")["letter"]
            payload = read_payload(letter["edited"] or letter["fields"].get("data", ""), file)
            confirm(
                f"Try {letter['type']} of {letter['key']} with this payload, and {letter['behind']} behind it?", yes
            )
            again(client, service, letter, payload)

    @group.command("discard")
    def discard(
        service: ServiceArgument, id: IdArgument,
        reason: Annotated[str, typer.Option(help="Why nobody will miss it; it is kept in the audit log.")],
        yes: YesOption = False, url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "",
    ) -> None:  # fmt: skip
        """Give one up for good. The next event of its object follows."""
        with admin(url, email) as client, said():
            letter = client.ask("GET", f"{PATH}/{service}/{id}")["letter"]
            confirm(f"Give up {letter['type']} of {letter['key']} for good?", yes)
            client.ask("POST", f"{PATH}/{service}/{id}/discard", {"reason": reason}, Prefer=WAIT)
        console.print(f"Given up. {letter['behind']} behind it go on.")

    @group.command("redrive")
    def redrive(
        service: ServiceArgument,
        limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)],
        consumer: ConsumerOption = "", type: TypeOption = "", tenant: TenantOption = "", key: KeyOption = "",
        failure: FailureOption = "", older: AgeOption = 0, yes: YesOption = False,
        url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "",
    ) -> None:  # fmt: skip
        """Have all tried again that a filter finds: says how many first, and asks."""
        before = (datetime.now(UTC) - timedelta(minutes=older)).isoformat() if older else None
        which = {
            "limit": limit, "consumer": consumer, "type": type, "tenant": tenant, "key": key, "failure": failure,
            "before": before,
        }  # fmt: skip
        with admin(url, email) as client, said():
            found = client.ask("POST", f"{PATH}/{service}/selections", which)
            if not found["letters"]:
                console.print("There are none.")
                return
            confirm(f"Try {found['letters']} dead letters of {service} again, and what is parked behind each?", yes)
            body = which | {"confirmation": found["confirmation"]}
            outcome = client.ask("POST", f"{PATH}/{service}/redrives", body, Prefer=WAIT)
            number = outcome["result"]["letters"] if "result" in outcome else found["letters"]
        console.print(f"{number} are tried again. `bizos dlq list --service {service}` shows what fails again.")


@contextmanager
def said() -> Iterator[None]:
    """What goes wrong between here and the gateway, in one sentence."""
    try:
        yield
    except (ProblemError, httpx.TransportError) as error:
        fail(str(error) or type(error).__name__)


def brief(row: dict[str, Any]) -> dict[str, Any]:
    """A row for reading: the time without its fraction, the reason in one line."""
    reason = " ".join(str(row.get("reason", "")).split())
    return row | {"first_at": row["first_at"][:19] + "Z", "reason": reason[:80] + ("…" if len(reason) > 80 else "")}


def confirm(question: str, yes: bool) -> None:
    console.print(plain(question), markup=False)
    if not yes and not typer.confirm("Go on?"):
        raise typer.Exit(1)


def read_payload(recorded: str, file: Path | None) -> dict[str, Any]:
    """The payload to try with: a file's, or what an editor makes of the recorded one."""
    try:
        before = json.loads(recorded)
    except ValueError:
        before = {}
    try:
        text = (
            file.read_text()
            if file
            else click.edit(json.dumps(before, indent=2, ensure_ascii=False), extension=".json")
        )
        payload = json.loads(text) if text is not None else before
    except (OSError, ValueError) as error:
        fail(f"The payload cannot be read: {error}. It is one JSON object.")
    if not isinstance(payload, dict):
        fail("The payload is one JSON object.")
    if not file and payload == before:
        fail("Nothing was changed: use `bizos dlq retry` to try it as it is.")
    return payload


def again(client: Client, service: str, letter: dict[str, Any], payload: dict[str, Any] | None) -> None:
    """Have one tried again, and tell what became of it."""
    where = f"{PATH}/{service}/{letter['id']}"
    client.ask("POST", f"{where}/retry", {"payload": payload} if payload else {}, Prefer=WAIT)
    if letter["stream"]:
        console.print(f"It was sent again. `bizos dlq list --service {service}` shows it if it fails again.")
        return
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        response = client.send("GET", where)
        if response.status_code == 404:
            console.print("It was handled; what was parked behind it follows.")
            return
        found = response.json().get("letter", letter)
        if found["state"] == "waiting" and found["attempts"] > letter["attempts"]:
            fail(f"It failed again: {found['error']}: {found['reason']}")
        time.sleep(0.3)
    console.print("It is not its turn yet: its consumer is away or busy. `bizos dlq show` tells later.")
