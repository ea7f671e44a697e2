"""Tenants and their members."""

from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post
from litestar.params import FromPath, JSONBody

from bizosaas_events import StreamNotFoundError
from bizosaas_events.messages.tenant import AddMember, CreateTenant, EraseMember, MemberRole
from bizosaas_ports.access import PLATFORM_TENANT, Feature, allows
from bizosaas_ports.sealing import seal, seal_text

from ...adapters.views import ALL_TENANTS
from ..answers import Answer
from ..auth import needs, require
from ..body import Body
from ..call import ApiRequest, Call
from ..reading import one, page, tenant_exists
from ..writing import Written, write


class NewTenant(Body, frozen=True, kw_only=True):
    slug: Annotated[str, msgspec.Meta(max_length=40)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class NewMember(Body, frozen=True, kw_only=True):
    email: Annotated[str, msgspec.Meta(max_length=320)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    role: MemberRole
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class Tenants(Controller):
    path = "/v1/tenants"
    tags = ("Tenants",)

    @post("/", opt=needs(CreateTenant, writes=True))
    async def create_tenant(self, request: ApiRequest, data: JSONBody[NewTenant]) -> Answer:
        """Make a tenant."""
        written = Written(request.call)
        id = written.new("tenant")
        command = CreateTenant(tenant_id=id, slug=data.slug, name=data.name)
        # The tenant's own history begins with its making, so the command is already about it.
        return await write(request, written, command, made=f"/v1/tenants/{id}", id=id, tenant=id)

    @get("/", opt=needs(Feature.VIEW_DASHBOARD, page="tenant"))
    async def list_tenants(self, request: ApiRequest) -> Answer:
        """The tenants: all of them for platform administrators, else one's own."""
        call = request.call
        everyone = manages(call) and call.tenant == PLATFORM_TENANT
        return await page(request, "tenant", tenant=ALL_TENANTS if everyone else "")

    @get("/{tenant_id:str}", opt=needs(Feature.VIEW_DASHBOARD, one="tenant"))
    async def show_tenant(self, request: ApiRequest, tenant_id: FromPath[str]) -> Answer:
        """One tenant."""
        return await one(request, "tenant", tenant_id, tenant=ALL_TENANTS if manages(request.call) else "")

    @post("/{tenant_id:str}/members", opt=needs(AddMember, writes=True))
    async def add_member(self, request: ApiRequest, tenant_id: FromPath[str], data: JSONBody[NewMember]) -> Answer:
        """Give a person access to a tenant."""
        written = Written(request.call, tenant_id)
        id = written.new("member")
        key = request.call.gateway.keys.tenant_svc
        command = AddMember(
            member_id=id, email=seal_text(key, data.email), name=seal_text(key, data.name), role=data.role,
            sealed_password=seal(key, data.password.encode()),
        )  # fmt: skip
        return await write(request, written, command, made=f"/v1/tenants/{tenant_id}/members/{id}", id=id)

    @get("/{tenant_id:str}/members", opt=needs(Feature.MANAGE_INTEGRATIONS, page="member"))
    async def list_members(self, request: ApiRequest, tenant_id: FromPath[str]) -> Answer:
        """The people who have access to a tenant."""
        await see_tenant(request.call, tenant_id)
        return await page(request, "member", tenant=tenant_id)

    @get("/{tenant_id:str}/members/{member_id:str}", opt=needs(Feature.MANAGE_INTEGRATIONS, one="member"))
    async def show_member(self, request: ApiRequest, tenant_id: FromPath[str], member_id: FromPath[str]) -> Answer:
        """One of them."""
        await see_tenant(request.call, tenant_id)
        return await one(request, "member", member_id, tenant=tenant_id)

    @delete("/{tenant_id:str}/members/{member_id:str}", status_code=202, opt=needs(EraseMember, writes=True))
    async def erase_member(self, request: ApiRequest, tenant_id: FromPath[str], member_id: FromPath[str]) -> Answer:
        """Erase a person: their access ends, and their name and e-mail address are read nowhere again, for ever."""
        written = Written(request.call, tenant_id)
        return await write(request, written, EraseMember(member_id=member_id), id=member_id)


async def see_tenant(call: Call, tenant_id: str) -> None:
    """Raises StreamNotFoundError for a tenant that does not exist, or is somebody else's."""
    if tenant_id == call.member.tenant_id:
        require(call, Feature.MANAGE_INTEGRATIONS)
    elif not manages(call) or not await tenant_exists(call, tenant_id):
        raise StreamNotFoundError(f"tenant-{tenant_id[:100]}")


def manages(call: Call) -> bool:
    """Whether the caller manages tenants, and so sees them all."""
    return allows(call.member.role, Feature.TENANT_MANAGEMENT)
