"""The commands of tenant-svc, on memory adapters."""

import msgspec
import pytest

from bizosaas_events import new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.tenant import MemberAdded, MemberSignedIn, MemberSignInRefused, SignedIn
from bizosaas_ports.sealing import SealingKey, seal
from tenant_svc.testing import PLATFORM, MemoryTenantService, a_context, a_member, a_sign_in, a_tenant


@pytest.fixture
async def service() -> MemoryTenantService:
    """tenant-svc with the tenant acme and its admin Ann."""
    service = MemoryTenantService()
    assert (await service.ask(a_tenant())).problem is None
    assert (await service.ask(a_member())).problem is None
    return service


async def test_a_member_signs_in_and_is_told_tenant_and_role(service: MemoryTenantService) -> None:
    reply = await service.ask(a_sign_in(email="Ann@acme.test"))

    signed_in = decode_result(reply, SignedIn)
    assert (signed_in.member_id, signed_in.tenant_id, signed_in.role) == ("ann-id", "acme-id", "tenant_admin")
    assert (await service.events("member-ann-id"))[-1] == MemberSignedIn(member_id="ann-id")


async def test_a_wrong_password_and_an_unknown_address_are_refused_in_the_same_words(
    service: MemoryTenantService,
) -> None:
    wrong = (await service.ask(a_sign_in(password="not the password"))).problem
    unknown = (await service.ask(a_sign_in(email="eve@acme.test"))).problem

    assert wrong is not None
    assert wrong == unknown
    assert wrong.slug == "sign-in-refused"
    assert (await service.events("member-ann-id"))[-1] == MemberSignInRefused(
        member_id="ann-id", reason="wrong password"
    )


async def test_the_password_is_in_no_event(service: MemoryTenantService) -> None:
    from tenant_svc.testing import PASSWORD

    stored = [e.data for e in await service.store.load("member-ann-id")]
    account = service.accounts.accounts["ann@acme.test"]
    assert stored
    assert all(PASSWORD.encode() not in data and account.password_hash.encode() not in data for data in stored)


async def test_a_command_handled_twice_has_its_effect_once(service: MemoryTenantService) -> None:
    id, bob = new_id(), a_member("bob-id", "bob@acme.test", "tenant_user")

    first, second = await service.ask(bob, id=id), await service.ask(bob, id=id)

    assert first.problem is None
    assert second == first
    assert [type(e) for e in await service.events("member-bob-id")] == [MemberAdded]


async def test_an_address_is_given_once_on_the_whole_platform(service: MemoryTenantService) -> None:
    other = a_context(tenant="other-id")
    assert (await service.ask(a_tenant("other-id", "other"), other)).problem is None

    problem = (await service.ask(a_member("eve-id"), other)).problem

    assert problem is not None
    assert (problem.slug, problem.field) == ("email-taken", "email")


async def test_a_slug_is_given_once(service: MemoryTenantService) -> None:
    problem = (await service.ask(a_tenant("acme-2"), a_context(tenant="acme-2"))).problem

    assert problem is not None
    assert problem.slug == "slug-taken"


async def test_a_member_of_no_tenant_is_refused() -> None:
    problem = (await MemoryTenantService().ask(a_member())).problem

    assert problem is not None
    assert problem.kind == "not-found"


async def test_a_tenant_admin_cannot_manage_tenants(service: MemoryTenantService) -> None:
    problem = (await service.ask(a_tenant("b-id", "bbb"), a_context(role="tenant_admin"))).problem

    assert problem is not None
    assert problem.slug == "permission-missing"
    assert "tenant_management" in problem.detail


@pytest.mark.parametrize(("password", "slug"), [("short", "password-weak"), ("", "password-weak")])
async def test_a_weak_password_is_refused(service: MemoryTenantService, password: str, slug: str) -> None:
    problem = (await service.ask(a_member("bob-id", "bob@acme.test", password=password))).problem

    assert problem is not None
    assert (problem.slug, problem.field) == (slug, "password")
    assert "bob@acme.test" not in service.accounts.accounts


async def test_a_password_sealed_to_another_key_is_refused(service: MemoryTenantService) -> None:
    sealed = seal(SealingKey.generate().public, b"correct horse battery")

    problem = (await service.ask(msgspec.structs.replace(a_sign_in(), sealed_password=sealed))).problem

    assert problem is not None
    assert problem.slug == "password-not-sealed"


async def test_the_platform_has_its_own_admins() -> None:
    service = MemoryTenantService()

    reply = await service.ask(a_member("root-id", "root@bizos.test", "super_admin"), PLATFORM)

    assert reply.problem is None
