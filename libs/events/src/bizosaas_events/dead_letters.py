"""Dead letters: what could not be handled, kept in PostgreSQL to be looked at, mended and handled after all.

An event's dead letter holds back the later events of its key, which are
parked behind it, so that the order of a key survives; other keys go on. The
first letter of a key decides: while it waits, the key stands still. It is
tried again by the consumer that holds the partition, under its fence. What
came from a queue or was a command has no order, and is sent again instead.
"""

import hashlib
import json
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from .envelope import Envelope, from_fields, new_id, to_fields
from .errors import DomainError, Kind, StreamNotFoundError

if TYPE_CHECKING:
    import asyncpg

    from .bus.connecting import Client
    from .failures import Failure

State = Literal["waiting", "retrying", "parked"]
"""Waiting for somebody; about to be tried again; parked behind an earlier one of its key."""

LONGEST = 20_000
"""Characters of a traceback, the last ones."""
REPLICA_MS = 1000
"""How long a replica in a cluster has to take what is sent again."""
_HISTORY = b"deadletter"
"""The field of a message that is sent again: how often it had failed, and when first."""
_EXACT = ("utf8", "surrogateescape")

_SUMMARY = """id, consumer, category, part, position, stream, entry, key, type, tenant, state, failure, error, reason,
              attempts, version, first_at, last_at"""
_BURY = """
insert into dead_letter (id, consumer, stream, entry, key, type, tenant, fields, state, failure, error, reason,
                         traceback, attempts, version, first_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', $9, $10, $11, $12, $13, $14, coalesce($15, now()))
on conflict do nothing
"""
_KEEP = """
insert into dead_letter (id, consumer, category, part, position, key, type, tenant, fields, state, failure, error,
                         reason, traceback, attempts, version)
select unnest($1::uuid[]), $2, $3, $4, unnest($5::bigint[]), unnest($6::text[]), unnest($7::text[]),
       unnest($8::text[]), unnest($9::bytea[]), $10, $11, $12, $13, $14, $15, $16
"""
_PARKED = """select distinct category, part, key from dead_letter where consumer = $1
             and (category, part) in (select * from unnest($2::text[], $3::int[]))"""
_READY = """
select k.n::int from unnest($2::text[], $3::int[], $4::text[]) with ordinality k (category, part, key, n)
left join lateral (
    select state from dead_letter d
    where d.consumer = $1 and d.category = k.category and d.part = k.part and d.key = k.key order by position limit 1
) first on true
where first.state is distinct from 'waiting'
"""
_SEQUENCE = """select id, state, fields, edited from dead_letter
               where consumer = $1 and category = $2 and part = $3 and key = $4 order by position limit $5"""
_TAKE = "delete from dead_letter where id = any($1) and state <> 'waiting' returning id"
_AGAIN = """update dead_letter set state = 'waiting', failure = $2, error = $3, reason = $4, traceback = $5, version = $6,
            attempts = attempts + 1, last_at = now() where id = $1"""
_MATCHING = """from dead_letter d where ($1 = '' or consumer = $1) and ($2 = '' or type = $2) and ($3 = '' or tenant = $3)
               and ($4 = '' or key = $4) and ($5 = '' or failure = $5) and ($6 = '' or state = $6)
               and ($7::timestamptz is null or first_at < $7)"""
_BEHIND = """(select count(*) from dead_letter b where b.consumer = d.consumer and b.category = d.category
              and b.part = d.part and b.key = d.key and b.position > d.position)::int"""
_COUNTS = """select consumer, state, count(*)::int as letters, min(first_at) as oldest
             from dead_letter group by consumer, state order by 1, 2"""


class ChangedError(Exception):
    """An operator was faster with a dead letter that was about to be handled."""


class DeadLetterNotFoundError(StreamNotFoundError):
    """There is no such dead letter: it never was, was handled after all, or was discarded."""


class ParkedError(DomainError):
    """It stands behind an earlier one of its key."""

    kind = Kind.CONFLICT
    slug = "parked"

    def __init__(self, id: str, key: str) -> None:
        super().__init__(
            f"This one is parked behind an earlier one of {key}.", remedy=f"Retry or discard {id} first: it follows."
        )


class AtWorkError(DomainError):
    """Somebody has asked for it to be tried again, and that has not happened yet."""

    kind = Kind.CONFLICT
    slug = "being-retried"

    def __init__(self) -> None:
        super().__init__("It is being tried again.", remedy="Look again in a second.", retry_after=1)


