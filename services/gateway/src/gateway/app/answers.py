"""Answers as plain ASGI: built once, from bytes that are JSON already where they come from the database or a service."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bizosaas_events import Problem
from bizosaas_runtime import problems

from .call import Call

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"
HTML = b"text/html; charset=utf-8"

_encode = msgspec.json.Encoder().encode


class Answer:
    """One whole response. Handlers return it, exception handlers too."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), *, media_type: bytes = JSON
    ) -> None:
        self.status = status
        self.body = body
        self.headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body)), *headers]
        if status in (204, 304):
            self.headers = list(headers)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})

    def to_asgi_response(self, **_: object) -> "Answer":
        """What Litestar calls on the answer of an exception handler."""
        return self


def json_answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """A value as JSON."""
    return Answer(status, _encode(value), encoded(headers or {}))


def problem_answer(problem: Problem, call: Call | None, headers: Mapping[str, str] | None = None) -> Answer:
    """A refusal as `application/problem+json` (RFC 9457)."""
    document = problems.document(problem, instance=f"urn:request:{call.request_id}" if call else "")
    found = {**problems.headers(problem), **(headers or {})}
    if document["status"] == 401:
        found["WWW-Authenticate"] = 'Bearer realm="bizosaas"'
    return Answer(document["status"], _encode(document), encoded(found), media_type=PROBLEM_JSON)


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them. A line break, which would begin another header, is dropped."""
    return [
        (name.lower().encode(), value.replace("\r", "").replace("\n", "").encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
