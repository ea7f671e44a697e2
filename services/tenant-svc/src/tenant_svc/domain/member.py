"""A member: a person's access to one tenant."""

from typing import ClassVar, assert_never

import msgspec

from bizosaas_events import Command, Decider
from bizosaas_events.messages.tenant import (
    SERVICE,
    AddMember,
    MemberAdded,
    MemberEvent,
    MemberRole,
    MemberSignedIn,
    MemberSignInRefused,
)
from bizosaas_ports.access import PLATFORM_TENANT, Role

from .errors import EmailInvalidError, EmailTakenError, RoleNotAllowedError

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


MemberCommand = Admit | NoteSignIn


class State(msgspec.Struct, frozen=True, kw_only=True):
    id: str = ""
    email: str = ""
    role: MemberRole = "tenant_user"


def decide(command: MemberCommand, state: State) -> list[MemberEvent]:
    match command:
        case Admit():
            return _admit(command, state)
        case NoteSignIn(reason=""):
            return [MemberSignedIn(member_id=state.id)]
        case NoteSignIn():
            return [MemberSignInRefused(member_id=state.id, reason=command.reason)]
        case _:
            assert_never(command)


def _admit(command: Admit, state: State) -> list[MemberEvent]:
    request = command.request
    if state.id:
        raise EmailTakenError
    email = normal(request.email)
    local, at, domain = email.partition("@")
    if not (local and at and "." in domain.strip(".")) or any(c.isspace() for c in email):
        raise EmailInvalidError(request.email)
    is_platform = command.tenant_id == PLATFORM_TENANT
    needs_platform = request.role in (Role.PLATFORM_ADMIN, Role.SUPER_ADMIN)
    if is_platform != needs_platform or _RANK.index(Role(request.role)) > _RANK.index(Role(command.giver_role)):
        raise RoleNotAllowedError(request.role, command.giver_role)
    return [
        MemberAdded(
            member_id=request.member_id, tenant_id=command.tenant_id, email=email, name=request.name, role=request.role
        )
    ]


def normal(email: str) -> str:
    """The form in which an address is compared and kept."""
    return email.strip().lower()


def evolve(state: State, event: MemberEvent) -> State:
    match event:
        case MemberAdded():
            return State(id=event.member_id, email=event.email, role=event.role)
        case MemberSignedIn() | MemberSignInRefused():
            return state
        case _:
            assert_never(event)


MEMBER: Decider[MemberCommand, State, MemberEvent] = Decider(
    category="member", initial=State, decide=decide, evolve=evolve
)
