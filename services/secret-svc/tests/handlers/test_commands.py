"""The commands of secret-svc, on memory adapters."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from bizosaas_events import Problem, Reply, new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.secret import (
    ConfirmSecret,
    Leased,
    RevokeSecret,
    SecretConfirmed,
    SecretLeased,
    SecretRevoked,
    SecretStored,
    Stored,
)
from bizosaas_ports.memory import MemorySecrets
from bizosaas_ports.sealing import SealingKey, seal
from bizosaas_ports.secret import SecretMissingError
from secret_svc.handlers.commands import LARGEST
from secret_svc.testing import FINGERPRINTS, VALUE, MemorySecretService, a_context, a_lease, a_secret

ME = SealingKey.generate()
PATH = "acme/crm"


@pytest.fixture
def vault() -> MemorySecrets:
    return MemorySecrets()


@pytest.fixture
def service(vault: MemorySecrets) -> MemorySecretService:
    return MemorySecretService(vault=vault)


def refusal(reply: Reply) -> Problem:
    assert reply.problem is not None
    return reply.problem


async def lent(service: MemorySecretService, version: int | None = None) -> bytes:
    return ME.open(decode_result(await service.ask(a_lease(ME, version=version)), Leased).sealed)


async def missing(vault: MemorySecrets, version: int) -> bool:
    try:
        await vault.get(PATH, version)
    except SecretMissingError:
        return True
    return False


async def test_a_stored_secret_is_lent_to_the_one_time_key_of_whoever_asks(service: MemorySecretService) -> None:
    stored = decode_result(await service.ask(a_secret()), Stored)
    leased = decode_result(await service.ask(a_lease(ME)), Leased)

    assert stored == Stored(secret_id="crm", version=1, fingerprint=FINGERPRINTS(VALUE))
    assert ME.open(leased.sealed) == VALUE
    event = (await service.events())[-1]
    assert event == SecretLeased(
        secret_id="crm", lease_id=leased.lease_id, version=1, fingerprint=stored.fingerprint,
        purpose="cms.list_content", expires_at=leased.expires_at,
    )  # fmt: skip


async def test_a_lease_ends_five_minutes_after_it_was_recorded(service: MemorySecretService) -> None:
    await service.ask(a_secret())
    leased = decode_result(await service.ask(a_lease(ME)), Leased)
    recorded = (await service.store.load("secret-crm"))[-1]
    assert leased.expires_at - recorded.time == timedelta(minutes=5)


async def test_older_versions_stay_readable_until_the_new_one_is_confirmed(
    service: MemorySecretService, vault: MemorySecrets
) -> None:
    for value in (b"old", b"new"):
        await service.ask(a_secret(value=value))
    assert (await lent(service, 1), await lent(service, 2), await lent(service)) == (b"old", b"new", b"new")

    assert (await service.ask(ConfirmSecret(secret_id="crm", version=2))).problem is None

    assert await missing(vault, 1)
    assert await lent(service) == b"new"
    assert refusal(await service.ask(a_lease(ME, version=1))).slug == "version-not-readable"
    assert SecretConfirmed(secret_id="crm", version=2) in await service.events()


async def test_a_revoked_secret_is_gone_for_good(service: MemorySecretService, vault: MemorySecrets) -> None:
    for value in (b"old", b"new"):
        await service.ask(a_secret(value=value))

    assert (await service.ask(RevokeSecret(secret_id="crm", reason="leaked"))).problem is None

    assert await missing(vault, 1)
    assert await missing(vault, 2)
    for command in (a_lease(ME), a_secret(), ConfirmSecret(secret_id="crm", version=2)):
        assert refusal(await service.ask(command)).slug == "secret-revoked"
    assert (await service.events())[-1] == SecretRevoked(secret_id="crm", reason="leaked")


async def test_another_tenants_secret_does_not_exist(service: MemorySecretService) -> None:
    await service.ask(a_secret())
    other = a_context("other")
    for command in (a_lease(ME), a_secret(), ConfirmSecret(secret_id="crm", version=1),
                    RevokeSecret(secret_id="crm", reason="malice")):  # fmt: skip
        assert refusal(await service.ask(command, other)).slug == "not-found"
    assert await lent(service) == VALUE
    with pytest.raises(SecretMissingError):
        await service.vault.get("other/crm")


@pytest.mark.parametrize("role", ["tenant_user", "tenant_admin", "platform_admin", "super_admin", ""])
async def test_only_services_handle_credentials(service: MemorySecretService, role: str) -> None:
    await service.ask(a_secret())
    for command in (a_secret(), a_lease(ME), RevokeSecret(secret_id="crm", reason="mine")):
        assert refusal(await service.ask(command, a_context(role=role))).slug == "permission-missing"


async def test_a_command_delivered_again_is_answered_as_the_first_time(service: MemorySecretService) -> None:
    store, lease, confirm = new_id(), new_id(), new_id()
    for id, command in ((store, a_secret()), (confirm, ConfirmSecret(secret_id="crm", version=1))):
        assert await service.ask(command, id=id) == await service.ask(command, id=id)
    first, second = [decode_result(await service.ask(a_lease(ME), id=lease), Leased) for _ in range(2)]

    assert (first.lease_id, first.expires_at) == (second.lease_id, second.expires_at)
    assert ME.open(second.sealed) == VALUE
    assert [type(event) for event in await service.events()] == [SecretStored, SecretConfirmed, SecretLeased]


async def test_a_lease_delivered_again_is_of_the_version_it_was_of(service: MemorySecretService) -> None:
    await service.ask(a_secret(value=b"old"))
    lease, id = a_lease(ME), new_id()
    await service.ask(lease, id=id)
    await service.ask(a_secret(value=b"new"))

    again = decode_result(await service.ask(lease, id=id), Leased)

    assert (again.version, ME.open(again.sealed)) == (1, b"old")


async def test_stores_that_race_each_get_a_version_of_their_own(service: MemorySecretService) -> None:
    values = [b"value %d" % n for n in range(5)]
    replies = await asyncio.gather(*(service.ask(a_secret(value=value)) for value in values))

    versions = [decode_result(reply, Stored).version for reply in replies]
    assert len(set(versions)) == 5
    assert [await lent(service, version) for version in versions] == values


async def test_a_secret_sealed_to_another_key_is_refused(service: MemorySecretService) -> None:
    sealed = seal(SealingKey.generate().public, VALUE)
    for box in (sealed, b"", b"no box", sealed[:-1]):
        problem = refusal(await service.ask(msgspec.structs.replace(a_secret(), sealed=box)))
        assert (problem.slug, problem.field) == ("seal-invalid", "sealed")
    assert await service.events() == []


@pytest.mark.parametrize("size", [0, LARGEST + 1])
async def test_a_value_of_a_senseless_size_is_refused(service: MemorySecretService, size: int) -> None:
    assert refusal(await service.ask(a_secret(value=bytes(size)))).slug == "value-size"


@pytest.mark.parametrize("recipient", [b"", bytes(32), b"x" * 31, b"\x01" + bytes(31)])
async def test_a_lease_to_what_is_no_key_is_refused_and_leaves_no_event(
    service: MemorySecretService, recipient: bytes
) -> None:
    await service.ask(a_secret())
    problem = refusal(await service.ask(msgspec.structs.replace(a_lease(ME), recipient=recipient)))
    assert (problem.slug, problem.field) == ("recipient-invalid", "recipient")
    assert len(await service.events()) == 1


async def test_an_outage_is_told_and_nothing_is_recorded(service: MemorySecretService, vault: MemorySecrets) -> None:
    await service.ask(a_secret())
    vault.away = True
    for command in (a_secret(value=b"new"), a_lease(ME)):
        problem = refusal(await service.ask(command))
        assert (problem.kind, problem.slug, problem.retry_after) == ("unavailable", "secret-store-away", 5)
    vault.away = False
    assert len(await service.events()) == 1
    assert await lent(service) == VALUE


async def test_what_an_outage_kept_from_being_destroyed_is_destroyed_after_it(
    service: MemorySecretService, vault: MemorySecrets
) -> None:
    for value in (b"old", b"new"):
        await service.ask(a_secret(value=value))
    vault.away = True
    assert (await service.ask(ConfirmSecret(secret_id="crm", version=2))).problem is None
    vault.away = False
    assert not await missing(vault, 1)

    await service.react(*await service.store.load("secret-crm"))
    assert await missing(vault, 1)
    assert not await missing(vault, 2)

    vault.away = True
    assert (await service.ask(RevokeSecret(secret_id="crm", reason="leaked"))).problem is None
    vault.away = False
    await service.react(*await service.store.load("secret-crm"))
    assert await missing(vault, 2)


async def test_a_store_that_lost_a_secret_says_so(service: MemorySecretService, vault: MemorySecrets) -> None:
    await service.ask(a_secret())
    emptied = MemorySecretService(service.store, MemorySecrets())
    assert refusal(await emptied.ask(a_lease(ME))).slug == "secret-lost"
    assert refusal(await emptied.ask(a_secret(value=b"new"))).slug == "secret-lost"


async def test_an_unknown_secret_is_not_found(service: MemorySecretService) -> None:
    assert refusal(await service.ask(a_lease(ME, "unknown"))).kind == "not-found"


async def test_an_id_that_would_lead_elsewhere_is_refused(service: MemorySecretService) -> None:
    problem = refusal(await service.ask(a_secret("../other/crm")))
    assert (problem.slug, problem.field) == ("secret-id-invalid", "secret_id")
