"""The tenant's events as they come, as Server-Sent Events."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Controller, get

from bizosaas_events import UnavailableError
from bizosaas_events.stopping import stop
from bizosaas_ports.access import Feature

from ...adapters.views import Told
from ..auth import needs
from ..call import ApiRequest, Call
from ..errors import InvalidParameterError

BATCH = 100
LOOK_SECONDS = 2.0
"""How often to look for what another instance has projected; our own commits wake the stream at once."""
HEARTBEAT_SECONDS = 15.0
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
]

_encode = msgspec.json.Encoder().encode


class EventStream:
    """A response that goes on until the client leaves, the session ends or the process drains."""

    def __init__(self, call: Call, after: int) -> None:
        self._call = call
        self._after = after

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        sending = asyncio.create_task(self._send(send))
        draining = asyncio.create_task(self._call.gateway.draining.wait())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await asyncio.wait([gone, sending, draining], return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = gone.done() and not gone.cancelled()
            await stop([gone, sending, draining])
        if not left:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Any) -> None:
        async for chunk in self._chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _chunks(self) -> AsyncIterator[bytes]:
        gateway, tenant = self._call.gateway, self._call.tenant
        yield b"retry: 2000\n\n"
        beat = time.monotonic()
        while True:
            told = await gateway.views.feed(tenant, self._after, BATCH)
            try:
                said = await gateway.persons.opened(b"".join(map(as_event, told)).decode(), tenant)
            except UnavailableError:
                told, said = [], ""  # who somebody is cannot be told now: all of it a little later
            if told:
                self._after = told[-1].number
                yield said.encode()
            if time.monotonic() - beat > HEARTBEAT_SECONDS:
                if await gateway.sessions.find(self._call.token) is None:
                    return
                beat = time.monotonic()
                yield b": still here\n\n"
            if len(told) < BATCH:
                await gateway.wakeups.wait(tenant, LOOK_SECONDS)


class Stream(Controller):
    path = "/v1/stream"
    tags = ("Events",)

    @get("/", opt=needs(Feature.VIEW_DASHBOARD, stream=True))
    async def follow(self, request: ApiRequest) -> EventStream:
        """Follow the tenant's events. `Last-Event-ID` resumes behind an event; 0 begins with the first one."""
        call = request.call
        said = call.header(b"last-event-id")
        if said and not (said.isascii() and said.isdigit() and len(said) < 19):
            raise InvalidParameterError(
                f"{said[:50]!r} is not the id of an event of this stream.", field="Last-Event-ID",
                remedy="Send the last `id` that was received, or 0 for everything.",
            )  # fmt: skip
        return EventStream(call, int(said) if said else await call.gateway.views.feed_end(call.tenant))


def as_event(told: Told) -> bytes:
    """One event of the stream."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (told.number, told.type.encode(), _encode(told))


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
