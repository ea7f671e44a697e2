"""Replay: a partition from any position, as fast as PostgreSQL and one Python process can, such as to rebuild a projection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg

from ..codec import Codec
from ..envelope import Message

BATCH = 2000

# Only what a fold needs: an Envelope with all its attributes takes twice the time. Positions have no gaps, so that
# a range is a batch, and the next one can be asked for before this one is known.
_RANGE = """select position, stream, version, tenant, at, type, data from event
            where part = $1 and position > $2 and position <= $3 order by position"""
_HEAD = "select position from event_partition where part = $1"


class Replayed(NamedTuple):
    """An event as it was recorded: `row` has position, stream, version, tenant and at."""

    row: asyncpg.Record
    event: Message


async def replay(
    pool: "asyncpg.Pool[Any]", codec: Codec, partition: int, *, after: int = 0, until: int | None = None,
    batch: int = BATCH, prefetch: bool = True,
) -> AsyncIterator[list[Replayed]]:  # fmt: skip
    """The events of a partition in order, upcast, in batches; up to position `until` or what there is now.

    With `prefetch` the next batch is on its way while this one is looked at.
    Raises UnknownTypeError and UndecodableError as `Codec.decode` does.
    """
    end = await pool.fetchval(_HEAD, partition) if until is None else until
    following: asyncio.Task[list[asyncpg.Record]] | None = None
    try:
        for start in range(after, end, batch):
            rows = await (following or pool.fetch(_RANGE, partition, start, min(start + batch, end)))
            following = None
            if prefetch and start + batch < end:
                following = asyncio.create_task(
                    pool.fetch(_RANGE, partition, start + batch, min(start + 2 * batch, end))
                )
                await asyncio.sleep(0)  # or it would not be asked for before the decoding is over
            decode = codec.decode_as
            yield [Replayed(row, decode(row[5], row[6])) for row in rows]
    finally:
        if following is not None:
            following.cancel()
