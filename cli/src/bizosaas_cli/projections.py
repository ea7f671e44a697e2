"""`bizos projections`: build a version anew, compare it with the one that is read, swap to it and back."""

import json
import time
from typing import Annotated, Any

import typer

from .audit import EmailOption, UrlOption, admin
from .client import Client
from .dlq import YesOption, confirm, said
from .output import Format, FormatOption, console, fail, show

PATH = "/v1/admin/projections"
COLUMNS = ("projection", "version", "state", "processes", "events_behind", "per_second", "time_left")
PLACES = ("projection", "version", "category", "partition", "position", "end", "events_behind")
TABLES = ("table", "old_rows", "new_rows", "differing", "by")
DIFFERENCES = ("table", "key", "old", "new")
WAIT = "wait=25"

NameArgument = Annotated[str, typer.Argument(help="The projection, such as gateway.")]
VersionArgument = Annotated[int, typer.Argument(help="The number of the version.", min=1)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Projections in versions: build anew, compare, swap, go back.")
    app.add_typer(group, name="projections")

    @group.command("list")
    def list_projections(
        partitions: Annotated[bool, typer.Option("--partitions", help="A row for each partition that is behind.")] = False,
        watch: Annotated[float, typer.Option(help="Look again every so many seconds, until Ctrl-C.", min=0)] = 0,
        url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "", format: FormatOption = Format.TABLE,
    ) -> None:  # fmt: skip
        """List the versions of all projections, and how far each has come."""
        with admin(url, email) as client, said():
            while True:
                page = client.ask("GET", PATH)
                if partitions:
                    show(places(page["items"]), PLACES, format, "No partition is behind.")
                else:
                    show([row_of(item) for item in page["items"]], COLUMNS, format, "No service has a projection.")
                for name in page["missing"]:
                    console.print(f"[yellow]![/yellow] {name}-svc did not answer: its projections are not shown.")
                if not watch:
                    return
                time.sleep(watch)
                console.rule()

    @group.command("build")
    def build(
        name: NameArgument, url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = ""
    ) -> None:  # fmt: skip
        """Begin to build another version from position 0, while the live one is read."""
        with admin(url, email) as client, said():
            number = changed(client, "POST", f"{where(client, name)}/versions")
        console.print(
            f"Version {number} of {name} is being built: `bizos projections list --watch 1` shows how far it is."
        )

    @group.command("compare")
    def compare(
        name: NameArgument,
        old: Annotated[int, typer.Argument(help="One version.", min=1)],
        new: Annotated[int, typer.Argument(help="The other one.", min=1)],
        first: Annotated[int, typer.Option(help="Show so many differences.", min=0, max=200)] = 20,
        url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "", format: FormatOption = Format.TABLE,
    ) -> None:  # fmt: skip
        """Show which rows differ between two versions at the same positions. Exits with 1 where some do."""
        with admin(url, email) as client, said():
            found = client.ask("GET", f"{where(client, name)}/comparison?old={old}&new={new}&first={first}")[
                "comparison"
            ]
        if format is Format.JSON:
            print(json.dumps(found))
        else:
            rows = [table | {"by": counted(table["differing_by"])} for table in found["tables"]]
            show(rows, TABLES, format, "The two have no table in common.")
            console.print(f"Both have applied {found['events']} events.")
            if found["differences"]:
                show([texts(each) for each in found["differences"]], DIFFERENCES, format, "")
        if any(table["differing"] for table in found["tables"]):
            raise typer.Exit(1)

    @group.command("swap")
    def swap(
        name: NameArgument, version: VersionArgument,
        limit: Annotated[int, typer.Option(help="Refuse where it is so many events behind.", min=0)] = 1000,
        force: Annotated[bool, typer.Option("--force", help="Do not wait for it: readers may find less.")] = False,
        yes: YesOption = False, url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "",
    ) -> None:  # fmt: skip
        """Let this version be read, as soon as it has what the live one has. Back is the same."""
        with admin(url, email) as client, said():
            path = where(client, name)
            confirm(f"Let version {version} of {name} be read{' at once' if force else ''}?", yes)
            changed(client, "POST", f"{path}/swap", {"version": version, "limit": limit, "force": force})
        console.print(f"Version {version} of {name} is read now. The one before is kept.")

    @group.command("drop")
    def drop(
        name: NameArgument, version: VersionArgument, yes: YesOption = False,
        url: UrlOption = "http://127.0.0.1:8000", email: EmailOption = "",
    ) -> None:  # fmt: skip
        """Remove a version that is not read, with its tables."""
        with admin(url, email) as client, said():
            path = where(client, name)
            confirm(f"Remove version {version} of {name} and its tables?", yes)
            changed(client, "DELETE", f"{path}/versions/{version}")
        console.print(f"Version {version} of {name} is gone.")


def where(client: Client, name: str) -> str:
    """The path of a projection, whichever service has it."""
    page = client.ask("GET", PATH)
    services = {item["progress"]["version"]["name"]: item["service"] for item in page["items"]}
    if name not in services:
        silent = f" ({', '.join(page['missing'])} did not answer)" if page["missing"] else ""
        fail(f"There is no projection {name}: there is {', '.join(sorted(services)) or 'none'}{silent}.")
    return f"{PATH}/{services[name]}/{name}"


def changed(client: Client, method: str, path: str, body: dict[str, Any] | None = None) -> int:
    """The version that it was about, when it is done."""
    outcome = client.ask(method, path, body, Prefer=WAIT)
    if outcome["status"] != "done":
        fail(f"There is no answer yet: GET {outcome['outcome']} tells what became of it.")
    number: int = outcome["result"]["version"]["number"]
    return number


def row_of(item: dict[str, Any]) -> dict[str, Any]:
    """A version in one row."""
    progress = item["progress"]
    version = progress["version"]
    behind = progress["events_behind"]
    return {
        "service": item["service"], "projection": version["name"], "version": version["number"],
        "definition": version["definition"], "state": version["state"], "since": version["changed_at"][:19] + "Z",
        "processes": len(progress["instances"]), "events_done": progress["events_done"], "events_behind": behind,
        "per_second": progress["rate"] if behind else "",
        "time_left": f"{progress['seconds_left']:.0f} s" if behind and progress["seconds_left"] is not None else "",
    }  # fmt: skip


def places(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each partition that a version has not come to the end of."""
    return [
        {
            "projection": item["progress"]["version"]["name"], "version": item["progress"]["version"]["number"],
            **place, "events_behind": place["end"] - place["position"],
        }
        for item in items
        for place in item["progress"]["places"]
        if place["position"] < place["end"]
    ]  # fmt: skip


def counted(differing: dict[str, int]) -> str:
    return ", ".join(f"{group}: {number}" for group, number in differing.items())


def texts(difference: dict[str, Any]) -> dict[str, str]:
    """A difference with each side as text; a row that is not there says so."""
    sides = {
        side: json.dumps(difference[side]) if difference[side] is not None else "no such row" for side in ("old", "new")
    }
    return {"table": difference["table"], "key": " ".join(map(str, difference["key"].values())), **sides}
