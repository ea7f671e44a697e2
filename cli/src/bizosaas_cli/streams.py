"""`bizos streams`: how far each consumer is behind, in events and seconds."""

import time
from collections import defaultdict
from typing import Annotated, Any

import httpx
import typer

from .audit import EmailOption, UrlOption, admin
from .client import Client, ProblemError
from .output import Format, FormatOption, console, fail, show

COLUMNS = ("consumer", "category", "partitions", "events_behind", "seconds_behind")


def by_consumer(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each consumer and log: the sum of its events behind, and the longest wait."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        grouped[item["consumer"], item["category"]].append(item)
    return [
        {
            "consumer": consumer,
            "category": category,
            "partitions": len(found),
            "events_behind": sum(item["events_behind"] for item in found),
            "seconds_behind": max(item["seconds_behind"] for item in found),
        }
        for (consumer, category), found in sorted(grouped.items())
    ]


def look(client: Client) -> list[dict[str, Any]]:
    try:
        items: list[dict[str, Any]] = client.ask("GET", "/v1/admin/streams")["items"]
    except (ProblemError, httpx.TransportError) as error:
        fail(f"The streams cannot be looked at: {error}")
    return items


def register(app: typer.Typer) -> None:
    @app.command("streams")
    def streams(
        url: UrlOption = "http://127.0.0.1:8000",
        email: EmailOption = "",
        partitions: Annotated[
            bool, typer.Option("--partitions", help="A row for each partition that is behind.")
        ] = False,
        watch: Annotated[float, typer.Option(help="Look again every so many seconds, until Ctrl-C.", min=0)] = 0,
        format: FormatOption = Format.TABLE,
    ) -> None:
        """Show how far every consumer of every log is behind."""
        with admin(url, email) as client:
            while True:
                items = look(client)
                if partitions:
                    rows = [item for item in items if item["events_behind"]]
                    show(rows, ("consumer", "category", "partition", *COLUMNS[3:]), format, "No consumer is behind.")
                else:
                    show(by_consumer(items), COLUMNS, format, "No consumer has reported yet.")
                if not watch:
                    return
                time.sleep(watch)
                console.rule()
