"""Reading views: ETags, pages, filters, and waiting for one's own write."""

import base64
import binascii
import re
import time
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from bizosaas_events import StreamNotFoundError, messages
from bizosaas_ports.access import PLATFORM_TENANT

from ..adapters.views import ALL_TENANTS, Found, Item
from .answers import Answer
from .call import ApiRequest, Call
from .errors import BehindError, InvalidParameterError, PreconditionRequiredError

LIMIT, LARGEST_LIMIT = 50, 200
TENANT_GRACE_SECONDS = 1.0
"""So long a tenant that is not in the read model may still be on its way there."""

ID = re.compile(r"[A-Za-z0-9._~@-]{1,200}")
"""What an id may look like; whatever else stands in a path is no object's."""
_POSITION = re.compile(r"([a-z]{1,30})/(\d{1,4})@(\d{1,18})")
_ETAG = re.compile(r'(?:W/)?"(\d{1,9})"')
_PRIVATE = (b"cache-control", b"private, no-cache")
_VARY = (b"vary", b"Authorization, Cookie, Bizos-Tenant")


async def one(request: ApiRequest, kind: str, id: str, *, tenant: str = "") -> Answer:
    """One object with its ETag, or 304 where the caller has that version."""
    call = request.call
    await caught_up(call)
    found = await find(call, kind, id, tenant=tenant)
    etag = f'"{found.version}"'.encode()
    headers = [(b"etag", etag), _PRIVATE, _VARY]
    known = call.headers.get(b"if-none-match", b"")
    if known and (known.strip() == b"*" or etag in [tag.strip().removeprefix(b"W/") for tag in known.split(b",")]):
        return Answer(304, b"", headers)
    state = await call.gateway.persons.opened(found.state, tenant or call.tenant)
    return Answer(200, state.encode(), headers)


async def find(call: Call, kind: str, id: str, *, tenant: str = "") -> Found:
    """An object this tenant may see. Raises StreamNotFoundError, in the same words for another tenant's."""
    found = await call.gateway.views.one(tenant or call.tenant, kind, id) if ID.fullmatch(id) else None
    if found is None:
        raise StreamNotFoundError(f"{kind}-{id[:100]}")
    return found


async def page(request: ApiRequest, kind: str, *, tenant: str = "", **fixed: str) -> Answer:
    """A page of a kind, newest first: `?limit=&cursor=` and a filter for each simple field of the view."""
    call = request.call
    limit, after, filters = page_parameters(request, kind, fixed)
    await caught_up(call)
    items = await _items(call, kind, tenant or call.tenant, filters | fixed, after, limit + 1)
    following = cursor_of(items[limit - 1].created_at, items[limit - 1].id) if len(items) > limit else ""
    body = f'{{"items":[{",".join(item.state for item in items[:limit])}],"next":"{following}"}}'
    return Answer(200, body.encode(), [_PRIVATE, _VARY])


async def _items(
    call: Call, kind: str, tenant: str, filters: dict[str, str], after: tuple[datetime, str] | None, limit: int
) -> list[Item]:
    """The next objects, opened. By what is closed in the database they are chosen here, a larger page at a time."""
    views, persons = call.gateway.views, call.gateway.persons
    closed = {name: filters[name] for name in call.gateway.kinds[kind].personal if name in filters}
    others = {name: value for name, value in filters.items() if name not in closed}
    size = max(limit, LARGEST_LIMIT) if closed else limit
    found: list[Item] = []
    while True:
        items = await views.page(tenant, kind, filters=others, after=after, limit=size)
        # One text for all of them, so that their keys are asked for once; JSON of the database has no line break.
        states = (await persons.opened("\n".join(item.state for item in items), tenant)).split("\n")
        items = [item._replace(state=state) for item, state in zip(items, states, strict=False)]
        found += [item for item in items if not closed or _has(item.state, closed)]
        if len(items) < size or len(found) >= limit:
            return found[:limit]
        after = (items[-1].created_at, items[-1].id)


def _has(state: str, values: dict[str, str]) -> bool:
    document = msgspec.json.decode(state)
    return all(document[name] == value for name, value in values.items())


def page_parameters(
    request: ApiRequest, kind: str, fixed: dict[str, str]
) -> tuple[int, tuple[datetime, str] | None, dict[str, str]]:
    """Limit, place and filters. Raises InvalidParameterError for whatever is not one of them."""
    limit, after, filters = LIMIT, None, {}
    known = filters_of(kind)
    for name, value in request.query_params.items():
        if name == "limit":
            limit = number(name, value, 1, LARGEST_LIMIT)
        elif name == "cursor":
            after = place_of(value)
        elif name in known and name not in fixed:
            filters[name] = known[name](value)
        else:
            raise InvalidParameterError(
                f"There is no parameter {name[:50]!r} here.", field=name[:50],
                remedy=f"Use limit, cursor, or a filter by {', '.join(sorted(set(known) - set(fixed)))}.",
            )  # fmt: skip
    return limit, after, filters


