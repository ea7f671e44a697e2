"""The payload that somebody edits, before anything is sent."""

import json
from pathlib import Path

import pytest
import typer

from bizosaas_cli.dlq import brief, read_payload

RECORDED = '{"type":"tenant.member.added.v1","role":"king"}'


def test_a_payload_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"role": "tenant_user"}')

    assert read_payload(RECORDED, file) == {"role": "tenant_user"}


def test_a_payload_comes_from_an_editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/king/tenant_user/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))

    assert read_payload(RECORDED, None) == json.loads(RECORDED) | {"role": "tenant_user"}


@pytest.mark.parametrize("text", ["", "[1]", "{", "7"])
def test_what_is_no_object_is_said(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "payload.json"
    file.write_text(text)

    with pytest.raises(typer.Exit):
        read_payload(RECORDED, file)
    assert "one JSON object" in capsys.readouterr().err


def test_an_editor_that_changes_nothing_is_not_a_second_try(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISUAL", "true")

    with pytest.raises(typer.Exit):
        read_payload(RECORDED, None)
    assert "bizos dlq retry" in capsys.readouterr().err


def test_a_row_is_one_line() -> None:
    row = brief({"first_at": "2026-11-26T07:28:54.126738Z", "reason": "a\nb" + "x" * 100})

    assert (row["first_at"], row["reason"]) == ("2026-11-26T07:28:54Z", "a b" + "x" * 77 + "…")
