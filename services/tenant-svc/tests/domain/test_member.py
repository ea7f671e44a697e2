"""What is decided about members."""

import pytest

from bizosaas_events import DomainError
from bizosaas_events.messages.tenant import MemberAdded, MemberErased, MemberRole, MemberSignedIn, MemberSignInRefused
from bizosaas_events.personal import PersonErasedError
from bizosaas_events.testing import given
from tenant_svc.domain.errors import (
    EmailInvalidError,
    EmailTakenError,
    MemberAboveError,
    OwnErasureError,
    RoleNotAllowedError,
    SignInRefusedError,
)
from tenant_svc.domain.member import MEMBER, Admit, Erase, NoteSignIn
from tenant_svc.testing import a_member

ADDED = MemberAdded(member_id="ann-id", tenant_id="acme-id", email="ann@acme.test", name="Ann", role="tenant_admin")


def admit(
    role: MemberRole = "tenant_admin",
    giver: str = "platform_admin",
    tenant: str = "acme-id",
    email: str = "ann@acme.test",
) -> Admit:
    return Admit(request=a_member(role=role, email=email), tenant_id=tenant, giver_role=giver)


def test_a_member_is_added_with_a_normalised_address() -> None:
    given(MEMBER).when(admit(email=" Ann@ACME.test ")).then(ADDED)


def test_a_member_is_added_once() -> None:
    given(MEMBER, ADDED).when(admit()).then_refused(EmailTakenError, slug="email-taken")


@pytest.mark.parametrize("email", ["", "ann", "ann@", "@acme.test", "ann@acme", "an n@acme.test"])
def test_what_is_no_address_is_refused(email: str) -> None:
    given(MEMBER).when(admit(email=email)).then_refused(EmailInvalidError, slug="email-invalid")


@pytest.mark.parametrize(
    ("role", "giver", "tenant"),
    [
        ("super_admin", "super_admin", "acme-id"),
        ("platform_admin", "super_admin", "acme-id"),
        ("tenant_admin", "super_admin", "platform"),
        ("super_admin", "platform_admin", "platform"),
    ],
)
def test_nobody_gives_a_role_that_does_not_belong_there_or_is_above_their_own(
    role: MemberRole, giver: str, tenant: str
) -> None:
    given(MEMBER).when(admit(role, giver, tenant)).then_refused(RoleNotAllowedError, slug="role-not-allowed")


def test_a_sign_in_is_recorded() -> None:
    given(MEMBER, ADDED).when(NoteSignIn()).then(MemberSignedIn(member_id="ann-id"))


def test_a_refused_sign_in_is_recorded_with_its_reason() -> None:
    refused = MemberSignInRefused(member_id="ann-id", reason="wrong password")
    given(MEMBER, ADDED).when(NoteSignIn(reason="wrong password")).then(refused)


ERASED = MemberErased(member_id="ann-id")


def erase(actor: str = "member:petra", role: str = "platform_admin") -> Erase:
    return Erase(actor=actor, actor_role=role)


def test_a_member_is_erased() -> None:
    given(MEMBER, ADDED).when(erase()).then(ERASED)


def test_erasing_again_changes_nothing() -> None:
    given(MEMBER, ADDED, ERASED).when(erase()).then_nothing()


def test_nobody_erases_themselves() -> None:
    given(MEMBER, ADDED).when(erase(actor="member:ann-id")).then_refused(OwnErasureError, slug="own-erasure")


def test_nobody_erases_somebody_above_them() -> None:
    root = MemberAdded(member_id="root", tenant_id="platform", email="r@b.test", name="R", role="super_admin")
    given(MEMBER, root).when(erase()).then_refused(MemberAboveError, slug="member-above-you")
    given(MEMBER, root).when(erase(role="super_admin")).then(MemberErased(member_id="root"))


def test_an_erased_member_neither_signs_in_nor_is_added_again() -> None:
    given(MEMBER, ADDED, ERASED).when(NoteSignIn()).then_refused(SignInRefusedError, slug="sign-in-refused")
    given(MEMBER, ADDED, ERASED).when(admit()).then_refused(PersonErasedError, slug="person-erased")


def test_every_refusal_is_a_domain_error_with_a_slug_of_its_own() -> None:
    from tenant_svc.domain import errors

    found = [
        e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, DomainError) and e is not DomainError
    ]
    assert len({e.slug for e in found}) == len(found) >= 8
