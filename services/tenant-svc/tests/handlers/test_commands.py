"""The commands of tenant-svc, on memory adapters."""

import base64

import msgspec
import pytest

from bizosaas_events import new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.tenant import (
    EraseMember,
    MemberAdded,
    MemberErased,
    MemberSignedIn,
    MemberSignInRefused,
    PersonKeys,
    ReadPersonKeys,
    SignedIn,
)
from bizosaas_events.personal import opened
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_ports.sealing import SealingKey, seal, seal_text
from tenant_svc.testing import KEY, PLATFORM, MemoryTenantService, a_context, a_member, a_sign_in, a_tenant


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
    assert problem.slug == "not-sealed"


async def test_the_platform_has_its_own_admins() -> None:
    service = MemoryTenantService()

    reply = await service.ask(a_member("root-id", "root@bizos.test", "super_admin"), PLATFORM)

    assert reply.problem is None


async def keys_for(
    service: MemoryTenantService, *members: str, tenant: str = "acme-id", role: str = "service"
) -> dict[str, bytes | None]:
    """What a service of this tenant is told."""
    recipient = SealingKey.generate()
    command = ReadPersonKeys(member_ids=list(members), recipient=recipient.public)
    reply = await service.ask(command, a_context(tenant, role))
    told = msgspec.json.decode(recipient.open(decode_result(reply, PersonKeys).sealed))
    return {id: base64.b64decode(key) if key is not None else None for id, key in told.items()}


async def test_name_and_address_are_in_no_event_and_no_answer_in_clear(service: MemoryTenantService) -> None:
    sealed = msgspec.structs.replace(
        a_member("bob-id", "bob@acme.test"), email=seal_text(KEY.public, "Bob@acme.test"),
        name=seal_text(KEY.public, "Bob Møller"),
    )  # fmt: skip
    assert (await service.ask(sealed)).problem is None

    signed_in = decode_result(
        await service.ask(msgspec.structs.replace(a_sign_in(), email=seal_text(KEY.public, "bob@acme.test"))), SignedIn
    )

    (added, _) = await service.store.load("member-bob-id")
    for clear in (b"bob@acme.test", b"Bob"):
        assert clear not in added.data
        assert clear not in msgspec.json.encode(signed_in)
    keys = await keys_for(service, "bob-id")
    assert opened(f"{signed_in.name} {signed_in.email}", keys) == "Bob Møller bob@acme.test"


async def test_an_address_sealed_to_another_key_is_refused(service: MemoryTenantService) -> None:
    sealed = seal_text(SealingKey.generate().public, "bob@acme.test")

    problem = (await service.ask(a_member("bob-id", sealed))).problem

    assert problem is not None
    assert (problem.slug, problem.field) == ("not-sealed", "email")


async def test_keys_are_lent_for_members_of_the_tenant_and_of_the_platform_only(service: MemoryTenantService) -> None:
    assert (await service.ask(a_member("root-id", "root@bizos.test", "super_admin"), PLATFORM)).problem is None

    assert set(await keys_for(service, "ann-id", "root-id", "nobody")) == {"ann-id", "root-id"}
    assert set(await keys_for(service, "ann-id", "root-id", tenant="other-id")) == {"root-id"}
    assert set(await keys_for(service, "ann-id", "root-id", tenant=PLATFORM_TENANT)) == {"root-id"}


async def test_a_person_is_lent_no_key(service: MemoryTenantService) -> None:
    command = ReadPersonKeys(member_ids=["ann-id"], recipient=SealingKey.generate().public)

    problem = (await service.ask(command, a_context(role="super_admin"))).problem

    assert problem is not None
    assert problem.slug == "permission-missing"


async def test_a_key_that_nothing_can_be_sealed_to_is_refused(service: MemoryTenantService) -> None:
    command = ReadPersonKeys(member_ids=["ann-id"], recipient=b"short")

    problem = (await service.ask(command, a_context(role="service"))).problem

    assert problem is not None
    assert problem.slug == "recipient-invalid"


async def test_an_erased_member_cannot_sign_in_and_is_read_nowhere(service: MemoryTenantService) -> None:
    id = new_id()

    first = await service.ask(EraseMember(member_id="ann-id"), id=id)
    again, anew = [await service.ask(EraseMember(member_id="ann-id"), id=i) for i in (id, new_id())]

    assert first.problem is None
    assert again == first
    assert (anew.problem, anew.position) == (None, "")
    assert (await service.events("member-ann-id"))[1:] == [MemberErased(member_id="ann-id")]
    assert await keys_for(service, "ann-id") == {"ann-id": None}
    assert service.accounts.accounts == {}
    problem = (await service.ask(a_sign_in())).problem
    assert problem is not None
    assert problem.slug == "sign-in-refused"
    assert (await service.ask(a_member("ann-2", "ann@acme.test"))).problem is None, "the address is free again"


async def test_an_account_that_a_crash_left_behind_is_removed_by_the_repeat(service: MemoryTenantService) -> None:
    id, account = new_id(), service.accounts.accounts["ann@acme.test"]
    await service.ask(EraseMember(member_id="ann-id"), id=id)
    service.accounts.accounts["ann@acme.test"] = account

    refused = await service.ask(a_sign_in())
    assert (await service.ask(EraseMember(member_id="ann-id"), id=id)).problem is None

    assert refused.problem is not None
    assert service.accounts.accounts == {}


async def test_adding_a_member_again_after_the_erasure_brings_nothing_back(service: MemoryTenantService) -> None:
    id = new_id()
    added = await service.ask(a_member("bob-id", "bob@acme.test"), id=id)
    await service.ask(EraseMember(member_id="bob-id"))

    again = await service.ask(a_member("bob-id", "bob@acme.test"), id=id)
    anew = (await service.ask(a_member("bob-id", "bob@acme.test"))).problem

    assert again == added
    assert anew is not None
    assert anew.slug == "person-erased"
    assert "bob@acme.test" not in service.accounts.accounts


@pytest.mark.parametrize(
    ("member", "tenant", "role", "slug"),
    [
        ("ann-id", "acme-id", "tenant_admin", "permission-missing"),
        ("ann-id", "other-id", "platform_admin", "not-found"),
        ("nobody", "acme-id", "platform_admin", "not-found"),
    ],
)
async def test_who_may_not_erase_is_told_why(
    service: MemoryTenantService, member: str, tenant: str, role: str, slug: str
) -> None:
    problem = (await service.ask(EraseMember(member_id=member), a_context(tenant, role))).problem

    assert problem is not None
    assert problem.slug == slug
    assert "ann@acme.test" in service.accounts.accounts
