"""tenant-svc: tenants, their members, and signing in."""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

import msgspec

from ..envelope import Command, Envelope, Event, Result
from ..projection import View

SERVICE = "tenant"

MemberRole = Literal["tenant_user", "tenant_admin", "platform_admin", "super_admin"]


class TenantCommand(Command, frozen=True, kw_only=True):
    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = "tenant_management"


class CreateTenant(TenantCommand, frozen=True, kw_only=True, tag="tenant.create.v1"):
    """Make a tenant. `slug`: 2 to 40 of a-z, 0-9 and hyphen, unique on the platform."""

    tenant_id: str
    slug: str
    name: str


class AddMember(TenantCommand, frozen=True, kw_only=True, tag="tenant.add-member.v1"):
    """Give a person access to the context's tenant. `sealed_password` is sealed to tenant-svc's public key."""

    member_id: str
    email: str
    name: str
    role: MemberRole
    sealed_password: bytes


class SignIn(Command, frozen=True, kw_only=True, tag="tenant.sign-in.v1"):
    """Check a local account; answers SignedIn. `sealed_password` is sealed to tenant-svc's public key."""

    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = None

    email: str
    sealed_password: bytes


class SignedIn(Result, frozen=True, kw_only=True, tag="tenant.signed-in.v1"):
    member_id: str
    tenant_id: str
    email: str
    name: str
    role: MemberRole


class TenantCreated(Event, frozen=True, kw_only=True, tag="tenant.tenant.created.v1"):
    says: ClassVar[str] = "{actor} created the tenant {name} ({slug})"

    tenant_id: str
    slug: str
    name: str


class MemberAdded(Event, frozen=True, kw_only=True, tag="tenant.member.added.v1"):
    says: ClassVar[str] = "{actor} added {name} <{email}> as {role}"

    member_id: str
    tenant_id: str
    email: str
    name: str
    role: MemberRole


class MemberSignedIn(Event, frozen=True, kw_only=True, tag="tenant.member.signed-in.v1"):
    says: ClassVar[str] = "{actor} signed in with {method}"

    member_id: str
    method: Literal["password", "openid"] = "password"


class MemberSignInRefused(Event, frozen=True, kw_only=True, tag="tenant.member.sign-in-refused.v1"):
    says: ClassVar[str] = "a sign-in as {actor} was refused: {reason}"

    member_id: str
    reason: str


TenantEvent = TenantCreated
MemberEvent = MemberAdded | MemberSignedIn | MemberSignInRefused


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    slug: str
    name: str
    created_at: datetime


class Member(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    email: str
    name: str
    role: MemberRole
    added_at: datetime
    signed_in_at: datetime | None = None


def evolve_tenant(_: Tenant | None, event: TenantEvent, envelope: Envelope) -> Tenant:
    return Tenant(id=event.tenant_id, slug=event.slug, name=event.name, created_at=envelope.time)


def evolve_member(view: Member | None, event: MemberEvent, envelope: Envelope) -> Member | None:
    match event:
        case MemberAdded():
            return Member(
                id=event.member_id, tenant_id=event.tenant_id, email=event.email, name=event.name, role=event.role,
                added_at=envelope.time,
            )  # fmt: skip
        case MemberSignedIn():
            return view and msgspec.structs.replace(view, signed_in_at=envelope.time)
        case MemberSignInRefused():
            return view
        case _:
            assert_never(event)


VIEWS = {"tenant": View(Tenant, evolve_tenant), "member": View(Member, evolve_member)}
