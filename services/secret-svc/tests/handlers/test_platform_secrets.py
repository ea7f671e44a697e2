"""Secrets of the platform's own, which whoever runs it writes into the configuration."""

import asyncio

import pytest

from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.secret import Leased, SecretLeased, SecretStored
from bizosaas_ports.sealing import SealingKey
from secret_svc.testing import FINGERPRINTS, MemorySecretService, a_context, a_lease

ME = SealingKey.generate()
PLATFORM = a_context("platform")
VARIABLE = "BIZOS_SECRET_OAUTH_GOOGLE_ADS_CLIENT_SECRET"
ID = "oauth-google-ads"


@pytest.fixture
def service() -> MemorySecretService:
    return MemorySecretService(environment={VARIABLE: "first"})


async def lent(service: MemorySecretService) -> bytes:
    return ME.open(decode_result(await service.ask(a_lease(ME, ID), PLATFORM), Leased).sealed)


async def test_the_first_lease_records_where_the_secret_comes_from(service: MemorySecretService) -> None:
    assert await lent(service) == b"first"

    stored, leased = await service.events(ID)
    assert stored == SecretStored(
        secret_id=ID, kind="oauth_client", version=1, fingerprint=FINGERPRINTS(b"first"), purpose="from configuration"
    )
    assert isinstance(leased, SecretLeased)
    by = [envelope.actorid for envelope in await service.store.load(f"secret-{ID}")]
    assert by == ["service:secret-svc", "service:connector-svc"]


async def test_the_same_value_is_recorded_once(service: MemorySecretService) -> None:
    await asyncio.gather(*(lent(service) for _ in range(5)))
    assert [type(event) for event in await service.events(ID)].count(SecretStored) == 1


async def test_a_changed_value_is_a_new_version(service: MemorySecretService) -> None:
    await lent(service)
    changed = MemorySecretService(service.store, service.vault, {VARIABLE: "second"})

    assert await lent(changed) == b"second"

    versions = [event.version for event in await service.events(ID) if isinstance(event, SecretStored)]
    assert versions == [1, 2]


async def test_what_has_left_the_configuration_stays_readable(service: MemorySecretService) -> None:
    await lent(service)
    assert await lent(MemorySecretService(service.store, service.vault)) == b"first"


async def test_an_id_with_underscores_has_the_same_variable(service: MemorySecretService) -> None:
    reply = await service.ask(a_lease(ME, "oauth-google_ads"), PLATFORM)
    assert ME.open(decode_result(reply, Leased).sealed) == b"first"


async def test_no_tenant_is_lent_what_is_the_platforms(service: MemorySecretService) -> None:
    problem = (await service.ask(a_lease(ME, ID), a_context("acme"))).problem
    assert problem is not None
    assert problem.slug == "secret-id-reserved"
    assert await service.events(ID) == []


async def test_what_nobody_configured_is_not_found(service: MemorySecretService) -> None:
    problem = (await service.ask(a_lease(ME, "oauth-hubspot"), PLATFORM)).problem
    assert problem is not None
    assert problem.kind == "not-found"
