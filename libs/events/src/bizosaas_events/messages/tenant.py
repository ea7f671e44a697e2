"""tenant-svc: tenants, their members, and signing in."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal, assert_never

import msgspec

from ..envelope import Command, Envelope, Event, Result
from ..personal import ERASED
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
    """Give a person access to the context's tenant.

    `sealed_password` is sealed to tenant-svc's public key; `email` and `name` may be, too
    (`bizosaas_ports.sealing.seal_text`), so that they are in no stream in clear.
    """

    member_id: str
    email: str
    name: str
    role: MemberRole
    sealed_password: bytes


class SignIn(Command, frozen=True, kw_only=True, tag="tenant.sign-in.v1"):
    """Check a local account; answers SignedIn. Sealed as in AddMember."""

    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = None

    email: str
    sealed_password: bytes


class EraseMember(TenantCommand, frozen=True, kw_only=True, tag="tenant.erase-member.v1"):
    """Erase a person: their access ends, and their name and e-mail address are read nowhere again, for ever."""

    member_id: str


class ReadPersonKeys(Command, frozen=True, kw_only=True, tag="tenant.read-person-keys.v1"):
    """Ask for the keys that open members' names and addresses; answers PersonKeys.

    Only keys of members of the context's tenant and of the platform are told.
    """

    service: ClassVar[str] = SERVICE
    permission: ClassVar[str | None] = "service"

    member_ids: Annotated[list[str], msgspec.Meta(max_length=1000)]
    recipient: bytes
    """A one-time public key (X25519) that the answer is sealed to."""


class PersonKeys(Result, frozen=True, kw_only=True, tag="tenant.person-keys.v1"):
    """`sealed`: JSON of `{member id: key in base64, or null for somebody who was erased}`. Who is unknown is left out."""

    sealed: bytes


class SignedIn(Result, frozen=True, kw_only=True, tag="tenant.signed-in.v1"):
    """`email` and `name` are closed values, see `bizosaas_events.personal`."""

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
    """`name` and `email` are recorded closed, see `bizosaas_events.personal`."""

    says: ClassVar[str] = "{actor} added {name} <{email}> as {role}"
    personal: ClassVar[tuple[str, ...]] = ("name", "email")
    person: ClassVar[str] = "member_id"

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


class MemberErased(Event, frozen=True, kw_only=True, tag="tenant.member.erased.v1"):
    says: ClassVar[str] = "{actor} erased the member {member_id}"
    person: ClassVar[str] = "member_id"
    erases: ClassVar[bool] = True

    member_id: str


TenantEvent = TenantCreated
MemberEvent = MemberAdded | MemberSignedIn | MemberSignInRefused | MemberErased


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
    erased_at: datetime | None = None


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
        case MemberErased():
            return view and msgspec.structs.replace(view, email=ERASED, name=ERASED, erased_at=envelope.time)
        case _:
            assert_never(event)


VIEWS = {
    "tenant": View(Tenant, evolve_tenant),
    "member": View(Member, evolve_member, personal=MemberAdded.personal),
}
