"""No server outlives the process that started it, however that one ends."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bizosaas_sandbox.servers.binaries import Binary
from bizosaas_sandbox.servers.children import free_ports
from bizosaas_sandbox.servers.process import ProcessServer
from bizosaas_sandbox.servers.redis import Redis
from bizosaas_sandbox.servers.wordpress import WordPressStandIn

OWNER = """
import json, sys, time, threading
from pathlib import Path
from bizosaas_sandbox.servers.{module} import {kind}
servers = [{kind}(Path(sys.argv[1]){more})]
def start():
    for server in servers:
        server.start()
if {threaded}:  # a server must not end with the thread that started it
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    start()
print(json.dumps([server.pid for server in servers]), flush=True)
{then}
"""
KINDS = {
    "postgres": "Postgres",
    "redis": "Redis",
    "temporal": "Temporal",
    "openbao": "OpenBao",
    "oidc": "OidcProvider",
    "wordpress": "WordPress",
}


class Owner:
    """A process that has started a server."""

    def __init__(self, module: str, data: Path, *, cache: Path, then: str, threaded: bool = False) -> None:
        more = f", cache=Path({str(cache)!r})" if module in ("oidc", "wordpress") else ""
        script = OWNER.format(module=module, kind=KINDS[module], more=more, threaded=threaded, then=then)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        if not told:
            error = self.process.communicate()[1]
            if "UnavailableError" in error:
                pytest.skip(error.splitlines()[-1])
            raise AssertionError(error)
        self.server = psutil.Process(json.loads(told)[0])
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def ended(self) -> list[psutil.Process]:
        """Who of server, workers and guardian is left after a few seconds."""
        deadline = time.monotonic() + 10
        left = self.family
        while left and time.monotonic() < deadline:
            left = [process for process in left if _lives(process)]
            time.sleep(0.02)
        return left

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()
        self.ended()


@pytest.fixture
def data(run_folder: Path) -> Path:
    return run_folder / f"lifetime-{secrets.token_hex(4)}"


@pytest.mark.parametrize("module", KINDS)
def test_a_killed_owner_leaves_nothing_behind(module: str, data: Path, npm_cache: Path) -> None:
    owner = Owner(module, data, cache=npm_cache, then="time.sleep(60)")
    try:
        assert owner.server in owner.family
        owner.process.kill()
        assert owner.ended() == []
    finally:
        owner.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_owner_leaves_nothing_behind(how: signal.Signals, data: Path, npm_cache: Path) -> None:
    owner = Owner("redis", data, cache=npm_cache, then="time.sleep(60)")
    try:
        os.kill(owner.process.pid, how)
        assert owner.ended() == []
    finally:
        owner.close()


def test_an_owner_that_simply_ends_leaves_nothing_behind(data: Path, npm_cache: Path) -> None:
    owner = Owner("redis", data, cache=npm_cache, then="")
    try:
        assert owner.ended() == []
        assert owner.process.wait(10) == 0
    finally:
        owner.close()


def test_a_server_outlives_the_thread_that_started_it(data: Path, npm_cache: Path) -> None:
    owner = Owner("redis", data, cache=npm_cache, then="time.sleep(60)", threaded=True)
    try:
        time.sleep(0.3)
        assert _lives(owner.server)
        owner.process.kill()
        assert owner.ended() == []
    finally:
        owner.close()


def test_a_forked_child_leaves_its_parents_server_alone(data: Path, npm_cache: Path) -> None:
    then = "import os\nif os.fork() == 0: sys.exit()\nos.wait(); print('forked', flush=True); time.sleep(60)"
    owner = Owner("redis", data, cache=npm_cache, then=then)
    try:
        assert owner.process.stdout is not None
        assert owner.process.stdout.readline() == "forked\n"
        assert _lives(owner.server)
    finally:
        owner.close()
    assert owner.ended() == []


def test_what_owner_and_guardian_left_together_is_swept_at_the_next_start(data: Path, npm_cache: Path) -> None:
    owner = Owner("redis", data, cache=npm_cache, then="time.sleep(60)")
    try:
        for process in owner.family:
            if process != owner.server:
                process.kill()
        owner.process.kill()
        owner.process.wait()
        assert _lives(owner.server)

        with Redis(data):
            assert not _lives(owner.server)
    finally:
        owner.close()
        with suppress(psutil.NoSuchProcess):
            owner.server.kill()


def test_a_server_of_a_living_owner_is_left_alone(data: Path, npm_cache: Path) -> None:
    owner = Owner("redis", data, cache=npm_cache, then="time.sleep(60)")
    try:
        with pytest.raises(Exception, match=f"started by process {owner.process.pid}: end that one first"):
            Redis(data).start()
        assert _lives(owner.server)
    finally:
        owner.close()


def test_starting_and_stopping_twice_changes_nothing(data: Path) -> None:
    server = WordPressStandIn(data)
    assert server.start().start() is server
    server.stop()
    server.stop()
    assert not server.running


class Draining(ProcessServer):
    """Takes half a second to end what it has in hand."""

    name = "draining"
    url = ""

    def find(self) -> Binary:
        return Binary(path=Path(sys.executable), version="this", source="this environment")

    def command(self) -> list[str | Path]:
        program = """
import signal, sys, time
from pathlib import Path
def finish(*_):
    time.sleep(0.5)
    Path("finished").touch()
    sys.exit()
signal.signal(signal.SIGTERM, finish)
Path("ready").touch()
time.sleep(60)
"""
        return [self.binary.path, "-c", program]

    def ready(self) -> bool:
        return (self.data / "ready").exists()


@pytest.mark.parametrize(("grace", "finished"), [(10.0, True), (0.1, False)])
def test_a_server_may_finish_what_it_has_in_hand_within_its_grace(
    data: Path, monkeypatch: pytest.MonkeyPatch, grace: float, finished: bool
) -> None:
    monkeypatch.setattr(Draining, "grace", grace)
    server = Draining(data).start()
    server.stop()
    assert (data / "finished").exists() is finished


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says in a file which ports it gives to connections")
def test_no_connection_takes_a_port_that_was_free_before_its_server_does() -> None:
    """Temporal once found the port of its HTTP API taken by a client that looked for another server."""
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())

    ports = free_ports(200)

    assert len(set(ports)) == 200
    assert not [port for port in ports if lowest <= port <= highest]
