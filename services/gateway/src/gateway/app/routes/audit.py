"""Questions to the journal of everything that happened."""

import asyncio
from datetime import datetime
from typing import Any, cast

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events import StreamNotFoundError, messages, new_id
from bizosaas_events.envelope import now
from bizosaas_events.messages.audit import (
    ChainPosition,
    ExportHistory,
    ExportPage,
    Hashes,
    History,
    ReadHashes,
    ReadHeads,
    ReadHistory,
    ReadStateAt,
    ReadVerification,
    SignedHeads,
    StateAt,
    Verification,
    Verified,
    VerifyJournal,
)
from bizosaas_events.stopping import stop

from ..answers import Answer
from ..auth import needs
from ..body import Body
from ..call import ApiRequest, Call
from ..errors import InvalidParameterError
from ..reading import LARGEST_LIMIT, LIMIT, number
from ..writing import Written, ask, write

FILTERS = ("subject", "actor", "correlation_id", "before")
FORMS = ("ndjson", "cloudevents")
PAGE_SECONDS = 30.0
HEADERS = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]


class VerificationRequest(Body, frozen=True, kw_only=True):
    """Nothing to say: everything is verified."""


class ExportedLine(msgspec.Struct, frozen=True, kw_only=True):
    """One event of an export; with `format=cloudevents` a CloudEvent. Every so often a line holds the seal instead:
    `statement` and `signature`."""

    category: str
    partition: int
    position: int
    id: str
    type: str
    subject: str
    version: int
    tenant: str
    time: datetime
    meta: Any
    data: Any
    previous: str
    """The hash of the event before it in its chain; with it `hash` can be recomputed."""
    hash: str


class HashesRequest(Body, frozen=True, kw_only=True):
    """Up to a thousand positions."""

    positions: list[ChainPosition]


class Audit(Controller):
    path = "/v1/audit"
    tags = ("Audit",)

    @get("/history", opt=needs(ReadHistory, answers=History, query=("limit", *FILTERS)))
    async def read_history(self, request: ApiRequest) -> Answer:
        """The tenant's history in words, newest first."""
        given = parameters(request, "limit", *FILTERS)
        limit = number("limit", given.pop("limit"), 1, LARGEST_LIMIT) if "limit" in given else LIMIT
        filters = {name: value[:500] for name, value in given.items()}
        return await ask(request.call, ReadHistory(limit=limit, **filters), about_people=True)

    @get("/state/{kind:str}/{id:str}", opt=needs(ReadStateAt, answers=StateAt, query=("at",)))
    async def read_state(self, request: ApiRequest, kind: FromPath[str], id: FromPath[str]) -> Answer:
        """An object as it was at a moment, rebuilt from its events."""
        if kind not in messages.views():
            raise StreamNotFoundError(f"{kind[:50]}-{id[:100]}")
        at = moment("at", request.query_params.get("at", ""))
        return await ask(request.call, ReadStateAt(kind=kind, id=id, at=at), about_people=True)

    @get("/export", opt=needs(ExportHistory, answers=ExportedLine, query=("from", "to", "format")))
    async def export(self, request: ApiRequest) -> "Export":
        """All of the tenant's events, oldest first, one line of JSON each, with what proves them.

        Names and addresses of people stay closed, as they were recorded: else nothing could be proved.
        """
        given = parameters(request, "from", "to", "format")
        form = given.get("format", "ndjson")
        if form not in FORMS:
            raise InvalidParameterError(
                f"There is no format {form[:50]!r}.", field="format", remedy=f"Use one of {', '.join(FORMS)}."
            )
        command = ExportHistory(
            since=moment("from", given["from"]) if "from" in given else None,
            until=moment("to", given["to"]) if "to" in given else now(),
            format=cast(Any, form),
        )
        # Before anything is answered: a refusal is a problem, as everywhere.
        return Export(request.call, command, await next_page(request.call, command))

    @post("/verifications", opt=needs(VerifyJournal, writes=True, result=Verified))
    async def verify_journal(self, request: ApiRequest, data: JSONBody[VerificationRequest]) -> Answer:
        """Recompute the hash chain of every event of every service, and hold it against the signed heads."""
        return await write(request, Written(request.call), VerifyJournal())

    @get("/verifications/{id:str}", opt=needs(ReadVerification, answers=Verification))
    async def read_verification(self, request: ApiRequest, id: FromPath[str]) -> Answer:
        """How far a verification is, and what it found; `id` is the `command_id` it was accepted under."""
        return await ask(request.call, ReadVerification(id=id[:100]))

    @get("/heads", opt=needs(ReadHeads, answers=SignedHeads, query=("at",)))
    async def read_heads(self, request: ApiRequest) -> Answer:
        """Where every hash chain ended at a moment, as it was signed then."""
        return await ask(request.call, ReadHeads(at=moment("at", request.query_params.get("at", ""))))

    @post("/hashes", opt=needs(ReadHashes, answers=Hashes))
    async def read_hashes(self, request: ApiRequest, data: JSONBody[HashesRequest]) -> Answer:
        """The hashes that stand at positions of the journal now, to be held against signed heads."""
        return await ask(request.call, ReadHashes(positions=data.positions))


class Export:
    """A response that goes on page by page until all is told or the client leaves.

    Only one page is in memory at a time: the next one is asked for when the
    client has taken the one before. When it cannot be had, the connection is
    broken off, and the last page's seal is missing: nobody takes it for whole.
    """

    def __init__(self, call: Call, command: ExportHistory, first: ExportPage) -> None:
        self._call = call
        self._command = command
        self._page = first

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(disconnected(receive))
        sending = asyncio.create_task(self._send(send, gone))
        try:
            await asyncio.wait([gone, sending], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            await stop([gone, sending])

    async def _send(self, send: Any, gone: "asyncio.Task[None]") -> None:
        name = f"audit-{self._call.tenant}-{self._command.until:%Y%m%dT%H%M%SZ}.ndjson"
        headers = [*HEADERS, (b"content-disposition", f'attachment; filename="{name}"'.encode("ascii", "replace"))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        page = self._page
        while True:
            body = b"".join(bytes(line) + b"\n" for line in page.lines)
            await send({"type": "http.response.body", "body": body, "more_body": bool(page.next)})
            if not page.next or gone.done():
                return
            command = msgspec.structs.replace(self._command, after=page.next)
            page = await next_page(self._call, command)


async def next_page(call: Call, command: ExportHistory) -> ExportPage:
    """A page, which Redis then forgets: an export is larger than what it may hold. Raises as a call does."""
    id = new_id()
    try:
        return await call.gateway.bus.call(command, ExportPage, call.context(id), id=id, timeout=PAGE_SECONDS)
    finally:
        await call.gateway.bus.forget(id)


def parameters(request: ApiRequest, *known: str) -> dict[str, str]:
    """The query's parameters. Raises InvalidParameterError for one that is not known."""
    given = dict(request.query_params.items())
    for name in given:
        if name not in known:
            raise InvalidParameterError(
                f"There is no parameter {name[:50]!r} here.", field=name[:50], remedy=f"Use {', '.join(known)}."
            )
    return given


def moment(name: str, text: str) -> datetime:
    """A moment with its offset. Raises InvalidParameterError."""
    try:
        # A `+` that was not percent-encoded arrives as a blank.
        time = datetime.fromisoformat(text.replace(" ", "+"))
        if time.tzinfo is None:
            raise ValueError(text)
    except ValueError as error:
        raise InvalidParameterError(
            f"`{name}` is a moment with its offset from UTC.", field=name, remedy="Write it as 2026-01-31T12:00:00Z."
        ) from error
    return time


async def disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
