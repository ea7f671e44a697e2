"""Connections to external systems, and the calls made through them."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, JSONBody

from bizosaas_events.messages.connector import (
    CallOperation,
    CheckConnection,
    Connect,
    Disconnect,
    OperationResult,
    RenameConnection,
)
from bizosaas_ports.access import Feature
from bizosaas_ports.sealing import seal

from ..answers import Answer
from ..auth import needs
from ..body import Body
from ..call import ApiRequest
from ..reading import expected_version, find, one, page
from ..writing import Written, write

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class NewConnection(Body, frozen=True, kw_only=True):
    connector: Name
    label: Label
    settings: dict[str, str] = {}
    credentials: dict[str, str]
    """What a person holds, such as an application password. It is sealed before it leaves the gateway."""


class Renamed(Body, frozen=True, kw_only=True):
    label: Label


class NewCall(Body, frozen=True, kw_only=True):
    operation: Name
    """`<port>.<operation>`, such as `cms.create_draft`."""
    arguments: dict[str, Any]
    idempotency_key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    """The same key never has its effect twice, whatever the vendor offers; without one, the header Idempotency-Key."""


class Connections(Controller):
    path = "/v1/connections"
    tags = ("Connections",)

    @post("/", opt=needs(Connect, writes=True))
    async def connect(self, request: ApiRequest, data: JSONBody[NewConnection]) -> Answer:
        """Connect an external system with credentials a person holds."""
        written = Written(request.call)
        id = written.new("connection")
        sealed = seal(request.call.gateway.keys.secret_svc, msgspec.json.encode(data.credentials))
        command = Connect(
            connection_id=id, connector=data.connector, label=data.label, settings=data.settings,
            sealed_credentials=sealed,
        )  # fmt: skip
        return await write(request, written, command, made=f"/v1/connections/{id}", id=id)

    @get("/", opt=needs(Feature.VIEW_DASHBOARD, page="connection"))
    async def list_connections(self, request: ApiRequest) -> Answer:
        """The tenant's connections."""
        return await page(request, "connection")

    @get("/{connection_id:str}", opt=needs(Feature.VIEW_DASHBOARD, one="connection"))
    async def show_connection(self, request: ApiRequest, connection_id: FromPath[str]) -> Answer:
        """One connection."""
        return await one(request, "connection", connection_id)

    @patch("/{connection_id:str}", opt=needs(RenameConnection, writes=True, guarded=True))
    async def rename_connection(
        self, request: ApiRequest, connection_id: FromPath[str], data: JSONBody[Renamed]
    ) -> Answer:
        """Give a connection another label."""
        expected = expected_version(request.call)
        command = RenameConnection(connection_id=connection_id, label=data.label, expected_version=expected)
        return await write(request, Written(request.call), command, id=connection_id)

    @delete("/{connection_id:str}", status_code=202, opt=needs(Disconnect, writes=True, guarded=True))
    async def disconnect(self, request: ApiRequest, connection_id: FromPath[str]) -> Answer:
        """End a connection; its credential is revoked."""
        command = Disconnect(connection_id=connection_id, expected_version=expected_version(request.call))
        return await write(request, Written(request.call), command, id=connection_id)

    @post("/{connection_id:str}/check", opt=needs(CheckConnection, writes=True))
    async def check_connection(self, request: ApiRequest, connection_id: FromPath[str]) -> Answer:
        """Ask the external system whether the connection works."""
        command = CheckConnection(connection_id=connection_id)
        return await write(request, Written(request.call), command, id=connection_id)

    @post("/{connection_id:str}/calls", opt=needs(CallOperation, writes=True, result=OperationResult))
    async def call_operation(
        self, request: ApiRequest, connection_id: FromPath[str], data: JSONBody[NewCall]
    ) -> Answer:
        """Do one operation of the external system."""
        written = Written(request.call)
        command = CallOperation(
            connection_id=connection_id, operation=data.operation, arguments=data.arguments,
            idempotency_key=data.idempotency_key or written.key or written.id,
        )  # fmt: skip
        return await write(request, written, command)

    @get("/{connection_id:str}/calls", opt=needs(Feature.MANAGE_INTEGRATIONS, page="call"))
    async def list_calls(self, request: ApiRequest, connection_id: FromPath[str]) -> Answer:
        """The calls made through a connection."""
        await find(request.call, "connection", connection_id)
        return await page(request, "call", connection_id=connection_id)
