"""Refreshing OAuth credentials, on memory adapters."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from bizosaas_events.messages.connector import (
    CallSucceeded,
    ConnectionEstablished,
    ConnectionInterrupted,
    ConnectionRecovered,
    CredentialRefreshed,
    CredentialRefreshStarted,
    OperationResult,
)
from bizosaas_ports.connector import MisconfiguredError, ProviderDownError
from connector_svc.testing import CONNECTION, DeathError, MemoryConnectorService, a_call

STREAM = f"connection-{CONNECTION}"
PROFILE = a_call("identity.get_profile", {})


@pytest.fixture
async def service() -> MemoryConnectorService:
    service = MemoryConnectorService(connection_calls=20)
    await service.authorized()
    return service


async def kinds(service: MemoryConnectorService) -> list[type]:
    return [type(e) for e in (await service.events(STREAM))[3:]]


async def secret_of(service: MemoryConnectorService) -> str:
    return next(e.secret_id for e in await service.events(STREAM) if isinstance(e, ConnectionEstablished))


async def test_a_token_that_lives_is_not_refreshed(service: MemoryConnectorService) -> None:
    await service.get(PROFILE, OperationResult)

    assert service.vendor.refreshes == 0


@pytest.mark.parametrize("left", [29, 0, -1000])
async def test_a_token_that_ends_within_half_a_minute_is_refreshed_before_the_call(
    service: MemoryConnectorService, left: int
) -> None:
    service.clock += timedelta(seconds=service.vendor.token_seconds - left)

    await service.get(PROFILE, OperationResult)

    assert service.vendor.refreshes == 1
    assert service.vendor.calls == ["identity.get_profile"]
    assert await kinds(service) == [CredentialRefreshStarted, CredentialRefreshed]


async def test_a_token_that_the_vendor_ended_early_is_refreshed_after_the_401(service: MemoryConnectorService) -> None:
    service.vendor.expire()

    result = await service.get(PROFILE, OperationResult)

    assert service.vendor.refreshes == 1
    assert service.vendor.calls == ["identity.get_profile"] * 2
    assert isinstance((await service.events(f"call-{result.call_id}"))[-1], CallSucceeded)


async def test_ten_calls_at_once_refresh_once(service: MemoryConnectorService) -> None:
    service.clock += timedelta(hours=2)

    replies = await asyncio.gather(*(service.ask(PROFILE) for _ in range(10)))

    assert [reply.problem for reply in replies] == [None] * 10
    assert service.vendor.refreshes == 1


async def test_ten_calls_that_meet_a_401_refresh_once(service: MemoryConnectorService) -> None:
    service.vendor.expire()

    replies = await asyncio.gather(*(service.ask(PROFILE) for _ in range(10)))

    assert [reply.problem for reply in replies] == [None] * 10
    assert service.vendor.refreshes == 1


async def test_the_old_pair_is_kept_until_the_new_one_has_worked(service: MemoryConnectorService) -> None:
    secret_id = await secret_of(service)
    service.clock += timedelta(hours=2)
    service.vendor.failing.append(ProviderDownError("Tower is away."))

    await service.refusal(PROFILE)
    kept_before = set(service.secret_svc.values[secret_id])
    await service.get(PROFILE, OperationResult)

    assert kept_before == {1, 2}
    assert set(service.secret_svc.values[secret_id]) == {2}


async def test_a_grant_that_is_over_asks_a_person_to_reconnect(service: MemoryConnectorService) -> None:
    service.vendor.refresh_token = "another"
    service.vendor.expire()

    problem = await service.refusal(PROFILE)
    again = await service.refusal(PROFILE)

    assert problem.slug == again.slug == "reconnect-needed"
    assert service.vendor.refreshes == 1
    interrupted = (await service.events(STREAM))[-1]
    assert isinstance(interrupted, ConnectionInterrupted)
    assert (interrupted.reason, interrupted.reconnect) == ("revoked", True)


async def test_an_authorization_server_that_is_down_never_asks_to_reconnect(service: MemoryConnectorService) -> None:
    service.clock += timedelta(hours=2)
    service.vendor.refresh_fails.append(ProviderDownError("Tower's token endpoint answered 503."))

    problem = await service.refusal(PROFILE)
    await service.get(PROFILE, OperationResult)

    assert problem.slug == "provider-down"
    assert await kinds(service) == [
        CredentialRefreshStarted, ConnectionInterrupted, CredentialRefreshed, ConnectionRecovered,
    ]  # fmt: skip


async def test_a_platform_whose_own_client_is_refused_is_misconfigured(service: MemoryConnectorService) -> None:
    service.clock += timedelta(hours=2)
    service.vendor.refresh_fails.append(MisconfiguredError("Tower does not take this platform's own client."))

    assert (await service.refusal(PROFILE)).slug == "connection-misconfigured"
    interrupted = (await service.events(STREAM))[-1]
    assert isinstance(interrupted, ConnectionInterrupted)
    assert not interrupted.reconnect


async def test_a_vendor_that_refuses_even_a_fresh_token_is_asked_once_more_and_not_for_ever(
    service: MemoryConnectorService,
) -> None:
    service.vendor.expire()
    service.vendor.stillborn = True

    assert (await service.refusal(PROFILE)).slug == "reconnect-needed"
    assert service.vendor.refreshes == 1
    assert service.vendor.calls == ["identity.get_profile"] * 2


async def test_a_crash_between_storing_the_new_pair_and_telling_of_it_is_survived(
    service: MemoryConnectorService,
) -> None:
    secret_id = await secret_of(service)
    service.clock += timedelta(hours=2)
    service.store.dies = lambda event: isinstance(event, CredentialRefreshed)
    with pytest.raises(DeathError):
        await service.ask(PROFILE)
    service.store.dies = lambda event: False
    service.restart()

    await service.get(PROFILE, OperationResult)

    assert service.vendor.refreshes == 1
    assert await kinds(service) == [CredentialRefreshStarted, CredentialRefreshed]
    assert set(service.secret_svc.values[secret_id]) == {2}


async def test_a_crash_between_the_vendors_answer_and_storing_it_costs_the_grant_where_tokens_rotate(
    service: MemoryConnectorService,
) -> None:
    """Nobody can survive this: the only copy of the new pair was in the process that died. It is told as what it is."""
    service.clock += timedelta(hours=2)

    def die() -> None:
        raise DeathError

    service.vendor.after_tokens = die
    with pytest.raises(DeathError):
        await service.ask(PROFILE)
    service.vendor.after_tokens = lambda: None
    service.restart()

    assert (await service.refusal(PROFILE)).slug == "reconnect-needed"


async def test_a_new_pair_is_kept_while_secret_svc_is_away_and_nobody_tries_the_old_one(
    service: MemoryConnectorService,
) -> None:
    service.clock += timedelta(hours=2)

    def secret_svc_goes_away() -> None:
        service.secret_svc.away = True

    service.vendor.after_tokens = secret_svc_goes_away
    first, second = asyncio.create_task(service.ask(PROFILE)), asyncio.create_task(service.ask(PROFILE))
    await asyncio.sleep(0.3)
    assert not first.done()
    service.secret_svc.away = False

    assert ((await first).problem, (await second).problem) == (None, None)
    assert service.vendor.refreshes == 1


async def test_a_refresh_that_another_process_holds_too_long_is_a_refusal() -> None:
    service = MemoryConnectorService(patience=0.01)
    await service.authorized()
    service.clock += timedelta(hours=2)
    service.leases.held.add(f"refresh:{CONNECTION}")

    problem = await service.refusal(PROFILE)

    assert (problem.slug, problem.kind) == ("refresh-in-progress", "unavailable")
    assert service.vendor.refreshes == 0


async def test_a_token_without_a_refresh_token_ends_and_a_person_is_asked(service: MemoryConnectorService) -> None:
    secret_id = await secret_of(service)
    stored = service.secret_svc.values[secret_id]
    stored[1] = msgspec.json.encode({**msgspec.json.decode(stored[1]), "refresh_token": ""})
    service.restart()
    service.clock += timedelta(hours=2)

    assert (await service.refusal(PROFILE)).slug == "reconnect-needed"
    interrupted = (await service.events(STREAM))[-1]
    assert isinstance(interrupted, ConnectionInterrupted)
    assert (interrupted.reason, interrupted.reconnect) == ("expired", True)
