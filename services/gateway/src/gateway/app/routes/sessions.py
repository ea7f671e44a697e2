"""Signing in and out."""

from typing import Annotated

import msgspec
from litestar import Controller, delete, post
from litestar.params import JSONBody

from bizosaas_events import ReplyTimeoutError, new_id
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages.tenant import SignedIn, SignIn
from bizosaas_ports.access import features
from bizosaas_ports.sealing import seal, seal_text

from ...adapters.sessions import csrf_token
from ..answers import Answer, encoded
from ..auth import COOKIE, PUBLIC, needs
from ..body import Body
from ..call import ApiRequest
from ..errors import NotSignedInError, TooManyAttemptsError

SECONDS = 10.0
REFUSED = "sign-in-refused"

_decode = msgspec.json.Decoder(SignedIn).decode


class SignInBody(Body, frozen=True, kw_only=True):
    email: Annotated[str, msgspec.Meta(min_length=3, max_length=320)]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class SessionOpened(msgspec.Struct, frozen=True, kw_only=True):
    """`token` is for programs (Authorization: Bearer); browsers have the cookie, and send `csrf_token` with changes."""

    token: str
    csrf_token: str
    expires_in: int
    member_id: str
    tenant_id: str
    email: str
    name: str
    role: str
    features: list[str]


class Sessions(Controller):
    path = "/v1/sessions"
    tags = ("Signing in",)

    @post("/", opt={**PUBLIC, "answers": SessionOpened, "status": 201})
    async def sign_in(self, request: ApiRequest, data: JSONBody[SignInBody]) -> Answer:
        """Sign in with an e-mail address and a password."""
        call, gateway = request.call, request.call.gateway
        settings = gateway.settings
        limits = {
            f"email:{data.email.strip().lower()}": settings.sign_in_failures_per_email,
            f"client:{call.client}": settings.sign_in_failures_per_client,
        }
        if (wait := await gateway.attempts.begin(limits)) > 0:
            raise TooManyAttemptsError(wait)
        sealed = seal(gateway.keys.tenant_svc, data.password.encode())
        command, id = SignIn(email=seal_text(gateway.keys.tenant_svc, data.email), sealed_password=sealed), new_id()
        try:
            reply = await gateway.bus.ask(command, call.context(id), id=id, timeout=SECONDS)
        except ReplyTimeoutError:
            await gateway.attempts.forgive(limits)
            raise
        if reply.problem is None or reply.problem.slug != REFUSED:
            await gateway.attempts.forgive(limits)
        if reply.problem is not None:
            raise RefusedError(reply.problem)
        who = _decode(reply.result)
        token, session = await gateway.sessions.open(
            member_id=who.member_id, tenant_id=who.tenant_id, email=who.email, name=who.name, role=who.role
        )
        # After the session was opened: whoever is erased from here on has their sessions ended.
        keys = await gateway.persons.keys([who.member_id], who.tenant_id, anew=True)
        if keys.get(who.member_id, b"") is None:
            await gateway.sessions.close(token)
            raise NotSignedInError("This member was erased.")
        opened = SessionOpened(
            token=token, csrf_token=csrf_token(token), expires_in=settings.session_seconds,
            member_id=session.member_id, tenant_id=session.tenant_id, email=session.email, name=session.name,
            role=session.role, features=features(session.role),
        )  # fmt: skip
        headers = {"Set-Cookie": cookie(token, settings.session_longest_seconds), "Position": reply.position}
        said = await gateway.persons.opened(msgspec.json.encode(opened).decode(), who.tenant_id)
        return Answer(201, said.encode(), encoded(headers))

    @delete("/current", status_code=200, opt={**needs(None), "status": 204})
    async def sign_out(self, request: ApiRequest) -> Answer:
        """End the session that makes this request."""
        await request.call.gateway.sessions.close(request.call.token)
        return Answer(204, b"", encoded({"Set-Cookie": cookie("", 0)}))


def cookie(token: str, seconds: int) -> str:
    """The session's cookie: for this host alone, never over plain HTTP, out of reach of scripts."""
    return f"{COOKIE}={token}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
