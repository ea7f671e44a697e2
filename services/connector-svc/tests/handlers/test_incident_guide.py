"""The guide shows a test that runs, on a recording that is there."""

import re
from pathlib import Path

HERE = Path(__file__).parent
GUIDE = (Path(__file__).parents[4] / "docs" / "guides" / "from-an-incident-to-a-test.md").read_text()


def test_the_guides_code_is_a_test_of_ours() -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    _, _, test = (HERE / "test_incidents.py").read_text().partition('"""\n\n')
    assert shown == test


def test_the_guides_recording_is_the_one_that_is_there() -> None:
    recording = (HERE / "killed-in-a-call.ndjson").read_text()
    (command,) = re.findall(r"bizos replay record .*?\n\n?```", GUIDE, re.S)
    streams = re.findall(r"--stream (\S+)", command)
    assert len(streams) == 2
    assert [stream for stream in streams if f'"subject":"{stream}"' not in recording] == []
    assert "4 events of 2 streams are in killed-in-a-call.ndjson." in GUIDE
    assert recording.count("\n") == 5