class SelectionError(DomainError):
    """A confirmation that belongs to another selection."""

    kind = Kind.CONFLICT
    slug = "confirmation-does-not-fit"

    def __init__(self) -> None:
        super().__init__(
            "This confirmation is not for this filter and limit.", field="confirmation",
            remedy="Ask without one, look at the number, and send what is answered.",
        )  # fmt: skip


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be handled. An event has category, partition and position; anything else its stream and entry."""

    id: str
    consumer: str
    category: str = ""
    partition: int = -1
    position: int = 0
    stream: str = ""
    entry: str = ""
    key: str
    """The object it is about, whose events are handled in order."""
    type: str
    tenant: str
    state: State
    failure: str
    """`poison` or `bug`; empty for what is parked."""
    error: str
    """The class of the error."""
    reason: str
    attempts: int
    version: str
    """Of the code that failed, where it is known."""
    first_at: datetime
    last_at: datetime
    behind: int = 0
    """So many later events of its key are parked behind it."""
    fields: dict[str, str] = {}
    """The whole envelope; only where one is shown. Bytes that are no UTF-8 are escaped."""
    edited: str | None = None
    """The payload that the consumer gets instead of the recorded one."""
    traceback: str = ""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters; empty: all that are not parked. What is parked follows the one before it."""

    consumer: str = ""
    type: str = ""
    tenant: str = ""
    key: str = ""
    failure: str = ""
    state: str = ""
    before: datetime | None = None
    """Failed first before this."""


class Selected(NamedTuple):
    """How many a filter finds, up to the limit, and what to send to have exactly those tried again."""

    letters: int
    confirmation: str


class Counts(NamedTuple):
    """The dead letters of one consumer in one state."""

    consumer: str
    state: State
    letters: int
    oldest: datetime


class Ready(NamedTuple):
    """An event that is tried again: its letter, and its envelope with the payload that an operator gave it."""

    id: UUID
    state: State
    envelope: Envelope


class Report(NamedTuple):
    """Why something failed, as it is kept."""

    failure: str
    error: str
    reason: str
    traceback: str
    version: str

    @classmethod
    def of(cls, error: Exception, failure: "Failure", version: str = "") -> "Report":
        trace = "".join(traceback.format_exception(error))[-LONGEST:]
        return cls(failure.value, type(error).__name__, _column(str(error), 2000), trace.replace("\0", "\\0"), version)


async def bury(
    pool: "asyncpg.Pool[Any]", consumer: str, stream: str, entry: str, fields: Mapping[bytes, bytes], *,
    report: Report, attempts: int,
) -> None:  # fmt: skip
    """Keep an entry of a queue or a command as a dead letter; a repeat changes nothing."""
    fields = dict(fields)
    tried, _, since = fields.pop(_HISTORY, b"0 ").decode("ascii", "replace").partition(" ")
    try:
        attempts, first_at = attempts + int(tried), datetime.fromisoformat(since) if since else None
    except ValueError:  # somebody else's field of that name
        first_at = None
    key, type_, tenant = (
        _column(fields.get(name, b"").decode("utf8", "backslashreplace"), 200)
        for name in (b"subject", b"type", b"tenantid")
    )
    await pool.execute(
        _BURY, new_id(), consumer, stream, entry, key, type_, tenant, _dump(fields), *report[:4], attempts,
        report.version, first_at,
    )  # fmt: skip


async def keep(connection: Any, consumer: str, category: str, event: Envelope, report: Report, attempts: int) -> None:
    """Keep an event as a dead letter, in the transaction that moves its consumer's checkpoint past it."""
    await _keep(connection, consumer, category, [event], "waiting", report, attempts)


async def park(connection: Any, consumer: str, category: str, events: Sequence[Envelope]) -> None:
    """Keep events behind the dead letters of their keys, likewise."""
    await _keep(connection, consumer, category, events, "parked", Report("", "", "", "", ""), 0)


async def _keep(
    connection: Any, consumer: str, category: str, events: Sequence[Envelope], state: State, report: Report, attempts: int
) -> None:  # fmt: skip
    await connection.execute(
        _KEEP, [new_id() for _ in events], consumer, category, events[0].partition, [e.sequence for e in events],
        [e.subject for e in events], [e.type for e in events], [e.tenantid for e in events],
        [_dump(_encoded(e)) for e in events], state, *report[:4], attempts, report.version,
    )  # fmt: skip


async def parked_keys(
    pool: "asyncpg.Pool[Any]", consumer: str, partitions: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], set[str]]:
    """The keys of these partitions that stand still."""
    found: dict[tuple[str, int], set[str]] = {partition: set() for partition in partitions}
    categories, parts = [c for c, _ in found], [p for _, p in found]
    for category, part, key in await pool.fetch(_PARKED, consumer, categories, parts):
        found[category, part].add(key)
    return found


