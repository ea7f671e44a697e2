"""An event that nobody can read is put aside, shown, mended, tried again and given up from the command line, on record."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bizosaas_cli.testing import Operator, Platform
from bizosaas_events import Envelope, messages, new_id
from bizosaas_events.envelope import now
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_ports.access import PLATFORM_TENANT, Role

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("platform")]


class Letters(Operator):
    """Somebody who looks after what could not be handled."""

    def letters(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The gateway's dead letters, when they are as they should be."""
        end = time.monotonic() + 20
        while not wanted(found := self.rows("dlq", "list", "--service", "gateway")):
            assert time.monotonic() < end, found
            time.sleep(0.2)
        return found


@pytest.fixture
def operator(platform: Platform) -> Letters:
    return Letters(platform)


def record(platform: Platform, *events: tuple[str, dict[str, Any]]) -> str:
    """Let tenant-svc have recorded events of a member, as a faulty version of it might have; the member's stream."""
    member, correlation = new_id(), new_id()
    envelopes = [
        Envelope(
            id=new_id(), source="tenant-svc", type=type_, subject=f"member-{member}", time=now(),
            tenantid=PLATFORM_TENANT, actorid="service:tenant-svc", actorrole=Role.SERVICE, correlationid=correlation,
            causationid=correlation, streamversion=n, data=json.dumps({"type": type_, "member_id": member} | data).encode(),
        )
        for n, (type_, data) in enumerate(events, 1)
    ]  # fmt: skip
    url = platform.machine.services["tenant-svc"].settings["BIZOS_DATABASE_URL"]
    asyncio.run(_restore(url, envelopes))
    return f"member-{member}"


async def _restore(url: str, envelopes: Sequence[Envelope]) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        store = PostgresEventStore(pool, messages.codec(), category="tenant", source="tenant-svc", partitions=64)
        await store.restore(envelopes)


def king(name: str) -> tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]:
    """A member with a role that there is not, who then signs in."""
    added = {"tenant_id": PLATFORM_TENANT, "email": f"{name}@bizos.test", "name": name, "role": "king"}
    return ("tenant.member.added.v1", added), ("tenant.member.signed-in.v1", {"method": "password"})


def test_a_poisoned_event_is_mended_from_the_command_line(
    platform: Platform, operator: Letters, tmp_path: Path
) -> None:
    stream = record(platform, *king("Bob"))
    (letter,) = operator.letters(lambda found: [each["behind"] for each in found] == [1])
    assert (letter["key"], letter["failure"], letter["attempts"]) == (stream, "poison", 1)
    assert "Invalid enum value 'king'" in operator.done("dlq", "show", "gateway", letter["id"])
    shown = json.loads(operator.done("dlq", "show", "gateway", letter["id"], "--format", "json"))
    assert "$.role" in shown["letter"]["traceback"]
    assert [parked["type"] for parked in shown["parked"]] == ["tenant.member.signed-in.v1"]

    told = operator.run("dlq", "retry", "gateway", letter["id"], "--yes")
    assert (told.exit_code, "It failed again: UndecodableError" in told.output) == (1, True)

    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps(json.loads(shown["letter"]["fields"]["data"]) | {"role": "tenant_user"}))
    told = operator.run("dlq", "edit", "gateway", letter["id"], "--file", str(payload))
    assert (told.exit_code, "Go on?" in told.output) == (1, True), "nobody said yes"
    assert "handled" in operator.done("dlq", "edit", "gateway", letter["id"], "--file", str(payload), "--yes")
    assert operator.rows("dlq", "list", "--service", "gateway") == []

    history = operator.rows("audit", "history", "--limit", "200")
    edited, retried = (entry["words"] for entry in history if entry["type"].startswith("operations.dead-letter"))
    message = f"tenant.member.added.v1 of {stream}"
    assert edited == f"First administrator changed role of {message} for gateway@1 and had it tried again"
    assert retried == f"First administrator had {message} tried again, which gateway@1 could not handle"
    assert "BROKEN" not in operator.done("audit", "verify")


def test_a_redrive_asks_first_and_what_nobody_misses_is_given_up(platform: Platform, operator: Letters) -> None:
    streams = {record(platform, *king(name)) for name in ("Cat", "Dan")}
    letters = operator.letters(lambda found: {each["key"] for each in found} == streams)
    redrive = ("dlq", "redrive", "gateway", "--limit", "10", "--type", "tenant.member.added.v1")
    asked = operator.run(*redrive)
    assert (asked.exit_code, "Try 2 dead letters of gateway again" in asked.output) == (1, True)
    operator.done(*redrive, "--yes")
    operator.letters(lambda found: [each["attempts"] for each in found] == [2, 2])
    for letter in letters:
        operator.done("dlq", "discard", "gateway", letter["id"], "--reason", "a test", "--yes")
    assert operator.letters(lambda found: found == []) == []
    assert operator.done("dlq", "redrive", "gateway", "--limit", "10", "--yes") == "There are none.\n"
