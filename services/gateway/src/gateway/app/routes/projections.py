"""Projections of every service in versions: how far each has come, and which one is read."""

import asyncio
from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events import ReplyTimeoutError, messages, new_id
from bizosaas_events.errors import UnavailableError
from bizosaas_events.messages.operations import (
    BuildProjection,
    CompareProjections,
    DropProjection,
    ListProjections,
    ProjectionPage,
    ProjectionsCompared,
    ProjectionVersion,
    SwapProjection,
)
from bizosaas_events.projection import Progress

from ..answers import Answer, json_answer
from ..auth import needs
from ..body import Body
from ..call import ApiRequest, Call
from ..reading import number
from ..writing import Written, ask, write
from .audit import parameters
from .dead_letters import path

LIST_SECONDS = 5.0
"""How long a service may take to list its own; who takes longer is named in `missing`."""
COMPARE_SECONDS = 30.0


class ServiceProjection(msgspec.Struct, frozen=True, kw_only=True):
    service: str
    progress: Progress


class Projections(msgspec.Struct, frozen=True, kw_only=True):
    items: list[ServiceProjection]
    missing: list[str]
    """Services that did not answer."""


class Swap(Body, frozen=True, kw_only=True):
    version: int
    limit: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1000
    """Refuse where it is so many events behind the live one."""
    force: bool = False
    """Do not wait for it: readers may find less than before."""


class AdminProjections(Controller):
    path = "/v1/admin/projections"
    tags = ("Operating",)

    @get("/", opt=needs(ListProjections, answers=Projections))
    async def list_projections(self, request: ApiRequest) -> Answer:
        """The versions of all services' projections."""
        services = messages.categories()
        pages = await asyncio.gather(*[page_of(request.call, service) for service in services])
        found = dict(zip(services, pages, strict=True))
        items = [ServiceProjection(service=s, progress=p) for s, page in found.items() if page for p in page.items]
        return json_answer(200, Projections(items=items, missing=[s for s, page in found.items() if page is None]))

    @post("/{service:str}/{name:str}/versions", opt=needs(BuildProjection, writes=True, result=ProjectionVersion))
    async def build_projection(self, request: ApiRequest, service: FromPath[str], name: FromPath[str]) -> Answer:
        """Begin to build another version from position 0, while the live one is read."""
        return await write(request, Written(request.call), BuildProjection(at=path(request, service), projection=name))

    @delete(
        "/{service:str}/{name:str}/versions/{version:str}", status_code=200,
        opt=needs(DropProjection, writes=True, result=ProjectionVersion),
    )  # fmt: skip
    async def drop_projection(
        self, request: ApiRequest, service: FromPath[str], name: FromPath[str], version: FromPath[str]
    ) -> Answer:
        """Remove a version that is not read."""
        which = number("version", version, 1, 10**9 - 1)
        command = DropProjection(at=path(request, service), projection=name, version=which)
        return await write(request, Written(request.call), command)

    @post(
        "/{service:str}/{name:str}/swap", status_code=200,
        opt=needs(SwapProjection, writes=True, result=ProjectionVersion),
    )  # fmt: skip
    async def swap_projection(
        self, request: ApiRequest, service: FromPath[str], name: FromPath[str], data: JSONBody[Swap]
    ) -> Answer:
        """Let another version be read, as soon as it has what the live one has. The way back is the same."""
        command = SwapProjection(
            at=path(request, service), projection=name, version=data.version, limit=data.limit, force=data.force
        )
        return await write(request, Written(request.call), command)

    @get(
        "/{service:str}/{name:str}/comparison",
        opt=needs(CompareProjections, answers=ProjectionsCompared, query=("old", "new", "first")),
    )
    async def compare_projections(self, request: ApiRequest, service: FromPath[str], name: FromPath[str]) -> Answer:
        """Which rows differ between the versions `old` and `new` at the same positions, and the `first` of them."""
        given = parameters(request, "old", "new", "first")
        old, new = (number(which, given.get(which, ""), 1, 10**9 - 1) for which in ("old", "new"))
        first = number("first", given.get("first", "20"), 0, 200)
        command = CompareProjections(at=path(request, service), projection=name, old=old, new=new, first=first)
        return await ask(request.call, command, seconds=COMPARE_SECONDS)


async def page_of(call: Call, service: str) -> ProjectionPage | None:
    """A service's own; None where it does not answer in time."""
    id = new_id()
    command = ListProjections(at=service)
    try:
        return await call.gateway.bus.call(command, ProjectionPage, call.context(id), id=id, timeout=LIST_SECONDS)
    except (ReplyTimeoutError, UnavailableError):
        return None
