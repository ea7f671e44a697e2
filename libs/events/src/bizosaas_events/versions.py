"""The versions of a projection, side by side: which there are, how far each has come, and which one is read.

Each version has a PostgreSQL schema and checkpoints of its own, and is built
from position 0 while another one is read. The live one leads: no other goes
beyond it in any partition. So a swap needs only to hold the live one for the
moment in which the other arrives, and nobody who has read one of the two
finds less in the other.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import asyncpg
import msgspec

from .bus.base import Names
from .bus.connecting import Client
from .consumer import Apply, forget
from .errors import DomainError, Kind, StreamNotFoundError
from .lag import ends_of
from .projection import Compared, Comparison, Difference, Place, Progress, State, Version

LIMIT = 1000
"""Events that a version may be behind the live one, all partitions together, for a swap to wait until it arrives."""
PATIENCE = 10.0
"""Seconds that a swap or a comparison waits for that; so long the live version stands still."""
REST_SECONDS = 5.0
"""So long after a swap nothing is dropped: a reader may be late to notice."""
COMPARE_SECONDS = 600.0

_COLUMNS = "name, number, definition, state, created_at, changed_at"
_LIST = f"select {_COLUMNS} from projection_version where name = $1 order by number"
_BEHIND = """
select coalesce(sum(greatest(l.position - coalesce(o.position, 0), 0)), 0)::bigint
from consumer_partition l left join consumer_partition o on o.consumer = $2 and (o.category, o.part) = (l.category, l.part)
where l.consumer = $1
"""
_PATH = "select set_config('search_path', $1 || ', ' || current_setting('search_path'), true)"
_ALIVE = "select instance from consumer_instance where consumer = $1 and until > now()"
_TABLES = """
select c.relname as name,
    array(select attname::text from pg_attribute a where a.attrelid = c.oid and attnum > 0 and not attisdropped
          order by attnum) as columns,
    array(select a.attname::text from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
          where i.indrelid = c.oid and i.indisprimary order by a.attnum) as key
