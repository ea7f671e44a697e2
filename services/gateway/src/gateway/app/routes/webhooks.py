"""What vendors send us."""

import msgspec
from litestar import Controller, post
from litestar.params import FromPath

from bizosaas_events import ReplyTimeoutError, StreamNotFoundError, new_id
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages.connector import Connection, ReceiveWebhook

from ...adapters.views import ALL_TENANTS
from ..answers import Answer
from ..auth import PUBLIC
from ..call import ApiRequest
from ..reading import find

SECONDS = 5.0
NOT_TAKEN = ("not-found", "no-webhooks")

_NOT_PASSED_ON = (b"authorization", b"cookie", b"host", b"connection")


class Webhooks(Controller):
    path = "/v1/webhooks"
    tags = ("Connections",)

    @post("/{connection_id:str}", opt={**PUBLIC, "raw": True, "status": 202})
    async def receive_webhook(self, request: ApiRequest, connection_id: FromPath[str]) -> Answer:
        """The raw body goes into Redis first; connector-svc checks its signature and what it says."""
        call, id = request.call, new_id()
        found = await find(call, "connection", connection_id, tenant=ALL_TENANTS)
        tenant = msgspec.json.decode(found.state, type=Connection).tenant_id
        command = ReceiveWebhook(
            connection_id=connection_id, body=await request.body(),
            headers={
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in call.headers.items()
                if name not in _NOT_PASSED_ON
            },
        )  # fmt: skip
        try:
            reply = await call.gateway.bus.ask(command, call.context(id, tenant), id=id, timeout=SECONDS)
        except ReplyTimeoutError:
            return Answer(202, b"{}")
        if reply.problem is not None:
            if reply.problem.slug in NOT_TAKEN:
                raise StreamNotFoundError(f"connection-{connection_id[:100]}")
            raise RefusedError(reply.problem)
        return Answer(202, b"{}")
