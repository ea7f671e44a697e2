"""Dead letters: what could not be handled, kept in PostgreSQL to be looked at, mended and sent again."""

import json
from collections.abc import Mapping
from typing import Any

import asyncpg

_BURY = """insert into dead_letter (consumer, id, fields, reason, attempts) values ($1, $2, $3, $4, $5)
           on conflict do nothing"""


async def bury(
    pool: "asyncpg.Pool[Any]",
    consumer: str,
    entry_id: str,
    fields: Mapping[bytes, bytes],
    *,
    reason: str,
    attempts: int,
) -> None:
    """Keep a stream entry as a dead letter; a repeat changes nothing. Bytes that are no UTF-8 are kept escaped."""
    readable = {_text(name): _text(value) for name, value in fields.items()}
    await pool.execute(_BURY, consumer, entry_id, json.dumps(readable).encode(), reason[:2000], attempts)


def _text(value: bytes) -> str:
    return value.decode("utf8", "backslashreplace")