from pg_class c where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1
"""


class Projection(NamedTuple):
    """How logs become tables. The name is one of this platform's consumers, such as `gateway`.

    `definition` grows with each change of `ddl` or `apply` that is to be built
    anew. `ddl` names its tables without a schema and so does `apply`, which
    takes what a consumer's does. What `apply` writes outside of these tables
    it must write once an event, by the event's id: every version comes by.
    For comparisons, `unlock` is SQL that lets a transaction see all rows, and
    differences are counted by the value of the columns `by`.
    """

    name: str
    definition: int
    ddl: str
    apply: Apply
    unlock: str = ""
    by: Sequence[str] = ()


class VersionNotFoundError(StreamNotFoundError):
    """There is no such version."""

    def __init__(self, name: str, number: int) -> None:
        DomainError.__init__(
            self, f"There is no version {number} of {name}.", field="version", remedy="List the versions there are."
        )


class _ConflictError(DomainError):
    kind = Kind.CONFLICT


class BuildingError(_ConflictError):
    """One is being built already."""

    slug = "projection-being-built"

    def __init__(self, version: Version) -> None:
        super().__init__(
            f"{version.consumer} is being built.", remedy=f"Swap to version {version.number}, or drop it first."
        )


class TooFarBehindError(_ConflictError):
    """The version lacks what the live one has."""

    slug = "projection-behind"

    def __init__(self, version: Version, behind: int, limit: int) -> None:
        super().__init__(
            f"{version.consumer} is {behind} events behind the live version; {limit} are allowed.",
            field="version", remedy="Wait until it has come nearer, or force it: readers then find less than before.",
        )  # fmt: skip


class NotArrivingError(_ConflictError):
    """The version did not reach the live one in time."""

    slug = "projection-behind"

    def __init__(self, version: Version, behind: int, instances: Iterable[str]) -> None:
        remedy = "Try again when there is less to do." if instances else "Start a process that has its code."
        super().__init__(
            f"{version.consumer} is still {behind} events behind the live version.", field="version", remedy=remedy
        )


class InUseError(_ConflictError):
    """The version is read, or was a moment ago."""

    slug = "projection-in-use"

    def __init__(self, version: Version, why: str, remedy: str) -> None:
        super().__init__(f"{version.consumer} {why}.", field="version", remedy=remedy)


class Versions:
    """The versions of one projection in one database. `logs`: the partitions of each log that it reads, by category."""

    def __init__(
        self, name: str, logs: Mapping[str, int], *, pool: "asyncpg.Pool[Any]", redis: Client, env: str
    ) -> None:
        self.name = name
        self.logs = logs
        self._pool = pool
        self._redis = redis
        self._env = env

    async def all(self) -> list[Version]:
        """All of them by number, the dropped ones too."""
        return [_version(row) for row in await self._pool.fetch(_LIST, self.name)]

    async def ensure(self, newest: Projection) -> None:
        """Begin to build what the code has and the database has not; the very first one is live at once."""
        async with self._pool.acquire() as connection, connection.transaction():
            existing = [v for v in await self._locked(connection) if v.state != "dropped"]
            if not existing:
                await self._create(connection, newest, "live")
            elif all(version.definition != newest.definition for version in existing):
                await self._create(connection, newest, "building")

    async def build(self, newest: Projection) -> Version:
        """Begin to build one more, from position 0. Raises BuildingError while another one is being built."""
        async with self._pool.acquire() as connection, connection.transaction():
            for version in await self._locked(connection):
                if version.state == "building":
                    raise BuildingError(version)
            return await self._create(connection, newest, "building")

    async def progress(self) -> list[Progress]:
        """How far each version has come that is there. Raises RedisError."""
        versions = [version for version in await self.all() if version.state != "dropped"]
        ends = {c: await ends_of(self._redis, self._env, c, parts) for c, parts in self.logs.items()}
        return [await self._progress(version, ends) for version in versions]

    async def swap(
        self, number: int, *, limit: int = LIMIT, force: bool = False, patience: float = PATIENCE
    ) -> Version:
        """Let this version be the one that is read, in one transaction; the one before is kept.

        The live version stands still until this one has arrived, so that whoever
        reads finds nothing missing; `force` leaves that out. Back is the same with
        the other number. Raises VersionNotFoundError, TooFarBehindError, NotArrivingError.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            versions = await self._locked(connection)
            new, live = self._find(versions, number), _live(versions)
            if new is live:
                return new
            if not force:
                await self._arrive(connection, live, new, limit, patience)
            await self._set(connection, live, "kept")
            return await self._set(connection, new, "live")

    async def drop(self, number: int) -> Version:
        """Remove a version that nobody reads, with its tables and checkpoints; a repeat is harmless. Raises VersionNotFoundError, InUseError."""
        async with self._pool.acquire() as connection, connection.transaction():
            versions = await self._locked(connection)
            version, live = self._find(versions, number, dropped=True), _live(versions)
            if version.state == "dropped":
                return version
            if version is live:
                raise InUseError(version, "is the one that is read", "Swap to another version first.")
            now = await connection.fetchval("select now()")
            if version.state == "kept" and (now - version.changed_at).total_seconds() < REST_SECONDS:
                raise InUseError(version, "was read until a moment ago", f"Try again in {REST_SECONDS:.0f} seconds.")
            readers = await self._instances(connection, version) - await self._instances(connection, live)
            if readers and version.state == "kept":
                raise InUseError(
                    version, f"is the only one that {', '.join(sorted(readers))} can read", "Stop it first."
                )
            # Whoever consumes it is fenced off from here on.
            await connection.execute("delete from consumer_partition where consumer = $1", version.consumer)
            await connection.execute("delete from dead_letter where consumer = $1", version.consumer)
            await connection.execute(f"drop schema {version.schema} cascade")
            dropped = await self._set(connection, version, "dropped")
        await self.forget([version.consumer])
        return dropped

    async def compare(
        self, old: int, new: int, *, unlock: str = "", by: Sequence[str] = (), first: int = 20,
        limit: int = LIMIT, patience: float = PATIENCE,
    ) -> Comparison:  # fmt: skip
        """Which rows differ between two versions at the same positions, and the first of them.

        The live version stands still for the moment in which the others arrive
        and a snapshot is taken; the comparison itself holds up nobody.
        Raises VersionNotFoundError, TooFarBehindError, NotArrivingError.
        """
        async with self._pool.acquire() as looking:
            async with self._pool.acquire() as holding:
                transaction = holding.transaction()
                await transaction.start()
                try:
                    versions = await self._locked(holding)
                    pair, live = (self._find(versions, old), self._find(versions, new)), _live(versions)
                    for version in pair:
                        if version is not live:
                            await self._arrive(holding, live, version, limit, patience)
                    snapshot = looking.transaction(isolation="repeatable_read", readonly=True)
                    await snapshot.start()
                    events = await looking.fetchval(
                        "select coalesce(sum(position), 0)::bigint from consumer_partition where consumer = $1",
                        pair[0].consumer,
                    )
                finally:
                    await transaction.rollback()
            try:
                if unlock:
                    await looking.execute(unlock)
                return await _compare(looking, *pair, events, by, first)
            finally:
                await snapshot.rollback()

    async def analyze(self, version: Version) -> None:
        """Have PostgreSQL learn what is in the version's tables: by itself it looks once a minute."""
        for table in await self._pool.fetch(_TABLES, version.schema):
            await self._pool.execute(f"analyze {_quoted(version.schema)}.{_quoted(table['name'])}")

    async def instances(self, version: Version) -> set[str]:
        """The processes that consume it."""
        return await self._instances(self._pool, version)

    async def behind(self, version: Version, other: Version) -> int:
        """By how many events `version` is behind `other`."""
        return int(await self._pool.fetchval(_BEHIND, other.consumer, version.consumer))

    async def reported(self) -> set[str]:
        """The consumers under this projection's name for which relays keep something. Raises RedisError."""
        consumers = set()
        for category in self.logs:
            said = cast("dict[bytes, bytes]", await self._redis.hgetall(Names(self._env).checkpoints(category)))
            consumers |= {field.decode().rpartition("|")[0] for field in said}
        return {consumer for consumer in consumers if consumer.partition("@")[0] == self.name}

    async def forget(self, consumers: Iterable[str]) -> None:
        """Let the relays keep nothing for these."""
        for consumer in consumers:
            for category, partitions in self.logs.items():
                await forget(self._redis, self._env, category, partitions, consumer)

    async def _locked(self, connection: Any) -> list[Version]:
        await connection.execute("select pg_advisory_xact_lock(hashtext('projection ' || $1))", self.name)
        return [_version(row) for row in await connection.fetch(_LIST, self.name)]

    async def _create(self, connection: Any, projection: Projection, state: State) -> Version:
        row = await connection.fetchrow(
            "insert into projection_version (name, number, definition, state) select $1, coalesce(max(number), 0) + 1, $2, $3 "
            f"from projection_version where name = $1 returning {_COLUMNS}",
            self.name, projection.definition, state,
        )  # fmt: skip
        version = _version(row)
        for category, partitions in self.logs.items():
            await connection.execute(
                "insert into consumer_partition (consumer, category, part) select $1, $2, generate_series(0, $3::int - 1)",
                version.consumer, category, partitions,
            )  # fmt: skip
        await connection.execute(f"create schema {version.schema}")
        await connection.execute(_PATH, version.schema)
        await connection.execute(projection.ddl)
        return version

    async def _arrive(self, connection: Any, live: Version, version: Version, limit: int, patience: float) -> None:
        """Hold the live version, and wait until the other has all that it has."""
        behind = await connection.fetchval(_BEHIND, live.consumer, version.consumer)
        if behind > limit:
            raise TooFarBehindError(version, behind, limit)
        await connection.execute(
            "select from consumer_partition where consumer = $1 order by category, part for update", live.consumer
        )
        end = time.monotonic() + patience
        while behind := await connection.fetchval(_BEHIND, live.consumer, version.consumer):
            if time.monotonic() > end:
                raise NotArrivingError(version, behind, await self._instances(connection, version))
            await asyncio.sleep(0.01)

    async def _set(self, connection: Any, version: Version, state: State) -> Version:
        row = await connection.fetchrow(
            f"update projection_version set state = $3, changed_at = now() where name = $1 and number = $2 returning {_COLUMNS}",
            self.name, version.number, state,
        )  # fmt: skip
        return _version(row)

    async def _instances(self, connection: Any, version: Version) -> set[str]:
        return {row["instance"] for row in await connection.fetch(_ALIVE, version.consumer)}

    async def _progress(self, version: Version, ends: Mapping[str, Sequence[int]]) -> Progress:
        rows = await self._pool.fetch(
            "select category, part, position from consumer_partition where consumer = $1 order by 1, 2",
            version.consumer,
        )
        places = [
            Place(category=category, partition=part, position=position, end=max(position, ends[category][part]))
            for category, part, position in rows
            if category in ends and part < len(ends[category])
        ]
        done, behind = sum(p.position for p in places), sum(p.end - p.position for p in places)
        rate = done / max((datetime.now(UTC) - version.created_at).total_seconds(), 0.001)
        return Progress(
            version=version, instances=sorted(await self.instances(version)), places=places, events_done=done,
            events_behind=behind, rate=round(rate, 1), seconds_left=round(behind / rate, 1) if rate else None,
        )  # fmt: skip

    def _find(self, versions: Sequence[Version], number: int, *, dropped: bool = False) -> Version:
        for version in versions:
            if version.number == number and (dropped or version.state != "dropped"):
                return version
        raise VersionNotFoundError(self.name, number)


