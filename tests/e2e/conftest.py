"""The whole platform, once for all journeys."""

import json
import tempfile
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bizosaas_cli.story import Story
from bizosaas_cli.testing import Platform, logs_of, running_platform
from bizosaas_sandbox.servers.base import UnavailableError

LAST = ("test_dead_letters.py", "test_tampering.py")
"""In this order behind all others, which would meet what they leave: events that nobody can read, a forged journal."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LAST.index(item.path.name) + 1 if _comes_last(item) else 0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure comes what the services warned of meanwhile: their logs end with the run."""
    report = yield
    platform = getattr(item, "funcargs", {}).get("platform")
    if report.failed and platform is not None:
        said = [line for line in logs_of(platform).splitlines() if _is_warning(line, call.start)]
        report.sections.append(("What the services warned of", "\n".join(said[-50:])))
    return report


def _is_warning(line: str, since: float) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    warns = entry.get("level") in ("warning", "error", "critical")
    return warns and entry["timestamp"] >= datetime.fromtimestamp(since, UTC).isoformat()


def _comes_last(item: pytest.Item) -> bool:
    return item.path.parent == Path(__file__).parent and item.path.name in LAST


@pytest.fixture(scope="package")
def alone(testrun_uid: str) -> Iterator[None]:
    """That all journeys run in one worker: their order matters, and a second platform would cost a minute."""
    mark = Path(tempfile.gettempdir()) / f"bizos-platform-{testrun_uid}"
    mark.touch(exist_ok=False)
    yield
    mark.unlink()


@pytest.fixture(scope="package")
def platform(run_folder: Path, alone: None) -> Iterator[Platform]:
    """Ends with the last journey: idle, it would take a quarter of a core from all tests that follow."""
    try:
        with running_platform(run_folder / "platform") as platform:
            yield platform
    except UnavailableError as error:
        pytest.skip(f"not to be had on this machine: {error}")


@pytest.fixture(scope="package")
def played(platform: Platform) -> Iterator[Story]:
    """The story, played once; it raises when a step does not hold."""
    with platform.story() as story:
        story.play()
        yield story


@pytest.fixture
def story(platform: Platform) -> Iterator[Story]:
    """Another story, not yet begun, in a tenant of its own."""
    with platform.story() as story:
        yield story
