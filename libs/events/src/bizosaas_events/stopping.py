"""Cancelling tasks so that they really end."""

import asyncio
from collections.abc import Iterable
from typing import Any

PATIENCE = 1.0
"""Seconds for a task to tidy up before it is cancelled again."""


async def stop(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks and wait until each has ended, whatever it ended with.

    Once is not always enough: on Python 3.11 `asyncio.wait_for` swallows a
    cancellation that comes as its inner task finishes, and redis-py sends
    every command through it. Such a task went on for ever, about one time in
    five when a process stopped right after its start.
    """
    left = {task for task in tasks if not task.done()}
    ours: asyncio.CancelledError | None = None
    while left:
        for task in left:
            task.cancel()
        try:
            done, left = await asyncio.wait(left, timeout=PATIENCE)
        except asyncio.CancelledError as error:
            # Whoever stops us is impatient: what we stop must end nevertheless, or nobody would wait for it.
            ours = error
            done = {task for task in left if task.done()}
            left -= done
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that nobody reports it as forgotten
    if ours is not None:
        raise ours