def _live(versions: Sequence[Version]) -> Version:
    return next(version for version in versions if version.state == "live")


def _version(row: asyncpg.Record) -> Version:
    return Version(**dict(row))


async def _compare(
    connection: Any, old: Version, new: Version, events: int, by: Sequence[str], first: int
) -> Comparison:
    tables = {row["name"]: row for row in await connection.fetch(_TABLES, old.schema)}
    compared, differences = [], list[Difference]()
    for table in await connection.fetch(_TABLES, new.schema):
        if table["name"] not in tables:
            continue
        columns = [column for column in table["columns"] if column in tables[table["name"]]["columns"]]
        query = _Query(old.schema, new.schema, table["name"], table["key"], columns)
        grouped = [column for column in by if column in columns]
        rows = await connection.fetch(query.counts(grouped), timeout=COMPARE_SECONDS)
        differing = Counter({"/".join(row[3:]): row["differing"] for row in rows})
        compared.append(
            Compared(
                table=query.table, old_rows=sum(row["old_rows"] for row in rows),
                new_rows=sum(row["new_rows"] for row in rows), differing=differing.total(),
                differing_by={group: n for group, n in sorted(differing.items()) if n and grouped},
            )
        )  # fmt: skip
        if differing.total() and len(differences) < first:
            found = await connection.fetch(query.rows(), first - len(differences), timeout=COMPARE_SECONDS)
            differences += [_difference(query, *map(msgspec.json.decode, row)) for row in found]
    return Comparison(old=old.number, new=new.number, events=events, tables=compared, differences=differences)


