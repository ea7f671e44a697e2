"""Health: `/livez`, `/readyz` and `/metrics` of a worker, on a port of their own."""

import contextlib
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

PORT_TAKEN = 75
"""The exit code for a port that something else listens on: EX_TEMPFAIL of sysexits.h."""

Check = Callable[[], Awaitable[str] | str]
"""Says what is wrong, in one sentence; empty: nothing."""


class Health:
    """What makes a process ready. Alive is whoever answers."""

    def __init__(self) -> None:
        self.checks: dict[str, Check] = {}

    async def problems(self) -> dict[str, str]:
        """What keeps this process from being ready, by check."""
        found = {}
        for name, check in self.checks.items():
            said = check()
            text = said if isinstance(said, str) else await said
            if text:
                found[name] = text
        return found

    async def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/livez":
            return 200, "application/json", b'{"status":"alive"}'
        if path == "/readyz":
            problems = await self.problems()
            body = {"status": "not ready", "problems": problems} if problems else {"status": "ready"}
            return 503 if problems else 200, "application/json", json.dumps(body).encode()
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest()
        return 404, "application/json", b'{"status":"unknown path"}'

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        status, content_type, body = await self.answer(scope["path"])
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type.encode())]}
        )
        await send({"type": "http.response.body", "body": body})


class HealthServer(uvicorn.Server):
    """Serves health beside the work of the process, whose signals are not its business."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(health, host=host, port=port, log_config=None, lifespan="off", access_log=False)
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def require_free(name: str, host: str, port: int) -> None:
    """End the process with one sentence when the port is taken; the servers themselves would not say what to do."""
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            print(
                f"{name}: {host}:{port} cannot be listened on ({error.strerror}). "
                "Stop what uses it, or choose another port.",
                file=sys.stderr,
            )
            raise SystemExit(PORT_TAKEN) from error
