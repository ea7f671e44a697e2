"""How far each consumer is behind, told from positions.

XINFO's own `lag` lies after a trim; positions are gapless, so a difference of
two of them is the number of events between.
"""

from datetime import UTC, datetime
from typing import NamedTuple, cast

from .bus.base import Names
from .bus.connecting import Client
from .bus.packing import exchange, pack
from .bus.stands import stands
from .store.base import EventStore


class Lag(NamedTuple):
    """One consumer of one partition: where it is, where the stream ends, and how long its next event has waited."""

    consumer: str
    category: str
    partition: int
    position: int
    end: int
    seconds: float

    @property
    def events(self) -> int:
        """Events behind."""
        return self.end - self.position


async def lags(redis: Client, env: str, category: str, partitions: int) -> list[Lag]:
    """The lag of every consumer that has reported a checkpoint of this log. Raises RedisError."""
    names = Names(env)
    said = cast("dict[bytes, bytes]", await redis.hgetall(names.checkpoints(category)))
    ends = await ends_of(redis, env, category, partitions)
    found = []
    for field, position in sorted(said.items()):
        consumer, _, part = field.decode().rpartition("|")
        end = ends[int(part)] if int(part) < partitions else 0
        found.append(Lag(consumer, category, int(part), int(position), max(end, int(position)), 0.0))
    return await _with_seconds(redis, names, found)


async def unsent(redis: Client, env: str, store: EventStore) -> tuple[int, float]:
    """How many events of our own log Redis does not have yet, and for how many seconds the oldest has waited.

    Raises RedisError, or what says that the store is away.
    """
    heads = await store.heads()  # first: what is appended meanwhile must not make the ends look too far
    ends = await ends_of(redis, env, store.category, store.partitions)
    behind = [(head, ends[head.partition]) for head in heads if head.position > ends[head.partition]]
    first = [event.time for head, end in behind for event in await store.read(head.partition, end, 1)]
    seconds = (datetime.now(UTC) - min(first)).total_seconds() if first else 0.0
    return sum(head.position - end for head, end in behind), max(seconds, 0.0)


async def ends_of(redis: Client, env: str, category: str, partitions: int) -> list[int]:
    """The last position of each partition, as far as its relay has come. Raises RedisError."""
    return [stand.last for stand in await stands(redis, Names(env), category, range(partitions))]


async def _with_seconds(redis: Client, names: Names, found: list[Lag]) -> list[Lag]:
    behind = [n for n, lag in enumerate(found) if lag.events]
    streams = []
    for n in behind:
        consumer, category, part, position, *_ = found[n]
        # Far behind, the next event is in the consumer's catch-up stream.
        streams += [
            (stream, pack(("XRANGE", stream, f"{position + 1}-0", "+", "COUNT", 1)))
            for stream in (names.again(category, part, consumer), names.partition(category, part))
        ]
    answers = iter(await exchange(redis, streams))
    now = datetime.now(UTC)
    for n, again, own in zip(behind, answers, answers, strict=True):
        for _, fields in again or own:
            at = fields[fields.index(b"time") + 1]
            waited = now - datetime.fromisoformat(at.decode())
            found[n] = found[n]._replace(seconds=round(max(waited.total_seconds(), 0.0), 3))
    return found
