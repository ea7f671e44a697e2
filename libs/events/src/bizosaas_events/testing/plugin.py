"""Pytest fixtures to replay recordings, and differences between states told field by field.

Registered as a pytest plugin by this package, so every test has them without
importing anything.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from ..codec import Codec
from .folding import Into
from .recording import Recording
from .replayed import Replayed

OpenRecording = Callable[..., Recording]
Replay = Callable[[Recording, Into], Replayed]


@pytest.fixture
def event_codec() -> Codec | None:
    """The codec recordings are read with where a test names none; override it in a conftest.py."""
    return None


@pytest.fixture
def recording(request: pytest.FixtureRequest, event_codec: Codec | None) -> OpenRecording:
    """Call it for a recording that lies beside the test: `recording("incident-4711.ndjson", codec())`."""

    def read(name: str, codec: Codec | None = None) -> Recording:
        __tracebackhide__ = True
        path = request.path.parent / name
        if (codec := codec or event_codec) is None:
            pytest.fail(f"recording({name!r}) needs a codec: give it one, or define the fixture event_codec.")
        if not path.exists():
            there = ", ".join(sorted(each.name for each in request.path.parent.glob("**/*.ndjson"))) or "none"
            pytest.fail(f"There is no recording {path}; beside the test there are: {there}.")
        return Recording.read(path, codec)

    return read


@pytest.fixture
def replayed() -> Replay:
    """Call it with a recording and a decider or views, and make assertions about the states: see `Replayed`."""
    return lambda recording, into: Replayed(recording.envelopes, recording.codec, into)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> Sequence[str] | None:
    """Two states or events of one type: only the fields that differ, since the rest hides them."""
    if op != "==" or type(left) is not type(right) or not isinstance(left, msgspec.Struct):
        return None
    fields: list[tuple[str, Any, Any]] = [
        (name, getattr(left, name), getattr(right, name)) for name in left.__struct_fields__
    ]
    told = [f"  {name}: {mine!r} != {yours!r}" for name, mine, yours in fields if mine != yours]
    return [f"{type(left).__name__} == {type(left).__name__}, which differ in:", *told]