async def unblocked(
    pool: "asyncpg.Pool[Any]", consumer: str, keys: Sequence[tuple[tuple[str, int], str]]
) -> list[tuple[tuple[str, int], str]]:
    """Which of these keys of partitions do not stand still any more: the first letter does not wait, or there is none."""
    columns = [c for (c, _), _ in keys], [p for (_, p), _ in keys], [key for _, key in keys]
    return [keys[row["n"] - 1] for row in await pool.fetch(_READY, consumer, *columns)]


async def sequence(
    pool: "asyncpg.Pool[Any]", consumer: str, partition: tuple[str, int], key: str, limit: int
) -> list[Ready]:
    """The letters of a key in order, from its first."""
    rows = await pool.fetch(_SEQUENCE, consumer, *partition, key, limit)
    return [Ready(row["id"], row["state"], _envelope(row, partition[1])) for row in rows]


async def take(connection: Any, letters: Sequence[Ready]) -> None:
    """Remove letters within the transaction that handles them. Raises ChangedError."""
    if len(await connection.fetch(_TAKE, [letter.id for letter in letters])) != len(letters):
        raise ChangedError


async def failed_again(connection: Any, letter: Ready, report: Report) -> None:
    """Let a letter wait again."""
    await connection.execute(_AGAIN, letter.id, *report)


class DeadLetters:
    """What an operator does about the dead letters in one database. Every action may be repeated."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: "Client") -> None:
        self._pool = pool
        self._redis = redis

    async def page(self, which: Filter, after: str = "", limit: int = 50) -> list[DeadLetter]:
        """The next ones behind the id `after`, oldest first."""
        rows = await self._pool.fetch(
            f"select {_SUMMARY}, {_BEHIND} as behind {_matching(which)} and id > $8 order by id limit $9",
            *_values(which), UUID(after) if after else UUID(int=0), limit,
        )  # fmt: skip
        return [_letter(row, behind=row["behind"]) for row in rows]

    async def find(self, id: str) -> DeadLetter:
        """One with everything. Raises DeadLetterNotFoundError."""
        row = await self._row(id)
        return _letter(
            row, behind=row["behind"], traceback=row["traceback"],
            fields={_shown(name): _shown(value) for name, value in _load(row["fields"]).items()},
            edited=row["edited"].decode() if row["edited"] is not None else None,
        )  # fmt: skip

    async def behind(self, letter: DeadLetter, limit: int) -> list[DeadLetter]:
        """The next events of its key that are parked behind it."""
        if not letter.category:
            return []
        rows = await self._pool.fetch(
            f"""select {_SUMMARY} from dead_letter where consumer = $1 and category = $2 and part = $3 and key = $4
                and position > $5 order by position limit $6""",
            letter.consumer, letter.category, letter.partition, letter.key, letter.position, limit,
        )  # fmt: skip
        return [_letter(row) for row in rows]

    async def ready(self, id: str) -> DeadLetter:
        """One that may be tried again. Raises DeadLetterNotFoundError, ParkedError, AtWorkError."""
        letter = await self.find(id)
        if letter.state == "parked":
            first = await self._pool.fetchval(
                "select id from dead_letter where consumer = $1 and category = $2 and part = $3 and key = $4 "
                "order by position limit 1",
                letter.consumer, letter.category, letter.partition, letter.key,
            )  # fmt: skip
            raise ParkedError(str(first), letter.key)
        if letter.state == "retrying" and letter.category:
            raise AtWorkError
        return letter

    async def retry(self, id: str, edited: bytes | None = None) -> None:
        """Have one tried again, `edited` instead of its payload if given. Nothing happens where it does not wait."""
        row = await self._pool.fetchrow(
            "update dead_letter set state = 'retrying', edited = coalesce($2, edited) "
            "where id = $1 and (state = 'waiting' or state = 'retrying' and stream is not null) returning *",
            UUID(id), edited,
        )  # fmt: skip
        if row is not None and row["stream"] is not None:
            await self._send_again(row)

    async def discard(self, id: str) -> None:
        """Forget one; where it was the first of its key, the next one is tried."""
        await self._pool.execute("delete from dead_letter where id = $1", UUID(id))

    async def select(self, which: Filter, limit: int) -> Selected:
        """How many wait that `which` finds, at most `limit`, and the confirmation for `confirmed`."""
        ids = await self._waiting(which, limit, UUID(int=2**128 - 1))
        last = str(ids[-1]) if ids else ""
        return Selected(len(ids), f"{len(ids)}.{last}.{_digest(which, len(ids), last)}")

    async def confirmed(self, which: Filter, limit: int, confirmation: str) -> list[str]:
        """Those that were counted and still wait, and none that came since. Raises SelectionError."""
        number, _, rest = confirmation.partition(".")
        last, _, digest = rest.rpartition(".")
        if not number.isdecimal() or digest != _digest(which, int(number), last):
            raise SelectionError
        if not last:
            return []
        return [str(id) for id in await self._waiting(which, min(limit, int(number)), UUID(last))]

    async def counts(self) -> list[Counts]:
        """How many there are, by consumer and state."""
        return [Counts(*row) for row in await self._pool.fetch(_COUNTS)]

    async def _waiting(self, which: Filter, limit: int, last: UUID) -> list[UUID]:
        which = msgspec.structs.replace(which, state="waiting")
        rows = await self._pool.fetch(
            f"select id {_matching(which)} and id <= $8 order by id limit $9", *_values(which), last, limit
        )
        return [row["id"] for row in rows]

    async def _row(self, id: str) -> "asyncpg.Record":
        try:
            known = UUID(id)
        except ValueError as error:
            raise DeadLetterNotFoundError(f"dead letter-{id[:100]}") from error
        row: asyncpg.Record | None = await self._pool.fetchrow(
            f"select *, {_BEHIND} as behind from dead_letter d where id = $1", known
        )
        if row is None:
            raise DeadLetterNotFoundError(f"dead letter-{id}")
        return row

    async def _send_again(self, row: "asyncpg.Record") -> None:
        """Under the same id: an inbox or a command's id make a repeat harmless, should we die before it is deleted."""
        fields = _load(row["fields"])
        if row["edited"] is not None:
            fields[b"data"] = row["edited"]
        fields[_HISTORY] = f"{row['attempts']} {row['first_at'].isoformat()}".encode()
        # Here, because messages import this module, and need neither of them.
        from .bus.connecting import Cluster
        from .bus.packing import exchange, pack

        stream = row["stream"]
        commands = [(stream, pack(("XADD", stream, "*", *(part for field in fields.items() for part in field))))]
        if isinstance(self._redis, Cluster):
            commands.append((stream, pack(("WAIT", 1, REPLICA_MS))))  # as a bus does before it calls a command accepted
        await exchange(self._redis, commands)
        await self._pool.execute("delete from dead_letter where id = $1", row["id"])


