"""The fixtures are there without an import, in any project that has this package."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEST = """
import pytest
from bizosaas_events.testing.account import ACCOUNT, CODEC, Account, Deposited

@pytest.fixture
def event_codec():
    return CODEC

def test_it(recording, replayed):
    state = replayed(recording("deposit.ndjson"), ACCOUNT).state()
    assert state == Account(EXPECTED)
"""
RECORDING = """
{"format":"bizosaas-events/recording","version":1,"recorded_at":"2026-01-01T00:00:00Z","source":"x","selection":{},"events":1,"masked":{},"note":""}
{"time":"2026-01-01T00:00:00Z","type":"account.account.deposited.v1","subject":"account-1","streamversion":1,"actorid":"member:1","actorrole":"r","data":{"type":"account.account.deposited.v1","cents":5},"id":"0190a000-0000-7000-8000-00000000c0de","source":"x","tenantid":"acme","correlationid":"c","causationid":"c","partition":0,"sequence":1}
"""


@pytest.mark.parametrize(("expected", "code"), [("5", 0), ("6", 1)])
def test_a_project_of_its_own_replays_and_is_told_what_differs(tmp_path: Path, expected: str, code: int) -> None:
    (tmp_path / "test_deposit.py").write_text(TEST.replace("EXPECTED", expected))
    (tmp_path / "deposit.ndjson").write_text(RECORDING.strip())
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == code, done.stdout + done.stderr
    if code:
        assert re.search(r"assert Account == Account, which differ in:\nE +cents: 5 != 6\n", done.stdout), done.stdout
