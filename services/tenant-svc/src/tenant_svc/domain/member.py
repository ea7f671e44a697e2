"""A member: a person's access to one tenant."""

from typing import ClassVar, assert_never

import msgspec

from bizosaas_events import Command, Decider
from bizosaas_events.messages.tenant import (
    SERVICE,
    AddMember,
    MemberAdded,
    MemberErased,
    MemberEvent,
    MemberRole,
    MemberSignedIn,
    MemberSignInRefused,
)
from bizosaas_events.personal import PersonErasedError
from bizosaas_ports.access import PLATFORM_TENANT, Role

from .errors import (
    EmailInvalidError,
    EmailTakenError,
    MemberAboveError,
    OwnErasureError,
    RoleNotAllowedError,
    SignInRefusedError,
)

_RANK = [Role.TENANT_USER, Role.TENANT_ADMIN, Role.PLATFORM_ADMIN, Role.SUPER_ADMIN, Role.SERVICE]


class Admit(Command, frozen=True, kw_only=True, tag="tenant.internal.admit"):
    """AddMember with what the handler knows: which tenant, and who gives the role."""

    service: ClassVar[str] = SERVICE

    request: AddMember
    tenant_id: str
    giver_role: str


class NoteSignIn(Command, frozen=True, kw_only=True, tag="tenant.internal.note-sign-in"):
    """What came of checking a password; `reason` empty: it was right."""

    service: ClassVar[str] = SERVICE

    reason: str = ""


class Erase(Command, frozen=True, kw_only=True, tag="tenant.internal.erase"):
    """EraseMember with who asks for it."""

    service: ClassVar[str] = SERVICE

    actor: str
    actor_role: str


MemberCommand = Admit | NoteSignIn | Erase


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`email` and `name` as they were recorded: closed."""

    id: str = ""
    email: str = ""
    name: str = ""
    erased: bool = False
    role: MemberRole = "tenant_user"


def decide(command: MemberCommand, state: State) -> list[MemberEvent]:
    match command:
        case Admit():
            return _admit(command, state)
        case Erase():
            return _erase(command, state)
        case NoteSignIn() if state.erased:
            raise SignInRefusedError
        case NoteSignIn(reason=""):
            return [MemberSignedIn(member_id=state.id)]
        case NoteSignIn():
            return [MemberSignInRefused(member_id=state.id, reason=command.reason)]
        case _:
            assert_never(command)


def _admit(command: Admit, state: State) -> list[MemberEvent]:
    request = command.request
    if state.erased:
        raise PersonErasedError(state.id)
    if state.id:
        raise EmailTakenError
    email = normal(request.email)
    local, at, domain = email.partition("@")
    if not (local and at and "." in domain.strip(".")) or any(c.isspace() for c in email):
        raise EmailInvalidError
    is_platform = command.tenant_id == PLATFORM_TENANT
    needs_platform = request.role in (Role.PLATFORM_ADMIN, Role.SUPER_ADMIN)
    if is_platform != needs_platform or _is_above(request.role, command.giver_role):
        raise RoleNotAllowedError(request.role, command.giver_role)
    return [
        MemberAdded(
            member_id=request.member_id, tenant_id=command.tenant_id, email=email, name=request.name, role=request.role
        )
    ]


def _erase(command: Erase, state: State) -> list[MemberEvent]:
    """Whoever erases stays: so there is always a super admin, however many erase each other's accounts."""
    if state.erased:
        return []
    if command.actor == f"member:{state.id}":
        raise OwnErasureError
    if _is_above(state.role, command.actor_role):
        raise MemberAboveError(state.role)
    return [MemberErased(member_id=state.id)]


def _is_above(role: str, other: str) -> bool:
    return _RANK.index(Role(role)) > _RANK.index(Role(other))


def normal(email: str) -> str:
    """The form in which an address is compared and kept."""
    return email.strip().lower()


def evolve(state: State, event: MemberEvent) -> State:
    match event:
        case MemberAdded():
            return State(id=event.member_id, email=event.email, name=event.name, role=event.role)
        case MemberErased():
            return State(id=state.id, role=state.role, erased=True)
        case MemberSignedIn() | MemberSignInRefused():
            return state
        case _:
            assert_never(event)


MEMBER: Decider[MemberCommand, State, MemberEvent] = Decider(
    category="member", initial=State, decide=decide, evolve=evolve
)
