"""The pytest plugin, seen from a run of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

USES = """
import time

def test_it(redis_server):
    print(f"pid {redis_server.pid} folder {redis_server.data.parent}", flush=True)
    time.sleep(SECONDS)
"""


def _run(folder: Path, test: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    (folder / "test_sample.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-ra", "-p", "no:cacheprovider", "."],
        cwd=folder,
        env=os.environ | dict(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _server_of(run: "subprocess.Popen[str]") -> tuple[int, Path]:
    assert run.stdout is not None
    for line in run.stdout:
        if found := re.search(r"pid (\d+) folder (\S+)", line):
            return int(found[1]), Path(found[2])
    raise AssertionError("the run ended before its test began")


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_run_ends_with_its_servers_and_data_gone(tmp_path: Path) -> None:
    run = _run(tmp_path, USES.replace("SECONDS", "0"))
    pid, data = _server_of(run)
    run.communicate(timeout=60)
    assert run.returncode == 0
    assert _gone(pid)
    assert not data.exists()


def test_ctrl_c_ends_the_servers_and_removes_their_data(tmp_path: Path) -> None:
    run = _run(tmp_path, USES.replace("SECONDS", "60"))
    pid, data = _server_of(run)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert _gone(pid)
    assert not data.exists()


def test_the_data_of_a_killed_run_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = _run(tmp_path, USES.replace("SECONDS", "60"))
    pid, data = _server_of(killed)
    killed.kill()
    killed.communicate()
    assert _gone(pid)
    assert data.exists()

    run = _run(tmp_path, USES.replace("SECONDS", "0"))
    run.communicate(timeout=60)

    assert run.returncode == 0
    assert not data.exists()


def test_what_cannot_be_had_is_skipped_with_the_reason(tmp_path: Path) -> None:
    offline = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_cache": str(tmp_path / "empty")}
    said, _ = _run(tmp_path, "def test_it(oidc_server): pass", offline).communicate(timeout=120)
    assert "SKIPPED [1]" in said
    assert "oidc: npm could not fetch it (no network?)" in said
    assert "1 skipped" in said


def test_the_header_names_every_server_with_its_version(tmp_path: Path) -> None:
    said, _ = _run(tmp_path, "def test_it(): pass").communicate(timeout=60)
    header = next(line for line in said.splitlines() if line.startswith("servers: "))
    for name in ("PostgreSQL", "Redis", "Temporal", "OpenBao", "Node"):
        assert name in header


def test_containers_that_no_engine_could_run_are_replaced(tmp_path: Path) -> None:
    asked = {"BIZOS_TEST_CONTAINERS": "1", "DOCKER_HOST": f"unix://{tmp_path}/no-engine.sock"}
    run = _run(tmp_path, USES.replace("SECONDS", "0"), asked)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert "in a container" not in said


def test_the_run_folder_can_be_entered_by_the_user_postgres_runs_as(run_folder: Path) -> None:
    assert run_folder.parent == Path(tempfile.gettempdir())
    assert run_folder.stat().st_mode & 0o777 == 0o711


@pytest.mark.parametrize("arguments", [[], ["nobody", "--port", "1"]])
def test_the_command_line_says_which_stand_ins_there_are(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bizosaas_sandbox", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "wordpress" in done.stderr