def _matching(which: Filter) -> str:
    # Said in so many words, so that PostgreSQL takes the index of those that are not parked: there may be very few.
    return _MATCHING if which.state == "parked" else f"{_MATCHING} and state <> 'parked'"


def _values(which: Filter) -> tuple[Any, ...]:
    return which.consumer, which.type, which.tenant, which.key, which.failure, which.state, which.before


def _digest(which: Filter, number: int, last: str) -> str:
    said = json.dumps([msgspec.to_builtins(which), number, last])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _letter(row: "asyncpg.Record", **more: Any) -> DeadLetter:
    return DeadLetter(
        id=str(row["id"]), consumer=row["consumer"], category=row["category"] or "",
        partition=-1 if row["part"] is None else row["part"], position=row["position"] or 0,
        stream=row["stream"] or "", entry=row["entry"] or "", key=row["key"], type=row["type"], tenant=row["tenant"],
        state=row["state"], failure=row["failure"], error=row["error"], reason=row["reason"],
        attempts=row["attempts"], version=row["version"], first_at=row["first_at"], last_at=row["last_at"], **more,
    )  # fmt: skip


def _envelope(row: "asyncpg.Record", part: int) -> Envelope:
    envelope = from_fields(_load(row["fields"]), part)
    return envelope if row["edited"] is None else msgspec.structs.replace(envelope, data=row["edited"])


def _encoded(envelope: Envelope) -> dict[bytes, bytes]:
    fields = {**to_fields(envelope)}
    return {_bytes(name): _bytes(value) for name, value in fields.items()}


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _dump(fields: Mapping[bytes, bytes]) -> bytes:
    """As JSON that can be read, and turned back into the very bytes: what is no UTF-8 becomes lone surrogates."""
    return json.dumps({k.decode(*_EXACT): v.decode(*_EXACT) for k, v in fields.items()}).encode()


def _load(data: bytes) -> dict[bytes, bytes]:
    return {k.encode(*_EXACT): v.encode(*_EXACT) for k, v in json.loads(data).items()}


def _shown(value: bytes) -> str:
    return value.decode("utf8", "backslashreplace")


def _column(text: str, longest: int) -> str:
    """As PostgreSQL takes it: no NUL, no lone surrogate."""
    return text[:longest].replace("\0", "\\0").encode("utf8", "backslashreplace").decode()
