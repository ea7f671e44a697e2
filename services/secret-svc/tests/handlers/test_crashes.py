"""A process that ends between the store of values and the event log neither loses nor doubles a version."""

import pytest

from bizosaas_events import new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.secret import ConfirmSecret, Leased, RevokeSecret, SecretStored, Stored
from bizosaas_ports.memory import MemorySecrets
from bizosaas_ports.sealing import SealingKey
from bizosaas_ports.secret import SecretMissingError
from secret_svc.testing import VALUE, MemorySecretService, a_lease, a_secret

ME = SealingKey.generate()
PATH = "acme/crm"


@pytest.fixture
def vault() -> MemorySecrets:
    return MemorySecrets()


@pytest.fixture
def service(vault: MemorySecrets) -> MemorySecretService:
    return MemorySecretService(vault=vault)


async def value_of(service: MemorySecretService, version: int | None = None) -> bytes:
    return ME.open(decode_result(await service.ask(a_lease(ME, version=version)), Leased).sealed)


async def test_a_retried_command_finds_its_own_value_and_records_the_same_version(
    service: MemorySecretService, vault: MemorySecrets
) -> None:
    await service.ask(a_secret(value=b"old"))
    await vault.put(PATH, VALUE, expected=1)  # put done, append not: here the process ended

    stored = decode_result(await service.ask(a_secret(value=VALUE)), Stored)

    assert stored.version == 2
    assert await value_of(service) == VALUE
    with pytest.raises(SecretMissingError):
        await vault.get(PATH, 3)


async def test_another_command_takes_the_next_number_and_the_retried_one_loses_nothing(
    service: MemorySecretService, vault: MemorySecrets
) -> None:
    await service.ask(a_secret(value=b"old"))
    await vault.put(PATH, b"of the broken-off command", expected=1)

    other = decode_result(await service.ask(a_secret(value=b"another")), Stored)
    retried = decode_result(await service.ask(a_secret(value=b"of the broken-off command")), Stored)

    assert (other.version, retried.version) == (3, 4)
    assert await value_of(service, 3) == b"another"
    assert await value_of(service, 4) == b"of the broken-off command"
    versions = [event.version for event in await service.events() if isinstance(event, SecretStored)]
    assert versions == [1, 3, 4]


async def test_a_value_without_an_event_is_destroyed_with_those_below_the_confirmed_one(
    service: MemorySecretService, vault: MemorySecrets
) -> None:
    await service.ask(a_secret(value=b"old"))
    await vault.put(PATH, b"nobody's", expected=1)
    await service.ask(a_secret(value=b"new"))

    await service.ask(ConfirmSecret(secret_id="crm", version=3))

    for version in (1, 2):
        with pytest.raises(SecretMissingError):
            await vault.get(PATH, version)
    assert await value_of(service) == b"new"


async def test_revoking_destroys_a_value_without_an_event_too(
    service: MemorySecretService, vault: MemorySecrets
) -> None:
    await service.ask(a_secret(value=b"old"))
    await vault.put(PATH, b"nobody's", expected=1)

    await service.ask(RevokeSecret(secret_id="crm", reason="leaked"))

    for version in (1, 2):
        with pytest.raises(SecretMissingError):
            await vault.get(PATH, version)


async def test_a_value_that_came_in_after_the_revocation_does_not_stay(
    service: MemorySecretService, vault: MemorySecrets
) -> None:
    await service.ask(a_secret(value=b"old"))
    await service.ask(RevokeSecret(secret_id="crm", reason="leaked"))
    await vault.put(PATH, VALUE, expected=1)  # by a command that had found the secret alive, and then its process ended

    reply = await service.ask(a_secret(value=VALUE))

    assert reply.problem is not None
    assert reply.problem.slug == "secret-revoked"
    with pytest.raises(SecretMissingError):
        await vault.get(PATH, 2)


async def test_a_command_that_is_delivered_twice_at_once_makes_one_version(
    service: MemorySecretService, vault: MemorySecrets
) -> None:
    import asyncio

    id, secret = new_id(), a_secret()
    first, second = await asyncio.gather(service.ask(secret, id=id), service.ask(secret, id=id))

    assert first == second
    assert len(await service.events()) == 1
    with pytest.raises(SecretMissingError):
        await vault.get(PATH, 2)
