"""Dead letters of every service: what could not be handled, for an operator to look at, mend, or give up."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events import ReplyTimeoutError, messages, new_id
from bizosaas_events.dead_letters import DeadLetter, Filter
from bizosaas_events.errors import UnavailableError
from bizosaas_events.messages.operations import (
    DeadLetterPage,
    DeadLetterShown,
    DeadLettersRetried,
    DeadLettersSelected,
    DiscardDeadLetter,
    ListDeadLetters,
    OperatorCommand,
    RedriveDeadLetters,
    RetryDeadLetter,
    SelectDeadLetters,
    ShowDeadLetter,
)

from ..answers import Answer, json_answer
from ..auth import needs
from ..body import Body
from ..call import ApiRequest, Call
from ..errors import InvalidParameterError, NoSuchPathError
from ..reading import LARGEST_LIMIT, LIMIT, number
from ..writing import Written, ask, write
from .audit import parameters

FILTERS = ("consumer", "type", "tenant", "key", "failure", "state", "older_than")
CHOICES = {"failure": ("poison", "bug"), "state": ("waiting", "retrying", "parked")}
SECONDS = 5.0
"""How long a service may take to list its own; who takes longer is named in `missing`."""
LONGEST_AGE = 10 * 365 * 86400


class ServiceDeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    service: str
    letter: DeadLetter


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    items: list[ServiceDeadLetter]
    next: str
    """Cursor of the following page; empty: that was all."""
    missing: list[str]
    """Services that did not answer."""


class Retry(Body, frozen=True, kw_only=True):
    """`payload`: what the handler gets instead of what was recorded, which stays as it is."""

    payload: dict[str, Any] | None = None


class Discard(Body, frozen=True, kw_only=True):
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Selection(Body, frozen=True, kw_only=True):
    """Filters are combined; empty: every one that waits."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    consumer: str = ""
    type: str = ""
    tenant: str = ""
    key: str = ""
    failure: str = ""
    before: datetime | None = None
    """Failed first before this moment."""

    def filter(self) -> Filter:
        """Raises InvalidParameterError for a moment without its offset, or no failure that there is."""
        if self.before is not None and self.before.tzinfo is None:
            raise InvalidParameterError(
                "`before` is a moment with its offset from UTC.", field="before", remedy="Write 2026-01-31T12:00:00Z."
            )
        return Filter(
            consumer=self.consumer, type=self.type, tenant=self.tenant, key=self.key,
            failure=choice("failure", self.failure), before=self.before,
        )  # fmt: skip


class Redrive(Selection, frozen=True, kw_only=True):
    """The same as was selected, and the confirmation that was answered."""

    confirmation: str


