"""What the README shows runs as it stands there, and prints what it says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
EXAMPLE, RULES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLE, README.name, "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out.strip()
    assert f"It prints `{printed}`" in README.read_text()


def test_the_rules_hold() -> None:
    exec(compile(RULES, README.name, "exec"), {"__name__": "rules"})
