"""Runs a projection: consumes every version that this code knows, and follows which one is read."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import asyncpg

from .consumer import Apply, Enter, NotYetError, OrderedConsumer
from .errors import DomainError
from .leases import Key
from .outages import STORAGE_ERRORS
from .projection import Version
from .stopping import stop
from .versions import LIMIT, Projection, Versions

LOOK_SECONDS = 0.25
"""How often to look which version is read: so late at most does a process follow a swap that another one made."""
FORGET_SECONDS = 30.0
ANALYZE_AT = 1000
"""After so many events, and each time it is ten times as many, PostgreSQL is to learn what a version's tables hold. With
what it knew of empty tables it may choose an index that leads through all rows of a kind, for each object anew."""

# The path, so that `apply` finds its own tables; how far the live version is, beyond which no other goes. Plans are
# made once: with the values of a small batch they would look cheaper, and planning takes longer than they do.
_ENTER = """
select set_config('search_path', $3 || ', ' || current_setting('search_path'), true)
        || set_config('plan_cache_mode', 'force_generic_plan', true),
    (select array_agg((m.category, m.part, c.position)) from projection_version p
     cross join unnest($4::text[], $5::int[], $6::bigint[]) as m (category, part, reached)
     join consumer_partition c on c.consumer = p.name || '@' || p.number and (c.category, c.part) = (m.category, m.part)
     where p.name = $1 and p.state = 'live' and p.number <> $2 and c.position < m.reached)
"""
_CONSUMERS = """select distinct consumer from consumer_instance where until > now() - interval '1 minute'
                and (consumer = $1 or consumer like $1 || '@%')"""

_log = logging.getLogger(__name__)


class MakeConsumer(Protocol):
    """Makes the consumer of a version: of the same logs for each."""

    def __call__(self, name: str, apply: Apply, *, enter: Enter) -> OrderedConsumer: ...


class Projector:
    """Runs the versions of one projection that this code has the definition of, any number of processes at once.

    `reading` is the version to read here: the live one, or while this code does
    not know that, the newest it knows. A deployment whose code has left out the
    old definition so reads the new one, once that is built (`problem` says when
    it is not), while older processes go on reading theirs; when none of them is
    left, the new one is live.
    """

    def __init__(
        self, definitions: Sequence[Projection], versions: Versions, make: MakeConsumer, pool: "asyncpg.Pool[Any]"
    ) -> None:
        self._definitions = {projection.definition: projection for projection in definitions}
        self._newest = max(definitions, key=lambda projection: projection.definition)
        self._pool = pool
        self._make = make
        self._problem = ""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._known: dict[int, Version] = {}
        self._analyze_at: dict[int, int] = {}
        self.versions = versions
        self.consumers: dict[int, OrderedConsumer] = {}
        self.reading: Version

    @property
    def newest(self) -> Projection:
        """The newest definition of this code."""
        return self._newest

    @property
    def consumer(self) -> OrderedConsumer:
        """Of the version that is read."""
        return self.consumers[self.reading.number]

    def problem(self) -> str:
        """Why what is read here cannot be relied on, for readiness; empty: it can."""
        return "; ".join(filter(None, [self._problem, *self.consumer.failing.values()]))

    async def open(self) -> None:
        """Make what is missing in the database; after this `reading` is set."""
        await self.versions.ensure(self._newest)
        await self.look()

    async def run(self) -> None:
        """Consume until cancelled. Ends by itself only with the error of a consumer."""
        forgetting = asyncio.create_task(self._forget())
        try:
            while True:
                with contextlib.suppress(*STORAGE_ERRORS):
                    await self.look()
                    await self._analyze()
                await self._start_and_stop()
                for task in (*self._tasks.values(), forgetting):
                    if task.done():
                        task.result()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await stop([forgetting, *self._tasks.values()])

    async def look(self) -> None:
        """Learn which versions there are and which is read. Raises asyncpg's or OS errors when PostgreSQL is away."""
        versions = [version for version in await self.versions.all() if version.state != "dropped"]
        self._known = {version.number: version for version in versions if version.definition in self._definitions}
        for version in self._known.values():
            if version.number not in self.consumers:
                self.consumers[version.number] = self._make(
                    version.consumer, self._definitions[version.definition].apply,
                    enter=functools.partial(self._enter, version),
                )  # fmt: skip
        live = next(version for version in versions if version.state == "live")
        if live.number in self._known:
            self.reading, self._problem = live, ""
        else:
            self.reading = self._known[max(self._known)]
            await self._succeed(live)

    async def _analyze(self) -> None:
        for number, version in self._known.items():
            applied = self.consumers[number].applied
            if applied >= self._analyze_at.get(number, ANALYZE_AT):
                self._analyze_at[number] = applied * 10
                await self.versions.analyze(version)

    async def _succeed(self, live: Version) -> None:
        """Read what this code knows beside a live version it does not know, and follow that when its code is gone."""
        behind = await self.versions.behind(self.reading, live)
        self._problem = f"{self.reading.consumer} is being built: {behind} events to go" if behind > LIMIT else ""
        if behind == 0 and not await self.versions.instances(live):
            with contextlib.suppress(DomainError):  # somebody was faster: look again
                self.reading = await self.versions.swap(self.reading.number)
                _log.warning("%s is live now: no process knows %s any more", self.reading.consumer, live.consumer)

    async def _start_and_stop(self) -> None:
        for number in self._known.keys() - self._tasks.keys():
            self._tasks[number] = asyncio.create_task(self.consumers[number].run())
        for number in self._tasks.keys() - self._known.keys():
            await stop([self._tasks.pop(number)])
            del self.consumers[number]

    async def _enter(self, version: Version, connection: Any, moves: Mapping[Key, int]) -> None:
        wanted = [(*key, to) for key, to in moves.items()]
        _, limits = await connection.fetchrow(
            _ENTER, version.name, version.number, version.schema, *map(list, zip(*wanted, strict=True))
        )
        if limits is not None:
            raise NotYetError({(category, part): position for category, part, position in limits})

    async def _forget(self) -> None:
        """Let the relays trim what versions lack that nobody consumes: who comes back gets it from a catch-up stream."""
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            with contextlib.suppress(*STORAGE_ERRORS):
                rows = await self._pool.fetch(_CONSUMERS, self.versions.name)
                await self.versions.forget(await self.versions.reported() - {row["consumer"] for row in rows})