class AdminDeadLetters(Controller):
    path = "/v1/admin/dead-letters"
    tags = ("Operating",)

    @get("/", opt=needs(ListDeadLetters, answers=DeadLetters, query=("service", "limit", "cursor", *FILTERS)))
    async def list_dead_letters(self, request: ApiRequest) -> Answer:
        """Those of one service or of all, oldest first. `older_than`: seconds since they failed first."""
        given = parameters(request, "service", "limit", "cursor", *FILTERS)
        limit = number("limit", given["limit"], 1, LARGEST_LIMIT) if "limit" in given else LIMIT
        services = [known(given["service"])] if "service" in given else list(messages.categories())
        which, after = filter_of(given), cursor(given.get("cursor", ""))
        found: list[ServiceDeadLetter] = []
        missing = []
        asked = [page_of(request.call, service, which, after, limit + 1) for service in services]
        for service, page in zip(services, await asyncio.gather(*asked), strict=True):
            if page is None:
                missing.append(service)
            else:
                found += [ServiceDeadLetter(service=service, letter=letter) for letter in page.items]
        # Their ids are ordered by time, whoever made them: one cursor serves for all.
        found.sort(key=lambda each: each.letter.id)
        following = found[limit - 1].letter.id if len(found) > limit else ""
        return json_answer(200, DeadLetters(items=found[:limit], next=following, missing=missing))

    @get("/{service:str}/{id:str}", opt=needs(ShowDeadLetter, answers=DeadLetterShown))
    async def show_dead_letter(self, request: ApiRequest, service: FromPath[str], id: FromPath[str]) -> Answer:
        """One with its envelope and traceback, and the first that are parked behind it."""
        return await ask(request.call, ShowDeadLetter(at=path(request, service), id=id))

    @post("/{service:str}/{id:str}/retry", opt=needs(RetryDeadLetter, writes=True))
    async def retry_dead_letter(
        self, request: ApiRequest, service: FromPath[str], id: FromPath[str], data: JSONBody[Retry]
    ) -> Answer:
        """Have one tried again, with another payload if one is given."""
        command = RetryDeadLetter(at=path(request, service), id=id, payload=data.payload)
        return await write(request, Written(request.call), command)

    @post("/{service:str}/{id:str}/discard", opt=needs(DiscardDeadLetter, writes=True))
    async def discard_dead_letter(
        self, request: ApiRequest, service: FromPath[str], id: FromPath[str], data: JSONBody[Discard]
    ) -> Answer:
        """Give one up for good; the next of its key follows."""
        command = DiscardDeadLetter(at=path(request, service), id=id, reason=data.reason)
        return await write(request, Written(request.call), command)

    @post("/{service:str}/selections", status_code=200, opt=needs(SelectDeadLetters, answers=DeadLettersSelected))
    async def select_dead_letters(
        self, request: ApiRequest, service: FromPath[str], data: JSONBody[Selection]
    ) -> Answer:
        """How many a redrive would try again, and the confirmation for it."""
        command = SelectDeadLetters(at=path(request, service), which=data.filter(), limit=data.limit)
        return await ask(request.call, command)

    @post("/{service:str}/redrives", opt=needs(RedriveDeadLetters, writes=True, result=DeadLettersRetried))
    async def redrive_dead_letters(
        self, request: ApiRequest, service: FromPath[str], data: JSONBody[Redrive]
    ) -> Answer:
        """Have those tried again that were selected; what has failed since is left alone."""
        command = RedriveDeadLetters(
            at=path(request, service), which=data.filter(), limit=data.limit, confirmation=data.confirmation
        )
        return await write(request, Written(request.call), command)


async def page_of(call: Call, service: str, which: Filter, after: str, limit: int) -> DeadLetterPage | None:
    """A service's own; None where it does not answer in time."""
    id = new_id()
    command: OperatorCommand = ListDeadLetters(at=service, which=which, after=after, limit=limit)
    try:
        return await call.gateway.bus.call(command, DeadLetterPage, call.context(id), id=id, timeout=SECONDS)
    except (ReplyTimeoutError, UnavailableError):
        return None


def filter_of(given: dict[str, str]) -> Filter:
    """The filter that a query asks for."""
    before = None
    if "older_than" in given:
        before = datetime.now(UTC) - timedelta(seconds=number("older_than", given["older_than"], 0, LONGEST_AGE))
    return Filter(
        consumer=given.get("consumer", ""), type=given.get("type", ""), tenant=given.get("tenant", ""),
        key=given.get("key", ""), failure=choice("failure", given.get("failure", "")),
        state=choice("state", given.get("state", "")), before=before,
    )  # fmt: skip


def choice(name: str, value: str) -> str:
    if value and value not in CHOICES[name]:
        raise InvalidParameterError(
            f"There is no {name} {value[:50]!r}.", field=name, remedy=f"Use one of {', '.join(CHOICES[name])}."
        )
    return value


def cursor(text: str) -> str:
    try:
        return str(UUID(text)) if text else ""
    except ValueError as error:
        raise InvalidParameterError(
            "This cursor is not one of ours.", field="cursor", remedy="Use the `next` of the page before, unchanged."
        ) from error


def known(service: str) -> str:
    if service not in messages.categories():
        raise InvalidParameterError(
            f"There is no service {service[:50]!r}.", field="service",
            remedy=f"Use one of {', '.join(messages.categories())}.",
        )  # fmt: skip
    return service


def path(request: ApiRequest, service: str) -> str:
    """The service that a path names. Raises NoSuchPathError."""
    if service not in messages.categories():
        raise NoSuchPathError(request.scope["path"])
    return service
