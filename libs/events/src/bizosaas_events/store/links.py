"""The links of a chain straight from the bytes that PostgreSQL sends, so that a verification is as fast as the hash.

COPY in binary form puts its length before each field, exactly as the hash
does: all that it covers is one slice of a row, and nothing is decoded.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg
import msgspec

from ..chain import GENESIS, Break, Link, Meta
from ..chain import verify_links as check

Take = Callable[[list[Link]], None]

LONGEST_SECONDS = 24 * 3600.0
"""Of one statement: a chain is read by one, however long it is."""

_HEADER = 19
_TRAILER = b"\xff\xff"
_ROW = struct.Struct(">h4xq4xq4xi4x16s4xi")  # to what is hashed as it stands
_LENGTH = struct.Struct(">I")
_CONTENT = struct.Struct(">qqi16s").pack
_POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970
_LARGEST = 1 << 30  # no row is larger: PostgreSQL's own limit of a field
_ANOTHER_TABLE = "the rows of the chain cannot be read: the table is not the one that was made"

_decode_meta = msgspec.json.Decoder(Meta).decode


def columns(stream: str = "stream", mirrored: Mapping[str, str] | None = None) -> str:
    """What a query for `read_links` selects.

    `mirrored` are columns that repeat an attribute of meta, to be searched. PostgreSQL
    looks whether meta says the same, which costs it no more than sending them;
    only what it does not find as it stands is sent. It also adds up how long
    the hashed fields and their lengths are, which here would cost more. Whoever owns a table can
    drop its constraints: nothing is ever null here.
    """
    names = {column: f"coalesce({column}, '')" for column in (stream, "type", "tenant", "data", "meta", "hash")}
    says, values = ["true"], []
    for column, attribute in (mirrored or {}).items():
        value = f"coalesce({column}, '')"
        # A quote inside a value is escaped: nothing but the attribute itself can look like this.
        says.append(f"""position(convert_to('"{attribute}":"' || {value} || '"', 'UTF8') in {names["meta"]}) > 0""")
        values.append(f"'{attribute}', {value}")
    *texts, data, meta, _ = names.values()
    sizes = [f"octet_length(convert_to({text}, 'UTF8'))" for text in texts]
    return (
        "position, coalesce(at, 'infinity'), coalesce(version, -1), "
        "coalesce(id, '00000000-0000-0000-0000-000000000000'), "
        f"{' + '.join(sizes)} + octet_length({data}) + octet_length({meta}) + 20, "
        f"{', '.join(names.values())}, "
        f"case when {' and '.join(says)} then '' else json_build_object({', '.join(values)})::text end"
    )


async def read_links(connection: Any, query: str, *args: object, take: Take) -> None:
    """Hand the rows of a query for `columns` to `take` in batches, in constant memory.

    Raises ValueError when the table does not have the columns it was made with.
    """
    parser = _Parser()

    async def sink(chunk: bytes) -> None:
        if links := parser.feed(chunk):
            take(links)

    await connection.copy_from_query(query, *args, output=sink, format="binary", timeout=LONGEST_SECONDS)
    parser.end()


async def verify_partition(pool: "asyncpg.Pool[Any]", partition: int) -> list[Break]:
    """Recompute the chain of one partition of the event log from its beginning; see `chain.verify_links`."""
    breaks: list[Break] = []
    position, head = 0, GENESIS

    def take(links: list[Link]) -> None:
        nonlocal position, head
        breaks.extend(check(partition, links, position, head))
        position, _, head, _ = links[-1]

    query = f"select {columns()} from event where part = $1 order by position"
    async with pool.acquire() as connection:
        await read_links(connection, query, partition, take=take)
    return breaks


class _Parser:
    """Takes what COPY sends piece by piece, wherever it is cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, chunk: bytes) -> list[Link]:
        """The rows that are complete now."""
        buffer, at = self._rest + chunk, 0
        if not self._begun:
            if len(buffer) < _HEADER:
                self._rest = buffer
                return []
            at, self._begun = _HEADER, True
        # More than half of the time of a verification is spent in this loop: hence the short cuts.
        row, length_at = _ROW.unpack_from, _LENGTH.unpack_from
        fixed = _ROW.size
        links: list[Link] = []
        add, end, begin = links.append, len(buffer), at
        try:
            while True:
                begin = at
                _, position, time, version, id, size = row(buffer, at)
                covered = at + fixed
                ends = covered + size
                (length,) = length_at(buffer, ends)
                at = ends + 4 + length
                stored = buffer[ends + 4 : at]
                (length,) = length_at(buffer, at)
                other, at = at + 4, at + 4 + length
                if at > end:
                    break
                fits = not length or _says(_last_field(buffer[covered:ends]), buffer[other:at])
                try:
                    content = _CONTENT(position, time + _POSTGRES_EPOCH, version, id) + buffer[covered:ends]
                except struct.error:  # `infinity`, which no event can have
                    content, fits = b"", False
                add((position, content, stored, fits))
        except struct.error:  # the next row, or its next length, is not there yet
            pass
        self._rest = buffer[begin:]
        if len(self._rest) > _LARGEST:
            raise ValueError(_ANOTHER_TABLE)
        return links

    def end(self) -> None:
        """Raises ValueError when something is left over."""
        if self._rest != _TRAILER:
            raise ValueError(_ANOTHER_TABLE)


def _last_field(covered: bytes) -> bytes:
    """Of several that each have their length before them."""
    begin = end = 0
    while end < len(covered):
        begin = end + _LENGTH.size
        end = begin + _LENGTH.unpack_from(covered, end)[0]
    return covered[begin:]


def _says(meta: bytes, values: bytes) -> bool:
    """The slow way to look, for values that JSON writes otherwise than they are."""
    try:
        said = msgspec.structs.asdict(_decode_meta(meta))
        return all(said[name] == value for name, value in msgspec.json.decode(values).items())
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
