"""How commands speak: one table or JSON on standard output, what goes wrong in one sentence on standard error."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

console = Console()
errors = Console(stderr=True, highlight=False)


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="A table to read, or JSON for programs.")]


def show(rows: Sequence[dict[str, Any]], columns: Sequence[str], format: Format, empty: str) -> None:
    """Print rows as one table or as one JSON array; `empty` is said instead of a table without rows."""
    if format is Format.JSON:
        print(json.dumps(list(rows), default=str))
        return
    if not rows:
        console.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(str(row.get(column, "")))) for column in columns))
    console.print(table)


def fail(sentence: str, code: int = 1) -> NoReturn:
    """End the command with one sentence that says what is wrong and what to do."""
    errors.print(f"[red]✗[/red] {escape(sentence)}", soft_wrap=True)
    raise typer.Exit(code)


def plain(text: str) -> str:
    """Text that does nothing to a terminal: somebody may have named a connection with its control characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
