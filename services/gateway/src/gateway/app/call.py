"""What a handler knows about the request it answers, and what it may use to answer it."""

import asyncio
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from litestar import Request
from litestar.types import Empty, Receive, Scope, Send

from bizosaas_events import Context, new_id
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.envelope import now
from bizosaas_events.projecting import Projector
from bizosaas_events.projection import View
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_runtime import telemetry

from ..adapters.idempotency import Idempotency
from ..adapters.persons import Persons
from ..adapters.rate_limits import Attempts
from ..adapters.sessions import RedisSessions, Session
from ..adapters.streams import RedisStreams
from ..adapters.views import PostgresViews
from .errors import MalformedBodyError
from .settings import Settings

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")
_NO_TRACE = "0" * 32


@dataclass(frozen=True)
class Keys:
    """The public keys of the services that take sealed values."""

    tenant_svc: bytes
    connector_svc: bytes
    secret_svc: bytes


@dataclass(frozen=True)
class Gateway:
    """Everything the routes use; made once, in bootstrap."""

    settings: Settings
    keys: Keys
    bus: RedisCommandBus
    views: PostgresViews
    persons: Persons
    kinds: Mapping[str, View]
    sessions: RedisSessions
    attempts: Attempts
    idempotency: Idempotency
    read_model: Projector
    streams: RedisStreams
    known_tenants: dict[str, bool] = field(default_factory=dict)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    wakeups: "Wakeups" = field(default_factory=lambda: Wakeups())


class Wakeups:
    """Wakes whoever waits for a tenant's feed (by the tenant's id), for a partition of a log (by
    `<category>/<partition>`), or for any commit (by "")."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    async def wait(self, name: str, seconds: float) -> None:
        """Until woken, at most so long. What came before does not count: look first, then wait, then look again."""
        event = self._events.setdefault(name, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass

    def wake(self, *names: str) -> None:
        for name in names:
            if (event := self._events.pop(name, None)) is not None:
                event.set()


class Call:
    """One request: its headers, who makes it, for which tenant, and where it belongs in a trace."""

    __slots__ = ("client", "gateway", "headers", "request_id", "route", "session", "tenant", "token", "traceparent")

    def __init__(self, gateway: Gateway, scope: Mapping[str, Any]) -> None:
        self.gateway = gateway
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        said = self.headers.get(b"x-request-id")
        self.request_id = said.decode("latin-1") if said and _REQUEST_ID.fullmatch(said) else new_id()
        self.traceparent = ""
        self.client = self._client(scope)
        self.route = ""
        self.session: Session | None = None
        self.token = ""
        self.tenant = ""
        """The tenant acted on: one's own, except for platform administrators."""

    def header(self, name: bytes) -> str:
        """A header's value, empty when it is not there. `name` in lower case."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    @property
    def member(self) -> Session:
        """Who makes the request. Only for routes that are not public."""
        assert self.session is not None, "a public route asks who is signed in"  # noqa: S101
        return self.session

    def context(self, command_id: str, tenant: str = "") -> Context:
        """The context of a command of this person, for this tenant; of nobody's where nobody is signed in."""
        session = self.session
        return Context(
            tenant=tenant or self.tenant or PLATFORM_TENANT,
            actor=f"member:{session.member_id}" if session else "service:gateway",
            role=session.role if session else "anonymous",
            time=now(),
            correlation_id=self.request_id,
            causation_id=command_id,
            traceparent=self.traceparent or telemetry.traceparent(),
        )

    def _client(self, scope: Mapping[str, Any]) -> str:
        """The client's network address; proxies of ours say whom they speak for."""
        proxies = self.gateway.settings.proxies
        if proxies and (said := self.header(b"x-forwarded-for")):
            hops = [hop.strip() for hop in said.split(",")]
            return hops[-min(proxies, len(hops))]
        client = scope.get("client")
        return str(client[0]) if client else ""


def new_traceparent(parent: str) -> str:
    """A new span under `parent`, a W3C traceparent, or in a trace of its own.

    For when no exporter is there: ids travel all the same, at a thirtieth of a real span's cost. They are no secret,
    and need no more than to differ.
    """
    found = _TRACEPARENT.fullmatch(parent) if parent else None
    span = random.getrandbits(64) | 1
    if found and found[1] != _NO_TRACE:
        return f"00-{found[1]}-{span:016x}-{found[2]}"
    return f"00-{random.getrandbits(128) | 1:032x}-{span:016x}-01"


class ApiRequest(Request[Any, Any, Any]):
    """Litestar's request, with ours."""

    __slots__ = ("call",)

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.call = cast(Call, cast("dict[str, Any]", scope)["call"])

    async def body(self) -> bytes:
        """The whole body; most come in one piece, for which Litestar's way by a stream is a detour."""
        if self._body is not Empty:
            return self._body
        pieces: list[bytes] = []
        while True:
            message = cast("dict[str, Any]", await self.receive())
            if message["type"] != "http.request":
                raise MalformedBodyError("The body ended before its end.", remedy="Send the whole body.")
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._body = body
        return body
