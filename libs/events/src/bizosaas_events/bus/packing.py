"""Many commands to Redis in one write, packed by hiredis: redis-py's own packing is Python, and takes most of the time."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

# hiredis' stub speaks of a tuple of one.
pack = cast("Callable[[tuple[str | bytes | int, ...]], bytes]", hiredis.pack_command)


async def exchange(redis: Redis, commands: Sequence[bytes]) -> list[Any]:
    """Send packed commands and return their answers. Raises the first that is an error, or that the connection broke."""
    pool = redis.connection_pool
    connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py
    try:
        # One time limit for all: one for each answer costs as much as reading it.
        async with asyncio.timeout(connection.socket_timeout):
            await connection.send_packed_command(b"".join(commands))
            return [await connection.read_response(timeout=math.inf) for _ in commands]
    except BaseException:
        await connection.disconnect()  # it may have answers on the way that nobody would read
        raise
    finally:
        await pool.release(connection)
