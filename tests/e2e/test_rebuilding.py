"""Projections are built anew, compared, swapped, rolled back and dropped from the command line, while all else goes on."""

import json
from typing import Any

import pytest

from bizosaas_cli.story import Story
from bizosaas_cli.testing import Operator, Platform
from bizosaas_events.testing.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("platform")]


@pytest.fixture
def operator(platform: Platform, played: Story) -> Operator:
    """There is something to build from: the story was played."""
    return Operator(platform)


def version(operator: Operator, name: str, number: int) -> dict[str, Any]:
    rows = operator.rows("projections", "list")
    return next(row for row in rows if (row["projection"], row["version"]) == (name, number))


async def test_a_projection_is_rebuilt_from_the_command_line(operator: Operator) -> None:
    for name in ("gateway", "agent-connections"):
        before = operator.rows("projections", "list")
        number = 1 + max(row["version"] for row in before if row["projection"] == name)
        told = operator.done("projections", "build", name)
        assert told.startswith(f"Version {number} of {name} is being built")

        async def built(name: str = name, number: int = number) -> bool:
            return bool(version(operator, name, number)["events_behind"] == 0)

        await until(built, 30, what=f"version {number} of {name} is built")
        compared = json.loads(operator.done("projections", "compare", name, "1", str(number), "--format", "json"))
        assert [table["differing"] for table in compared["tables"]] == [0]
        assert compared["tables"][0]["new_rows"] > 0
        print(operator.done("projections", "compare", name, "1", str(number)))

        operator.done("projections", "swap", name, str(number), "--yes")
        print(operator.done("projections", "list"))
        assert version(operator, name, number)["state"] == "live"
        refused = operator.run("projections", "drop", name, str(number), "--yes")
        assert (refused.exit_code, "Swap to another version first" in refused.stderr) == (1, True)

        operator.done("projections", "swap", name, "1", "--yes")
        assert [version(operator, name, n)["state"] for n in (1, number)] == ["live", "kept"]

        async def dropped(name: str = name, number: int = number) -> bool:
            return operator.run("projections", "drop", name, str(number), "--yes").exit_code == 0

        await until(dropped, 30, what="it was not read for long enough, and is dropped")

    unknown = operator.run("projections", "build", "planets")
    assert "there is agent-connections, gateway" in unknown.stderr
