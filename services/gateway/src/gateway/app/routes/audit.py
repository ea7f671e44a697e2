"""Questions to the journal of everything that happened."""

from datetime import datetime

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events import StreamNotFoundError, messages
from bizosaas_events.messages.audit import History, ReadHistory, ReadStateAt, StateAt, Verified, VerifyJournal

from ..answers import Answer
from ..auth import needs
from ..body import Body
from ..call import ApiRequest
from ..errors import InvalidParameterError
from ..reading import LARGEST_LIMIT, LIMIT, number
from ..writing import Written, ask, write

FILTERS = ("subject", "actor", "correlation_id", "before")


class Verification(Body, frozen=True, kw_only=True):
    """Nothing to say: everything is verified."""


class Audit(Controller):
    path = "/v1/audit"
    tags = ("Audit",)

    @get("/history", opt=needs(ReadHistory, answers=History, query=("limit", *FILTERS)))
    async def read_history(self, request: ApiRequest) -> Answer:
        """The tenant's history in words, newest first."""
        filters, limit = {}, LIMIT
        for name, value in request.query_params.items():
            if name == "limit":
                limit = number(name, value, 1, LARGEST_LIMIT)
            elif name in FILTERS:
                filters[name] = value[:500]
            else:
                raise InvalidParameterError(
                    f"There is no parameter {name[:50]!r} here.", field=name[:50],
                    remedy=f"Use limit, {', '.join(FILTERS)}.",
                )  # fmt: skip
        return await ask(request.call, ReadHistory(limit=limit, **filters))

    @get("/state/{kind:str}/{id:str}", opt=needs(ReadStateAt, answers=StateAt, query=("at",)))
    async def read_state(self, request: ApiRequest, kind: FromPath[str], id: FromPath[str]) -> Answer:
        """An object as it was at a moment, rebuilt from its events."""
        if kind not in messages.views():
            raise StreamNotFoundError(f"{kind[:50]}-{id[:100]}")
        return await ask(request.call, ReadStateAt(kind=kind, id=id, at=moment(request.query_params.get("at", ""))))

    @post("/verifications", opt=needs(VerifyJournal, writes=True, result=Verified))
    async def verify_journal(self, request: ApiRequest, data: JSONBody[Verification]) -> Answer:
        """Recompute the hash chain of every event of every service."""
        return await write(request, Written(request.call), VerifyJournal())


def moment(text: str) -> datetime:
    """A moment with its offset. Raises InvalidParameterError."""
    try:
        # A `+` that was not percent-encoded arrives as a blank.
        time = datetime.fromisoformat(text.replace(" ", "+"))
        if time.tzinfo is None:
            raise ValueError(text)
    except ValueError as error:
        raise InvalidParameterError(
            "`at` is a moment with its offset from UTC.", field="at", remedy="Write it as 2026-01-31T12:00:00Z."
        ) from error
    return time
