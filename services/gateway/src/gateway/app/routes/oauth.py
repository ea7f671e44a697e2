"""Connecting by OAuth 2.0: out to the vendor's page, and back."""

from typing import Annotated

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events import DomainError, Problem, new_id, problem_of
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages.connector import AuthorizeAt, Authorized, CompleteAuthorization, StartAuthorization
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_ports.sealing import seal
from bizosaas_runtime.problems import status_of

from ..answers import Answer, json_answer
from ..auth import PUBLIC, needs
from ..body import Body
from ..call import ApiRequest
from ..errors import InvalidParameterError
from ..pages import page
from ..reading import caught_up, find
from ..writing import Written, write

SECONDS = 25.0

_decode = msgspec.json.Decoder(Authorized).decode
_BACK = "You can close this page and go back to where you came from."


class Authorization(Body, frozen=True, kw_only=True):
    label: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    settings: dict[str, str] = {}
    scopes: list[str] = []
    connection_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    """An existing connection, to connect it again."""


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """What a program hears at the callback."""

    connection_id: str
    position: str
    status: str = "connected"


class OAuth(Controller):
    path = "/v1/oauth"
    tags = ("Connections",)

    @post("/authorize/{connector:str}", opt=needs(StartAuthorization, writes=True, result=AuthorizeAt))
    async def start_authorization(
        self, request: ApiRequest, connector: FromPath[str], data: JSONBody[Authorization]
    ) -> Answer:
        """Begin to connect by OAuth: the answer says where to send the person."""
        written = Written(request.call)
        if data.connection_id is not None:
            await caught_up(request.call)
            await find(request.call, "connection", data.connection_id)
        id = data.connection_id or written.new("connection")
        back = str(request.call.gateway.settings.public_url).rstrip("/") + "/v1/oauth/callback"
        command = StartAuthorization(
            connection_id=id, connector=connector, label=data.label, settings=data.settings, redirect_uri=back,
            scopes=data.scopes,
        )  # fmt: skip
        return await write(request, written, command, made=f"/v1/connections/{id}", id=id, flat=True)

    @get("/callback", opt={**PUBLIC, "answers": Returned, "query": ("state", "code", "iss", "error")})
    async def callback(self, request: ApiRequest) -> Answer:
        """Where the vendor sends the person back to: a page for people, JSON for programs."""
        for_people = b"text/html" in request.call.headers.get(b"accept", b"")
        try:
            returned = await complete(request)
        except DomainError as error:
            if not for_people:
                raise
            return refusal_page(problem_of(error))
        if for_people:
            return page(200, "Connected", "The connection is made and works.", _BACK)
        return json_answer(200, returned, {"Position": returned.position})


async def complete(request: ApiRequest) -> Returned:
    """Hand over what the vendor said. Raises RefusedError, such as for a state that was used or is too old."""
    call, query = request.call, request.query_params
    state, code = query.get("state", "")[:2000], query.get("code", "")[:4000]
    if not state or not (code or query.get("error")):
        raise InvalidParameterError(
            "The vendor's answer lacks its state, or both code and error.", field="code" if state else "state",
            remedy="Begin again with POST /v1/oauth/authorize/<connector>.",
        )  # fmt: skip
    command = CompleteAuthorization(
        state=state, sealed_code=seal(call.gateway.keys.connector_svc, code.encode()) if code else b"",
        issuer=query.get("iss", "")[:2000], error=query.get("error", "")[:200],
    )  # fmt: skip
    id = new_id()
    reply = await call.gateway.bus.ask(command, call.context(id, PLATFORM_TENANT), id=id, timeout=SECONDS)
    if reply.problem is not None:
        raise RefusedError(reply.problem)
    return Returned(connection_id=_decode(reply.result).connection_id, position=reply.position)


def refusal_page(problem: Problem) -> Answer:
    """Nothing of the vendor's stands in it unescaped. Who loads the page again is not told that it went wrong."""
    title = "Answered already" if problem.slug == "oauth-state-used" else "Not connected"
    return page(status_of(problem), title, problem.detail, problem.remedy)
