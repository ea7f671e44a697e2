"""The read model of connections, folded from connector-svc's events by their published view."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bizosaas_events import messages
from bizosaas_events.envelope import Envelope
from bizosaas_events.messages import category_of

VIEW = messages.views()["connection"]


async def project_connections(connection: Any, envelopes: Sequence[Envelope]) -> None:
    """Bring the rows of these events' connections up to date, in the caller's transaction."""
    codec = messages.codec()
    for envelope in envelopes:
        if category_of(envelope.subject) != "connection" or not codec.knows(envelope.type):
            continue
        id = envelope.subject.partition("-")[2]
        kept = await connection.fetchval("select view from connection where id = $1", id)
        before = msgspec.json.decode(kept, type=VIEW.state) if kept else None
        after = VIEW.evolve(before, codec.decode(envelope), envelope)
        if after is not None:
            await connection.execute(
                "insert into connection (id, tenant, status, view) values ($1, $2, $3, $4) "
                "on conflict (id) do update set status = excluded.status, view = excluded.view",
                id, envelope.tenantid, after.status, msgspec.json.encode(after),
            )  # fmt: skip
