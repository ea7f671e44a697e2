"""A stream's entry made of an event's row, inside Redis: what stands in every event is not sent with each."""

from collections.abc import Iterable

import asyncpg
import msgspec

from .envelope import CONTENT_TYPE, FIELDS, SPECVERSION
from .store.postgres import decode_meta

# What the script knows by itself.
_KNOWN = {
    "specversion": f"'{SPECVERSION}'",
    "datacontenttype": f"'{CONTENT_TYPE}'",
    "partitionkey": "tenantid .. '/' .. subject",
    "sequence": "position",
}
_SENT = [name for name in FIELDS if name not in _KNOWN]

# A time of PostgreSQL is in UTC, and this is what its isoformat() is, in an eighth of the time.
_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode

LAST = """
local last, info = 0, redis.pcall('XINFO', 'STREAM', KEYS[1])
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^(%d+)')) end
  end
end
"""
"""Lua: `last` is the position at which the stream KEYS[1] ends, 0 where there is none."""

ADD = f"""
local position = first
for _, event in ipairs(cmsgpack.unpack(ARGV[{{events}}])) do
  if position > last then
    local {", ".join(_SENT)} = unpack(event)
    redis.call('XADD', KEYS[1], position .. '-0', {", ".join(f"'{name}', {_KNOWN.get(name, name)}" for name in FIELDS)})
  end
  position = position + 1
end
"""
"""Lua: add the events of `sent`, which are ARGV[events], to KEYS[1], from position `first`, those behind `last` only."""


def sent(rows: Iterable[asyncpg.Record]) -> bytes:
    """What is sent of rows of the event table, all as one argument: an argument for each value takes twice as long."""
    return _pack([_values(row) for row in rows])


def _values(row: asyncpg.Record) -> tuple[str | msgspec.Raw, ...]:
    """Without an Envelope in between, which would take half the time."""
    _, _, stream, version, id, type_, tenant, at, data, meta = row
    m = decode_meta(meta)
    return (
        str(id), m.source, type_, stream, str(_json(at)[1:-2], "ascii") + "+00:00", str(version), tenant, m.actorid,
        m.actorrole, m.correlationid, m.causationid, m.traceparent, _text(data),
    )  # fmt: skip


def _text(data: bytes) -> msgspec.Raw:
    """As the str 32 of msgpack, whatever the bytes are: Redis' msgpack knows no bin, and a row that somebody has
    tampered with must not end the relay."""
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)
