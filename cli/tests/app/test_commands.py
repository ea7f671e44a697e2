"""What the commands say when there is nothing to say it about."""

import fcntl
import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bizosaas_cli.machine import AlreadyRunningError, CannotStartError, Machine, ServiceProcess
from bizosaas_cli.main import app
from bizosaas_cli.output import Format, show
from bizosaas_runtime.commands import DRAIN_SECONDS
from bizosaas_sandbox.servers.base import silent
from bizosaas_sandbox.servers.children import free_port

run = CliRunner().invoke


def test_status_of_nothing_says_how_to_start_it(tmp_path: Path) -> None:
    told = run(app, ["status", "--data", str(tmp_path)])

    assert told.exit_code == 1
    assert "bizos up" in told.stderr


def test_status_shows_a_service_and_a_server_that_do_not_answer(tmp_path: Path) -> None:
    note = {
        "servers": [{"name": "Redis", "version": "8.2", "source": "wheel", "url": "redis://127.0.0.1:1"}],
        "services": [{"name": "tenant-svc", "url": "http://127.0.0.1:9", "pid": 1}],
    }
    (tmp_path / "run.json").write_text(json.dumps(note))

    told = run(app, ["status", "--data", str(tmp_path), "--format", "json"])

    assert told.exit_code == 3
    assert [found["status"] for found in json.loads(told.stdout)] == ["no answer", "no answer"]


def test_audit_without_a_platform_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "give --email" in run(app, ["audit", "verify"]).stderr

    monkeypatch.setenv("BIZOS_PASSWORD", "something")
    told = run(app, ["audit", "verify", "--email", "a@b.test", "--url", "http://127.0.0.1:9"])
    assert told.exit_code == 1
    assert "bizos up" in told.stderr


def test_a_second_platform_on_the_same_data_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a+") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(AlreadyRunningError, match=r"process 4711.*--data"):
            Machine(tmp_path, silent).start()


def test_a_port_in_use_is_named_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AlreadyRunningError, match=f"Port {port} is in use.*--port"):
            Machine(tmp_path, silent, port=port).start()


def test_a_folder_that_cannot_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CannotStartError, match=r"cannot be written.*--data"):
        Machine(tmp_path / "file" / "data", silent, port=free_port(), temporal_ui_port=free_port()).start()


def test_one_port_for_two_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotStartError, match="choose two"):
        Machine(tmp_path, silent, port=8000, temporal_ui_port=8000).start()


@pytest.mark.parametrize("text", ["BIZOS_SECRET_SVC_SEALING_KEY=changed", "BIZOS_AUDIT_SIGNING_KEY=changed"])
def test_keys_that_were_changed_by_hand_are_named_by_their_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.env").write_text(text)

    with pytest.raises(CannotStartError, match=r"keys\.env was changed"):
        Machine(tmp_path, silent, port=free_port(), temporal_ui_port=free_port()).start()


def test_words_of_others_do_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"words": "asked to connect “\x1b[31m[/bold]\u202e”"}], ("words",), Format.TABLE, "")

    shown = capsys.readouterr().out
    assert "[/bold]" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


def test_a_service_that_drains_is_given_the_time_for_it() -> None:
    assert ServiceProcess.grace > DRAIN_SECONDS
