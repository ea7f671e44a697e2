"""A proxy in front of a real vendor that fails in the ways vendors fail."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from bizosaas_events.stopping import stop

Fault = Callable[["FaultyProxy", bytes, asyncio.StreamWriter], Awaitable[None]]
"""Takes the whole request and the way back to the client."""


class FaultyProxy:
    """HTTP/1.1 on loopback: passes requests on to `target`, but for those that `faults` holds something for.

    `requests` keeps each request's first line; with `only` set, faults wait for a request that begins with it.
    """

    def __init__(self, target: str = "") -> None:
        self.faults: deque[Fault] = deque()
        self.requests: list[str] = []
        self.only = ""
        self.held = asyncio.Event()
        """Set when a request is being held."""
        self._target = urlsplit(target)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await stop(self._tasks)

    async def forward(self, request: bytes) -> bytes:
        """Ask the target, and its whole answer."""
        reader, writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            head, _, body = request.partition(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            writer.write(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
            return await reader.read()
        finally:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        request = head + await reader.readexactly(length)
        self.requests.append(head.split(b"\r\n")[0].decode())
        if self.faults and self.requests[-1].startswith(self.only):
            await self.faults.popleft()(self, request, writer)
            return
        writer.write(await self.forward(request))
        await writer.drain()


def answers(status: int, body: bytes = b"{}", kind: str = "application/json", **headers: str) -> Fault:
    """It answers by itself, and the target hears nothing."""

    async def fault(proxy: FaultyProxy, request: bytes, writer: asyncio.StreamWriter) -> None:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n"
        )
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()

    return fault


def cuts(*, applied: bool, answer: bytes = b"") -> Fault:
    """The connection breaks: before the target hears of it, or after it has done what was asked."""

    async def fault(proxy: FaultyProxy, request: bytes, writer: asyncio.StreamWriter) -> None:
        if applied:
            await proxy.forward(request)
        writer.write(answer)
        await writer.drain()

    return fault


def spoils(status: int) -> Fault:
    """The target does what was asked, and something on the way back answers in its place."""

    async def fault(proxy: FaultyProxy, request: bytes, writer: asyncio.StreamWriter) -> None:
        await proxy.forward(request)
        await answers(status, b"<html>maintenance</html>", "text/html")(proxy, request, writer)

    return fault


def holds(*, before: float = 0.0, after: float = 0.0) -> Fault:
    """It is slow: before the target hears of it, or on the way back. The target hears of it even if the client is gone."""

    async def fault(proxy: FaultyProxy, request: bytes, writer: asyncio.StreamWriter) -> None:
        if before:
            proxy.held.set()
        await asyncio.sleep(before)
        answer = await proxy.forward(request)
        proxy.held.set()
        await asyncio.sleep(after)
        writer.write(answer)
        await writer.drain()

    return fault


def waits_for(released: asyncio.Event) -> Fault:
    """It is slow, for as long as a test wants."""

    async def fault(proxy: FaultyProxy, request: bytes, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.write(await proxy.forward(request))
        await writer.drain()

    return fault


def drips(seconds: float) -> Fault:
    """Never silent and never done: a byte at a time."""

    async def fault(proxy: FaultyProxy, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
        for _ in range(int(seconds / 0.05)):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    return fault
