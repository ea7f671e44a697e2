"""Tasks that are stopped end, also those that lose a cancellation."""

import asyncio

import pytest

from bizosaas_events import stopping
from bizosaas_events.stopping import stop


async def test_a_task_that_lost_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", 0.01)
    lost = 0

    async def forgetful() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(forgetful())
    await asyncio.sleep(0)
    await asyncio.wait_for(stop([task]), 5)
    assert task.cancelled()
    assert lost == 3


async def test_whatever_a_task_ends_with_the_others_are_stopped_too() -> None:
    async def failing() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("while tidying up")

    async def done() -> None:
        return None

    tasks = [asyncio.create_task(each) for each in (failing(), done(), asyncio.sleep(60))]
    await asyncio.sleep(0)
    await stop(tasks)
    assert all(task.done() for task in tasks)


async def test_with_nothing_to_stop_nothing_is_waited_for() -> None:
    await asyncio.wait_for(stop([]), 0.1)
