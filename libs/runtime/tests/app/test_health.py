"""Alive is who answers; ready is who has nothing to complain about."""

import json
import socket

import pytest

from bizosaas_runtime.health import PORT_TAKEN, Health, require_free


async def test_a_process_is_ready_when_no_check_complains() -> None:
    health = Health()
    health.checks["redis"] = lambda: ""
    assert (await health.answer("/readyz"))[0] == 200


async def test_what_is_wrong_is_said_by_name() -> None:
    async def slow() -> str:
        return "away: ConnectionError"

    health = Health()
    health.checks |= {"redis": slow, "relay": lambda: ""}
    status, content_type, body = await health.answer("/readyz")
    assert (status, content_type) == (503, "application/json")
    assert json.loads(body) == {"status": "not ready", "problems": {"redis": "away: ConnectionError"}}
    assert (await health.answer("/livez"))[0] == 200


async def test_metrics_are_those_of_prometheus_and_other_paths_are_unknown() -> None:
    status, content_type, body = await Health().answer("/metrics")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    assert b"bizos_" in body or b"python_info" in body
    assert (await Health().answer("/other"))[0] == 404


def test_a_port_that_is_taken_ends_the_process_with_the_setting_that_names_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as ended:
        require_free("BIZOS_HEALTH_PORT", "127.0.0.1", taken.getsockname()[1])

    assert ended.value.code == PORT_TAKEN
    assert capsys.readouterr().err.startswith("BIZOS_HEALTH_PORT: 127.0.0.1:")
