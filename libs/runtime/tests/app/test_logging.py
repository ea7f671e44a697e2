"""Log lines are JSON, and hold no secret."""

import json
import logging

import pytest
import structlog

from bizosaas_runtime.logging import configure, hide_secrets


@pytest.fixture(autouse=True)
def _restored() -> "object":
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_line_is_json_with_the_service_and_what_was_bound(capsys: pytest.CaptureFixture[str]) -> None:
    configure("tenant-svc", "INFO")
    structlog.contextvars.bind_contextvars(tenant="acme")
    structlog.get_logger("a").info("member added", member_id="1", password="hunter2")
    logging.getLogger("library").warning("standard %s", "library")
    logging.getLogger("library").debug("not at this level")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["service"], first["tenant"]) == ("member added", "tenant-svc", "acme")
    assert first["password"] == "***"
    assert (second["event"], second["level"]) == ("standard library", "warning")


def test_secrets_are_hidden_at_any_depth_and_references_are_not() -> None:
    shown = hide_secrets(
        None, "",
        {
            "event": "x", "secret_id": "s-1", "api_key": "k", "Authorization": "Bearer t",
            "request": {"headers": [{"Cookie": "c"}, {"accept": "a"}], "refresh_token": "r"},
            "pairs": ({"client_secret": "c"},),
        },
    )  # fmt: skip
    assert shown == {
        "event": "x", "secret_id": "s-1", "api_key": "***", "Authorization": "***",
        "request": {"headers": [{"Cookie": "***"}, {"accept": "a"}], "refresh_token": "***"},
        "pairs": [{"client_secret": "***"}],
    }  # fmt: skip
