"""A stream's entry made of an event's row, inside Redis: what stands in every event is not sent with each."""

import asyncpg

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
for i = {{start}}, #ARGV, {len(_SENT)} do
  if position > last then
    local {", ".join(_SENT)} = unpack(ARGV, i, i + {len(_SENT) - 1})
    redis.call('XADD', KEYS[1], position .. '-0', {", ".join(f"'{name}', {_KNOWN.get(name, name)}" for name in FIELDS)})
  end
  position = position + 1
end
"""
"""Lua: add the events whose values begin at ARGV[start] to KEYS[1], from position `first`, those behind `last` only."""


def sent(row: asyncpg.Record) -> tuple[str | bytes, ...]:
    """What is sent of a row of the event table: without an Envelope in between, which would take half the time."""
    _, _, stream, version, id, type_, tenant, at, data, meta = row
    m = decode_meta(meta)
    return (
        str(id), m.source, type_, stream, at.isoformat(), str(version), tenant, m.actorid, m.actorrole,
        m.correlationid, m.causationid, m.traceparent, data,
    )  # fmt: skip
