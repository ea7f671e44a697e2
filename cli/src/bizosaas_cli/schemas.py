"""`bizos schemas`: the published language compared with what is written down of it."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bizosaas_events import asyncapi, messages, published
from bizosaas_events.compatibility import Change

from .output import Format, FormatOption, console, fail, show

FOLDER = Path("libs/events/schemas")
REFERENCE = Path("docs/reference/asyncapi.json")
TITLE = "BizOSaaS messages"

FolderOption = Annotated[Path, typer.Option(help="Where the schemas and golden files are.")]
ReferenceOption = Annotated[Path, typer.Option(help="The AsyncAPI document in the documentation.")]


def reference() -> str:
    """The AsyncAPI document of all messages, as it stands in the documentation."""
    document = asyncapi.document(messages.codec(), version("bizosaas-events"), title=TITLE)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The published language: what changed, and whether it may.")
    app.add_typer(group, name="schemas")

    @group.command("check")
    def check(
        folder: FolderOption = FOLDER, document: ReferenceOption = REFERENCE, format: FormatOption = Format.TABLE
    ) -> None:
        """Compare all messages with what is written down. Exit code 4: somebody would not understand them; 3: record."""
        if not folder.is_dir():
            fail(f"There is no {folder} here: go to the repository's root, or give --folder.")
        changes = published.check(messages.codec(), folder)
        if not any(change.breaks for change in changes) and not _is_current(document):
            remedy = "Record it: bizos schemas export."
            changes.append(Change(str(document), "", "is not what the messages say today", remedy, False))
        changes.sort(key=lambda change: not change.breaks)
        if format is Format.JSON or not changes:
            good = f"{len(messages.codec().types)} messages, all as they are written down."
            show([change._asdict() for change in changes], (), format, good)
        else:
            console.print("\n".join(map(str, changes)), markup=False, highlight=False, soft_wrap=True)
        if any(change.breaks for change in changes):
            fail("The messages changed in a way that somebody would not understand.", 4)
        if changes:
            fail("What is written down is out of date.", 3)

    @group.command("export")
    def export(folder: FolderOption = FOLDER, document: ReferenceOption = REFERENCE) -> None:
        """Write down what is new and compatible: schemas, golden files of new events, the AsyncAPI document."""
        try:
            written = published.record(messages.codec(), folder)
        except published.IncompatibleError as error:
            fail(f"Nothing was written: somebody would not understand this any more.\n{error}", 4)
        if not _is_current(document):
            document.parent.mkdir(parents=True, exist_ok=True)
            document.write_text(reference())
            written.append(document)
        show([{"written": path} for path in written], ("written",), Format.TABLE, "All was written down already.")

    @group.command("asyncapi")
    def print_asyncapi() -> None:
        """Print the AsyncAPI 3.0 document of all messages."""
        print(reference(), end="")


def _is_current(document: Path) -> bool:
    return document.exists() and document.read_text() == reference()
