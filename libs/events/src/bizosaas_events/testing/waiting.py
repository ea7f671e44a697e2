"""Waiting for what happens elsewhere, with an end."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PAUSE = 0.02


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 15, *, what: str = "") -> None:
    """Return as soon as the condition is true; fail, naming `what`, when it is not within so many seconds."""
    __tracebackhide__ = True
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        said = condition()
        if await said if inspect.isawaitable(said) else said:
            return
        if loop.time() > end:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await asyncio.sleep(PAUSE)
