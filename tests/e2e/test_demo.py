"""`bizos demo` as a newcomer sees it: the story told, the addresses, `bizos status` beside it, and Ctrl-C."""

import json
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from bizosaas_cli.demo import play
from bizosaas_cli.stage import StoryError
from bizosaas_sandbox.servers.children import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("platform")]

ROOT = Path(__file__).parents[2]
BIZOS = Path(sys.executable).parent / "bizos"
STAYS = "The platform stays up"
WITHIN = 150.0


class Demo:
    """A demo that runs, and what it has printed."""

    def __init__(self, data: Path) -> None:
        self.port, self.temporal_port = free_ports(2)
        self.data = data
        command: list[str | Path] = [
            BIZOS,
            "demo",
            "--data",
            data,
            "--port",
            str(self.port),
            "--temporal-port",
            str(self.temporal_port),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        self.lines: list[str] = []

    def read_until(self, phrase: str) -> None:
        """Read until a line has this, or all of it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if phrase in line:
                return

    @property
    def told(self) -> str:
        return "".join(self.lines)


@pytest.fixture
def demo(run_folder: Path) -> Iterator[Demo]:
    demo = Demo(run_folder / f"demo-{secrets.token_hex(4)}")
    dog = threading.Timer(WITHIN, demo.process.kill)
    dog.start()
    try:
        yield demo
    finally:
        dog.cancel()
        demo.process.kill()
        demo.process.communicate()


@pytest.mark.timeout(240)
def test_a_newcomer_is_shown_each_step_and_where_everything_is_until_ctrl_c(demo: Demo) -> None:
    demo.read_until(STAYS)
    if "cannot be had" in demo.told:
        pytest.skip(demo.told.strip().splitlines()[-1])
    family = psutil.Process(demo.process.pid).children(recursive=True)

    steps = re.split(r"(?m)^(?=\d\. )", demo.told.partition("Every step held")[0])[1:]
    assert [step[0] for step in steps] == list("123456"), demo.told
    for step in steps:
        assert re.search(r"(?m)^   (petra|ada|uma) +(GET|POST) +/v1/\S+  \d{3} ", step), step
        assert re.search(r"took \d+\.\d\d s", step), step
        if not step.startswith("6"):  # which only reads
            assert re.search(r"(?m)^   · [a-z]+\.\S+\.v1  ", step), step
    assert "the CMS is WordPress" in steps[1]
    assert "simulated" in steps[2]
    held = re.search(r"Every step held, in (\d+\.\d) s", demo.told)
    assert held is not None

    for address in (f"http://127.0.0.1:{demo.port}/docs", f"http://127.0.0.1:{demo.temporal_port}"):
        assert address in demo.told
        assert httpx.get(address, follow_redirects=True, timeout=10).status_code == 200
    status = subprocess.run(
        [BIZOS, "status", "--data", demo.data, "--format", "json"], capture_output=True, text=True, timeout=30
    )
    assert status.returncode == 0, status.stdout + status.stderr
    found = [row["status"] for row in json.loads(status.stdout)]
    assert (found.count("ready"), found.count("answers"), len(found)) == (7, 3, 10)

    demo.process.send_signal(signal.SIGINT)
    demo.read_until("stopped")
    assert demo.process.wait(60) == 0, demo.told
    assert [process for process in family if process.is_running()] == []


class Broken:
    """A story of which one step does not hold."""

    def __enter__(self) -> "Broken":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def play(self) -> None:
        raise StoryError("the draft is not there")


def test_a_story_that_breaks_is_said_to_be_broken(capsys: pytest.CaptureFixture[str]) -> None:
    assert play(Broken()) is False  # type: ignore[arg-type]  # all that is asked of a story here
    assert "the draft is not there" in capsys.readouterr().out
