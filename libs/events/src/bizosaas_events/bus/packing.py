"""Many commands to Redis in one write, packed by hiredis: redis-py's own packing is Python, and takes most of the time."""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from .connecting import Client, Cluster, Server, outage

# hiredis' stub speaks of a tuple of one.
pack = cast("Callable[[tuple[str | bytes | int, ...]], bytes]", hiredis.pack_command)


async def exchange(redis: Client, commands: Sequence[tuple[str, bytes]]) -> list[Any]:
    """Send packed commands, each with its key, and return their answers.

    Commands to one server go out in one write, to different servers at once.
    Raises the first error that was answered, or that a connection broke.
    """
    if not commands:
        return []
    if isinstance(redis, Cluster):
        answers = await _ask_each(redis, commands)
    else:
        answers = await _ask(redis.connection_pool, [packed for _, packed in commands])
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


async def _ask_each(redis: Cluster, commands: Sequence[tuple[str, bytes]]) -> list[Any]:
    places: dict[Server, list[int]] = {}
    for n, (key, _) in enumerate(commands):
        places.setdefault(await redis.server_of(key), []).append(n)
    said = await asyncio.gather(
        *(_ask(server, [commands[n][1] for n in ns]) for server, ns in places.items()), return_exceptions=True
    )
    answers: list[Any] = [None] * len(commands)
    for ns, some in zip(places.values(), said, strict=True):
        for n, answer in zip(ns, [some] * len(ns) if isinstance(some, BaseException) else some, strict=True):
            answers[n] = answer
            if isinstance(answer, RedisError | OSError):
                await redis.learn(answer)
    return answers


async def _ask(server: Server, commands: Sequence[bytes]) -> list[Any]:
    connection = await server.get_connection()
    try:
        return await converse(connection, commands, len(commands))
    finally:
        await server.release(connection)


async def converse(connection: AbstractConnection, commands: Iterable[bytes], replies: int) -> list[Any]:
    """Write everything at once and read so many answers, errors among them. Raises when the connection breaks."""
    try:
        # One time limit for all: one for each answer costs as much as reading it.
        with outage():
            async with asyncio.timeout(connection.socket_timeout):
                await connection.send_packed_command(b"".join(commands))
                answers: list[Any] = []
                for _ in range(replies):
                    try:
                        answers.append(await connection.read_response(timeout=math.inf))
                    except ResponseError as error:
                        answers.append(error)
                return answers
    except BaseException:
        await connection.disconnect()  # it may have answers on the way that nobody would read
        raise
