"""What the README shows runs as it stands there, and prints what it says."""

import re
from pathlib import Path
from typing import Any

import pytest

from bizosaas_events import Codec
from bizosaas_events.personal import opened
from bizosaas_events.store.base import Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.testing.account import a_context

README = Path(__file__).parents[2] / "README.md"
EXAMPLE, RULES, PERSONAL = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLE, README.name, "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out.strip()
    assert f"It prints `{printed}`" in README.read_text()


def test_the_rules_hold() -> None:
    exec(compile(RULES, README.name, "exec"), {"__name__": "rules"})


async def test_the_person_of_the_example_is_closed_and_erased() -> None:
    there: dict[str, Any] = {"__name__": "personal"}
    exec(compile(PERSONAL, README.name, "exec"), there)
    events = [there["PatientNamed"](patient_id="1", name="Ann"), there["PatientErased"](patient_id="1")]
    store = MemoryEventStore(Codec([there["PatientNamed"], there["PatientErased"]]), category="ward", source="example")

    named, _ = await store.append([Write("patient-1", 0, events)], a_context())

    text = named.data.decode()
    assert "Ann" not in text
    assert "closed(v1:1:" in text
    assert '"name":"(erased)"' in opened(text, {id: key for id, (_, key) in (await store.person_keys(["1"])).items()})
