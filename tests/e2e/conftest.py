"""The whole platform, once for all journeys."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bizosaas_cli.story import Story
from bizosaas_cli.testing import Platform, running_platform
from bizosaas_sandbox.servers.base import UnavailableError


@pytest.fixture(scope="session")
def platform(run_folder: Path) -> Iterator[Platform]:
    try:
        with running_platform(run_folder / "platform") as platform:
            yield platform
    except UnavailableError as error:
        pytest.skip(f"not to be had on this machine: {error}")


@pytest.fixture(scope="session")
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
