"""The pytest plugin, seen from a run of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from bizosaas_sandbox.servers import containers

USES = """
import time

def test_it(redis_server):
    print(f"pid {redis_server.pid} folder {redis_server.data.parent}", flush=True)
    time.sleep(SECONDS)
"""

IN_BOTH_WORKERS = """
import time
import pytest

@pytest.mark.parametrize("n", range(2))
def test_it(redis_server, n):
    with open(f"pid-{redis_server.pid}", "w") as told:
        told.write(str(redis_server.data.parent))
    time.sleep(60)
"""


def _run(
    folder: Path, test: str, env: Mapping[str, str] | None = None, *, arguments: Sequence[str] = ()
) -> "subprocess.Popen[str]":
    (folder / "test_sample.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-ra", "-p", "no:cacheprovider", *arguments, "."],
        cwd=folder,
        env=os.environ | {"BIZOS_TEST_CONTAINERS": "0"} | dict(env or {}),
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


def test_runs_beside_each_other_leave_each_other_alone_and_an_interrupted_one_ends_its_servers(tmp_path: Path) -> None:
    first = _run(_made(tmp_path / "first"), IN_BOTH_WORKERS, arguments=["-n", "2"])
    deadline = time.monotonic() + 60
    servers: dict[int, str] = {}
    while len(servers) < 2 or "" in servers.values():
        assert time.monotonic() < deadline, "the workers did not come to their tests"
        time.sleep(0.05)
        servers = {int(told.name[4:]): told.read_text() for told in tmp_path.glob("first/pid-*")}

    second = _run(_made(tmp_path / "second"), USES.replace("SECONDS", "0"))
    second.communicate(timeout=60)

    assert second.returncode == 0
    assert all(psutil.pid_exists(pid) and Path(data).exists() for pid, data in servers.items())
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert all(_gone(pid) for pid in servers)
    assert not any(Path(data).exists() for data in servers.values())


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


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
    nowhere = {"BIZOS_TEST_CONTAINERS": "", "DOCKER_HOST": f"unix://{tmp_path}/no-engine.sock"}
    run = _run(tmp_path, USES.replace("SECONDS", "0"), nowhere)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert "in a container" not in said


@pytest.mark.parametrize("asked", ["", "0"])
def test_where_an_engine_is_there_it_runs_postgres_and_redis(tmp_path: Path, asked: str) -> None:
    if not containers.wanted():
        pytest.skip("no container engine answers here that has the images or can fetch them")
    works = """
def test_it(new_database, redis_url):
    import asyncio, asyncpg
    from redis import Redis
    assert Redis.from_url(redis_url).ping()
    async def ask():
        connection = await asyncpg.connect(new_database())
        assert await connection.fetchval("select 41 + 1") == 42
        await connection.close()
    asyncio.run(ask())
"""
    said, _ = _run(tmp_path, works, {"BIZOS_TEST_CONTAINERS": asked}).communicate(timeout=120)
    assert "1 passed" in said
    assert ("PostgreSQL in a container, Redis in a container" in said) is (asked != "0")


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
