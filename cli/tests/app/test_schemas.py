"""The messages on the command line: up to date, out of date, broken."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bizosaas_cli.main import app

run = CliRunner().invoke
MESSAGE = Path("messages/connector.connection.renamed.v1.json")


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """Everything is written down in a folder of its own."""
    (tmp_path / "schemas").mkdir()
    options = ["--folder", str(tmp_path / "schemas"), "--document", str(tmp_path / "docs" / "asyncapi.json")]
    assert run(app, ["schemas", "export", *options]).exit_code == 0
    return options


def change(options: list[str], old: str, new: str) -> None:
    path = Path(options[1]) / MESSAGE
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_what_is_written_down_is_found_to_be_so(options: list[str]) -> None:
    told = run(app, ["schemas", "check", *options])
    assert told.exit_code == 0
    assert "all as they are written down" in told.stdout
    assert "written down already" in run(app, ["schemas", "export", *options]).stdout


def test_a_change_that_somebody_would_not_understand_fails_with_message_field_and_remedy(options: list[str]) -> None:
    change(options, '"label"', '"title"')

    told = run(app, ["schemas", "check", *options])

    assert told.exit_code == 4
    assert "connector.connection.renamed.v1: field title: was removed, or renamed to label." in told.stdout
    assert "connector.connection.renamed.v2 with an upcaster" in told.stdout
    refused = run(app, ["schemas", "export", *options])
    assert refused.exit_code == 4
    assert "Nothing was written" in refused.stderr


def test_a_set_that_is_merely_out_of_date_says_how_to_record_it(options: list[str]) -> None:
    (Path(options[1]) / MESSAGE).unlink()

    told = run(app, ["schemas", "check", *options, "--format", "json"])

    assert told.exit_code == 3
    (found,) = json.loads(told.stdout)
    assert (found["what"], found["breaks"], found["remedy"]) == (
        "the type is new", False, "Record it: bizos schemas export.",
    )  # fmt: skip
    assert run(app, ["schemas", "export", *options]).exit_code == 0
    assert run(app, ["schemas", "check", *options]).exit_code == 0


def test_a_document_that_is_out_of_date_is_noticed(options: list[str]) -> None:
    Path(options[3]).write_text("{}")
    assert run(app, ["schemas", "check", *options]).exit_code == 3


def test_without_the_folder_the_root_of_the_repository_is_asked_for(tmp_path: Path) -> None:
    told = run(app, ["schemas", "check", "--folder", str(tmp_path / "none")])
    assert told.exit_code == 1
    assert "repository's root" in told.stderr


def test_the_asyncapi_document_is_printed() -> None:
    told = run(app, ["schemas", "asyncapi"])
    assert json.loads(told.stdout)["asyncapi"] == "3.0.0"