class _Query(NamedTuple):
    old: str
    new: str
    table: str
    key: list[str]
    columns: list[str]

    @property
    def _joined(self) -> str:
        keys, quoted = ", ".join(map(_quoted, self.key)), _quoted(self.table)
        return f"from {self.old}.{quoted} o full join {self.new}.{quoted} n using ({keys})"

    @property
    def _differ(self) -> str:
        sides = (", ".join(f"{side}.{_quoted(column)}" for column in self.columns) for side in "on")
        return " is distinct from ".join(f"row({side})" for side in sides)

    def counts(self, by: Sequence[str]) -> str:
        groups = [f"coalesce(o.{_quoted(column)}, n.{_quoted(column)})::text" for column in by]
        return (
            f"select count(o.{_quoted(self.key[0])}) as old_rows, count(n.{_quoted(self.key[0])}) as new_rows, "
            f"count(*) filter (where {self._differ}) as differing{''.join(f', {group}' for group in groups)} "
            f"{self._joined}{' group by ' if groups else ''}{', '.join(groups)}"
        )

    def rows(self) -> str:
        keys = ", ".join(map(_quoted, self.key))
        return (
            f"select coalesce(to_jsonb(o), 'null')::text, coalesce(to_jsonb(n), 'null')::text {self._joined} "
            f"where {self._differ} order by {keys} limit $1"
        )


def _difference(query: _Query, old: dict[str, Any] | None, new: dict[str, Any] | None) -> Difference:
    key = {column: (old or new or {})[column] for column in query.key}
    if old is not None and new is not None:
        old, new = _apart(*({column: row[column] for column in query.columns} for row in (old, new)))
    return Difference(table=query.table, key=key, old=old, new=new)


def _apart(old: Any, new: Any) -> tuple[Any, Any]:
    """Two values without what is the same in both."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return old, new
    differing = {name: _apart(old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)}
    return (
        {name: pair[0] for name, pair in differing.items() if name in old},
        {name: pair[1] for name, pair in differing.items() if name in new},
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
