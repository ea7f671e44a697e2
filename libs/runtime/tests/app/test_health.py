"""Alive is who answers; ready is who has nothing to complain about."""

import json

from bizosaas_runtime.health import Health


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
