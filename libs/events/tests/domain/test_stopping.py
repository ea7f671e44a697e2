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


async def test_who_is_stopped_while_stopping_others_sees_them_end_first() -> None:
    async def slow_to_tidy_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)

    inner = asyncio.create_task(slow_to_tidy_up())
    outer = asyncio.create_task(stop([inner]))
    await asyncio.sleep(0.01)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert inner.done()
