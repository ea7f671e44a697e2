"""The outermost ASGI application: health, limits, request ids, traces, security headers, metrics and the access log.

Plain ASGI and no more of it than needed, because every request passes here.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import structlog
from litestar.types import ASGIApp
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from bizosaas_events import problem_of
from bizosaas_runtime import telemetry
from bizosaas_runtime.health import Health

from .access_log import AccessLog
from .answers import Answer, problem_answer
from .call import Call, Gateway, new_traceparent
from .errors import BodyTooLargeError, StartingError
from .failures import answer_for

BODY_LIMIT = 1024 * 1024
DRAINED_LIMIT = 16 * BODY_LIMIT
"""So much of a body that is too large is read and dropped, so that the client hears why."""

REQUESTS = Counter("bizos_http_requests_total", "Answered requests.", ["method", "route", "status"])
SECONDS = Histogram("bizos_http_request_seconds", "Time to answer a request, streams excepted.", ["route"])

_HEALTH = {"/livez", "/readyz", "/metrics"}
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_CSP = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NO_STORE = (b"cache-control", b"no-store")
_HSTS = (b"strict-transport-security", b"max-age=31536000")

_log = structlog.get_logger(__name__)


class Edge:
    """Answers what needs no application by itself, and hands the rest to `app` once there is one."""

    def __init__(self, health: Health, access_log: AccessLog, *, https: bool, tracing: bool) -> None:
        self.app: ASGIApp | None = None
        self.gateway: Gateway | None = None
        self.in_hand = 0
        self._idle: asyncio.Event | None = None
        self._health = health
        self._access_log = access_log
        self._tracing = tracing
        self._always = [*_SECURITY, _HSTS] if https else _SECURITY
        self._counters: dict[tuple[str, str, int], Any] = {}
        self._timers: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        if scope["path"] in _HEALTH:
            await self._answer_health(scope, send)
            return
        if self.gateway is None or self.app is None:
            answer = problem_answer(problem_of(StartingError()), None)
            await answer(scope, receive, self._secured(send, []))
            return
        self.in_hand += 1
        try:
            await self._answer(self.app, Call(self.gateway, scope), scope, receive, send)
        finally:
            self.in_hand -= 1
            if self._idle is not None and not self.in_hand:
                self._idle.set()

    async def drained(self, seconds: float) -> bool:
        """Wait until nothing is in hand, at most so long."""
        if self.in_hand:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)
        return self.in_hand == 0

    async def _answer(self, app: ASGIApp, call: Call, scope: Any, receive: Any, send: Any) -> None:
        began = time.perf_counter()
        started: list[int] = []
        scope["call"] = call
        secured = self._secured(send, started, (b"x-request-id", call.request_id.encode()))
        try:
            if self._tracing:
                with telemetry.span(scope["method"], call.header(b"traceparent"), SpanKind.SERVER) as span:
                    call.traceparent = telemetry.traceparent()
                    await self._hand_on(app, call, scope, receive, secured)
                    span.update_name(f"{scope['method']} {scope.get('path_template', '')}")
            else:
                call.traceparent = new_traceparent(call.headers.get(b"traceparent", b"").decode("latin-1"))
                await self._hand_on(app, call, scope, receive, secured)
        except Exception as error:
            # The application answers its own errors; what comes here is a bug in it, or one half-way in a stream.
            answer = answer_for(error, call, method=scope["method"], path=scope["path"])
            if not started:
                await answer(scope, receive, secured)
        finally:
            self._account(call, scope, started[0] if started else 499, time.perf_counter() - began)

    async def _hand_on(self, app: ASGIApp, call: Call, scope: Any, receive: Any, send: Any) -> None:
        length = call.headers.get(b"content-length")
        if length is None:
            if b"transfer-encoding" in call.headers or scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                receive = _limited(receive)
        elif not length.isdigit() or int(length) > BODY_LIMIT:
            await _drop(receive)
            await problem_answer(problem_of(BodyTooLargeError(BODY_LIMIT)), call)(scope, receive, send)
            return
        await app(scope, receive, send)

    def _secured(self, send: Any, started: list[int], *more: tuple[bytes, bytes]) -> Any:
        async def secured(message: Any) -> None:
            if message["type"] == "http.response.start":
                started.append(message["status"])
                headers = [*message["headers"], *self._always, *more]
                names = {name for name, _ in message["headers"]}
                if _CSP[0] not in names:
                    headers.append(_CSP)
                if _NO_STORE[0] not in names:
                    headers.append(_NO_STORE)
                message["headers"] = headers
            await send(message)

        return secured

    def _account(self, call: Call, scope: Any, status: int, seconds: float) -> None:
        method, route = scope["method"], scope.get("path_template") or "unknown"
        key = (method if len(method) < 8 else "other", route, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = REQUESTS.labels(key[0], route, str(status))
        counter.inc()
        if route != "/v1/stream":
            timer = self._timers.get(route)
            if timer is None:
                timer = self._timers[route] = SECONDS.labels(route)
            timer.observe(seconds)
        self._access_log.note(
            {
                "timestamp": datetime.now(UTC), "level": "info", "logger": "gateway.access", "event": "request",
                "service": "gateway", "method": method, "path": scope["path"], "route": route, "status": status,
                "ms": round(seconds * 1000, 2), "request_id": call.request_id, "client": call.client,
                "tenant": call.tenant, "member": call.session.member_id if call.session else "",
            }
        )  # fmt: skip

    async def _answer_health(self, scope: Any, send: Any) -> None:
        status, content_type, body = await self._health.answer(scope["path"])
        answer = Answer(status, body, media_type=content_type.encode())
        await answer(scope, None, self._secured(send, []))


def _limited(receive: Any) -> Any:
    """A body whose length was not announced is counted while it comes."""
    seen = 0

    async def limited() -> Any:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > BODY_LIMIT:
                raise BodyTooLargeError(BODY_LIMIT)
        return message

    return limited


async def _drop(receive: Any) -> None:
    seen = 0
    while seen < DRAINED_LIMIT:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return
        seen += len(message.get("body", b""))
