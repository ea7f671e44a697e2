"""Servers go away and come back: a clear answer meanwhile, recovery without a restart, nothing accepted and lost."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from bizosaas_cli.story import Story
from bizosaas_cli.testing import Platform, eventually
from bizosaas_sandbox.servers.process import ProcessServer

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("platform")]


@pytest.fixture
def pids(platform: Platform, played: Story) -> Iterator[None]:
    """No service may end over an outage."""
    before = {name: service.pid for name, service in platform.machine.services.items()}
    yield
    assert {name: service.pid for name, service in platform.machine.services.items()} == before


def server(platform: Platform, name: str) -> ProcessServer:
    found = next(server for server in platform.machine.servers if server.name == name)
    assert isinstance(found, ProcessServer)
    return found


def rename(story: Story, label: str) -> int:
    """Change something and wait for its outcome; the status."""
    ada, path = story.people["ada"], f"/v1/connections/{story.blog}"
    etag = ada.send("GET", path).headers.get("ETag", "")
    return ada.send("PATCH", path, {"label": label}, If_Match=etag, Prefer="wait=10").status_code


@pytest.mark.usefixtures("pids")
def test_redis_is_killed_and_comes_back(platform: Platform, played: Story) -> None:
    ada = played.people["ada"]
    redis = server(platform, "Redis")
    redis.kill()
    try:
        refused = ada.send("POST", "/v1/workflows", {"name": "content_approval", "input": {}})
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["Content-Type"].startswith("application/problem+json")
    finally:
        redis.start()

    assert eventually(lambda: rename(played, "After Redis") == 200)
    assert eventually(lambda: ada.ask("GET", f"/v1/connections/{played.blog}")["label"] == "After Redis")


@pytest.mark.usefixtures("pids")
def test_what_waits_in_redis_when_it_is_killed_happens_after(platform: Platform, played: Story) -> None:
    redis, connectors = server(platform, "Redis"), platform.machine.services["connector-svc"].pid
    assert connectors is not None
    title = f"Accepted before Redis died {played.name}"
    os.kill(connectors, signal.SIGSTOP)  # so that it waits
    try:
        accepted = played.people["ada"].send(
            "POST", f"/v1/connections/{played.blog}/calls",
            {"operation": "cms.create_draft", "arguments": {"title": title, "body": "<p>x</p>"}},
        )  # fmt: skip
        assert accepted.status_code == 202
        assert played.posts(title) == []
        redis.kill()
        redis.start()
    finally:
        os.kill(connectors, signal.SIGCONT)

    assert eventually(lambda: len(played.posts(title)) == 1)
    assert eventually(lambda: played.people["ada"].ask("GET", accepted.headers["Location"])["status"] == "done")


@pytest.mark.usefixtures("pids")
def test_redis_forgets_everything_and_is_refilled(platform: Platform, played: Story) -> None:
    redis = server(platform, "Redis")
    redis.flushall()  # type: ignore[attr-defined]  # it is a Redis

    keys = platform.machine.keys
    ada = eventually(lambda: _signed_in(played, keys))
    assert ada, "sessions are gone with Redis: people sign in again"
    assert eventually(lambda: rename(played, "After a flush") == 200)
    assert eventually(
        lambda: played.people["ada"].ask("GET", f"/v1/connections/{played.blog}")["label"] == "After a flush"
    )
    assert eventually(lambda: _journalled(played, "After a flush"))


@pytest.mark.usefixtures("pids")
def test_postgresql_stops_at_once_and_comes_back(platform: Platform, played: Story) -> None:
    ada = played.people["ada"]
    postgres = server(platform, "PostgreSQL")
    postgres.kill()
    try:
        refused = ada.send("GET", "/v1/connections")
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        accepted = ada.send(
            "POST", f"/v1/connections/{played.blog}/calls",
            {"operation": "cms.create_draft", "arguments": {"title": "Written while PostgreSQL was away", "body": "<p>x</p>"}},
        )  # fmt: skip
        assert accepted.status_code in (202, 503)
    finally:
        postgres.start()

    assert eventually(lambda: rename(played, "After PostgreSQL") == 200)
    if accepted.status_code == 202:
        assert eventually(lambda: len(played.posts("Written while PostgreSQL was away")) == 1)


@pytest.mark.usefixtures("pids")
def test_temporal_goes_away_and_what_was_asked_for_meanwhile_happens_after(platform: Platform, played: Story) -> None:
    uma, ada = played.people["uma"], played.people["ada"]
    temporal = server(platform, "Temporal")
    temporal.kill()
    try:
        asked = {
            "name": "content_approval",
            "input": {"connection_id": played.blog, "content_id": played.content},
        }
        started = uma.ask("POST", "/v1/workflows", asked, Prefer="wait=10")
    finally:
        temporal.start()

    def pending() -> list[Any]:
        items = ada.ask("GET", "/v1/approvals?status=pending")["items"]
        return [approval for approval in items if approval["workflow_id"] == started["id"]]

    assert eventually(pending), "the workflow started when Temporal was back"


def _signed_in(story: Story, keys: dict[str, str]) -> bool:
    """Everybody of the story signs in again."""
    from bizosaas_cli.client import ProblemError
    from bizosaas_cli.story import PASSWORD

    try:
        for person, email in story.emails.items():
            story.sign_in(person, email, keys["BIZOS_ADMIN_PASSWORD"] if person == "root" else PASSWORD)
    except ProblemError:
        return False
    return True


def _journalled(story: Story, label: str) -> bool:
    entries = story.people["ada"].ask("GET", "/v1/audit/history?limit=20")["entries"]
    return any(label in entry["words"] for entry in entries)