@cache
def filters_of(kind: str) -> dict[str, Any]:
    """The simple fields of a view, and how a value is compared with its text in the database."""
    hints = get_type_hints(messages.views()[kind].state)
    simple: dict[str, Any] = {}
    for name, hint in hints.items():
        if hint in (str, int) or get_origin(hint) is Literal:
            simple[name] = _literal(name, hint)
        elif hint is bool:
            simple[name] = _boolean(name)
    return simple


def _literal(name: str, hint: Any) -> Any:
    allowed = get_args(hint)

    def check(value: str) -> str:
        if allowed and value not in allowed:
            raise InvalidParameterError(
                f"{name} is never {value[:50]!r}.", field=name, remedy=f"Use one of {', '.join(map(str, allowed))}."
            )
        return value

    return check


def _boolean(name: str) -> Any:
    def check(value: str) -> str:
        if value not in ("true", "false"):
            raise InvalidParameterError(f"{name} is true or false.", field=name, remedy=f"Write {name}=true.")
        return value

    return check


def number(name: str, value: str, smallest: int, largest: int) -> int:
    """A query parameter that is a number. Raises InvalidParameterError."""
    if not (value.isascii() and value.isdigit() and len(value) < 10 and smallest <= int(value) <= largest):
        raise InvalidParameterError(
            f"{name} is a number from {smallest} to {largest}.", field=name, remedy=f"Write {name}={smallest}, or more."
        )
    return int(value)


def cursor_of(created_at: datetime, id: str) -> str:
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {id}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[datetime, str]:
    """What a cursor of ours says. Raises InvalidParameterError for one that is not ours."""
    try:
        time_, _, id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        place = datetime.fromisoformat(time_)
        if not ID.fullmatch(id) or place.tzinfo is None:
            raise ValueError(cursor)
        place = place.astimezone(UTC)  # a time whose offset leads out of the calendar is no place in the database
    except (ValueError, OverflowError, binascii.Error) as error:
        raise InvalidParameterError(
            "This cursor is not one of ours.", field="cursor", remedy="Use the `next` of the page before, unchanged."
        ) from error
    return place, id


async def caught_up(call: Call) -> None:
    """Wait until the read model has reached what `Read-After` names. Raises BehindError after a while.

    When this returns, what is read next shows it: of two versions, one may lag behind the other.
    """
    positions = [part for part in map(str.strip, call.header(b"read-after").split(",")) if part]
    reached = 0
    while positions and reached != call.gateway.read_model.reading.number:
        reached = call.gateway.read_model.reading.number
        for position in positions:
            await _reach(call, position)


async def _reach(call: Call, text: str) -> None:
    found = _POSITION.fullmatch(text)
    settings = call.gateway.settings
    if not found or found[1] not in messages.categories() or int(found[2]) >= settings.partitions:
        raise InvalidParameterError(
            f"{text[:50]!r} is not a position.", field="Read-After", remedy="Use the Position of an answer, unchanged."
        )
    category, partition, wanted = found[1], int(found[2]), int(found[3])
    end = time.monotonic() + settings.read_after_seconds
    consumer, views = call.gateway.read_model.consumer, call.gateway.views
    while True:
        ours = consumer.position(category, partition)
        if (ours if ours is not None else await views.checkpoint(consumer.name, category, partition)) >= wanted:
            return
        if time.monotonic() >= end:
            raise BehindError(text)
        # Our own commits wake us; another instance's are only found by looking.
        await call.gateway.wakeups.wait(f"{category}/{partition}", 1.0 if ours is not None else 0.05)


async def tenant_exists(call: Call, tenant: str) -> bool:
    """Whether there is such a tenant. One that was made a moment ago counts, so it is waited for a little."""
    known = call.gateway.known_tenants
    if tenant in known:
        return True
    await caught_up(call)
    end = time.monotonic() + TENANT_GRACE_SECONDS
    while ID.fullmatch(tenant):
        if await call.gateway.views.one(ALL_TENANTS, "tenant", tenant):
            known[tenant] = True
            return True
        if time.monotonic() > end:
            break
        await call.gateway.wakeups.wait("", 0.1)
    return tenant == PLATFORM_TENANT


def expected_version(call: Call) -> int:
    """The version that `If-Match` names. Raises PreconditionRequiredError when there is none."""
    said = call.header(b"if-match")
    if not said:
        raise PreconditionRequiredError
    if found := _ETAG.fullmatch(said):
        return int(found[1])
    raise InvalidParameterError("If-Match holds one ETag of ours.", field="If-Match", remedy="Send the ETag unchanged.")
