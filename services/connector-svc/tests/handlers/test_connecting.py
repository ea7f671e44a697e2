"""Connecting with credentials, checking, renaming and ending connections, on memory adapters."""

from typing import Any

import msgspec
import pytest

from bizosaas_events import new_id
from bizosaas_events.messages.connector import (
    CheckConnection,
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionInterrupted,
    ConnectionRecovered,
    ConnectionRefused,
    ConnectionRequested,
    ConnectorCatalogue,
    Disconnect,
    ListConnectors,
    ReceiveWebhook,
    RenameConnection,
)
from bizosaas_ports.connector import ProviderDownError
from bizosaas_ports.sealing import SealingKey, seal
from connector_svc.handlers.refusals import not_made
from connector_svc.testing import (
    CONNECTION,
    PASSWORD,
    SECRET_KEY,
    MemoryConnectorService,
    a_call,
    a_connect,
    a_context,
    an_authorization,
)

STREAM = f"connection-{CONNECTION}"


@pytest.fixture
def service() -> MemoryConnectorService:
    return MemoryConnectorService()


async def test_a_connection_is_made_and_says_as_whom(service: MemoryConnectorService) -> None:
    await service.connected()

    requested, established = await service.events(STREAM)

    assert isinstance(requested, ConnectionRequested)
    assert isinstance(established, ConnectionEstablished)
    assert established.account == "ann@vendor.test"
    assert "cms.create_draft" in established.operations
    assert service.secret_svc.values[established.secret_id][1] == msgspec.json.encode({"password": PASSWORD})


async def test_a_credential_is_in_no_event(service: MemoryConnectorService) -> None:
    await service.connected()
    await service.authorized(new_id())
    await service.ask(a_call())

    stored = [e.data for partition in range(64) for e in await service.store.read(partition, 0, 100)]

    assert stored
    for secret in (PASSWORD, "hush", "access-", "refresh-", "state-"):
        assert all(secret.encode() not in data for data in stored)


async def test_credentials_that_the_vendor_refuses_are_revoked_and_the_reason_told(
    service: MemoryConnectorService,
) -> None:
    problem = await service.refusal(a_connect(password="wrong"))

    assert (problem.slug, problem.field) == ("credential-refused", "credentials")
    refused = (await service.events(STREAM))[-1]
    assert isinstance(refused, ConnectionRefused)
    assert refused.reason == "revoked"
    assert len(service.secret_svc.revoked) == 1


async def test_a_refusal_is_told_again_when_the_command_comes_again(service: MemoryConnectorService) -> None:
    id = new_id()

    first = await service.refusal(a_connect(password="wrong"), id=id)
    second = await service.refusal(a_connect(password="wrong"), id=id)

    assert second == first
    assert len(await service.events(STREAM)) == 2


async def test_a_connect_that_comes_again_makes_one_connection(service: MemoryConnectorService) -> None:
    id = new_id()

    first, second = await service.ask(a_connect(), id=id), await service.ask(a_connect(), id=id)

    assert first == second
    assert len(await service.events(STREAM)) == 2
    assert len(service.secret_svc.values) == 2  # the platform's own, and this one


async def test_a_connect_that_broke_off_is_finished_by_the_next_delivery(service: MemoryConnectorService) -> None:
    id = new_id()
    service.secret_svc.away = True
    with pytest.raises(TimeoutError):
        await service.ask(a_connect(), id=id)
    service.secret_svc.away = False
    service.restart()

    reply = await service.ask(a_connect(), id=id)

    assert reply.problem is None
    assert [type(e) for e in await service.events(STREAM)] == [ConnectionRequested, ConnectionEstablished]


@pytest.mark.parametrize(
    ("change", "slug", "field"),
    [
        ({"connector": "unheard-of"}, "unknown-connector", "connector"),
        ({"connector": "tower"}, "wrong-connection-method", "connector"),
        ({"settings": {"site": "ftp://paper.test"}}, "setting-invalid", "settings.site"),
        ({"label": ""}, "label-invalid", "label"),
        ({"sealed_credentials": seal(SealingKey.generate().public, b"{}")}, "secret-not-sealed", ""),
        (
            {"sealed_credentials": seal(SECRET_KEY.public, b'{"user":"x"}')},
            "credentials-invalid",
            "credentials.password",
        ),
    ],
)
async def test_what_cannot_be_connected_is_refused_by_field(
    service: MemoryConnectorService, change: dict[str, Any], slug: str, field: str
) -> None:
    problem = await service.refusal(a_connect(**change))

    assert (problem.slug, problem.field) == (slug, field)
    assert not any(isinstance(e, ConnectionEstablished) for e in await service.events(STREAM))
    assert set(service.secret_svc.values) == {"oauth-tower"}


async def test_only_who_manages_integrations_connects(service: MemoryConnectorService) -> None:
    problem = await service.refusal(a_connect(), a_context(role="tenant_user"))

    assert problem.slug == "permission-missing"
    assert "manage_integrations" in problem.detail


async def test_another_tenants_connection_is_not_found(service: MemoryConnectorService) -> None:
    await service.connected()
    other = a_context("other-id")

    asked = (
        a_call(),
        CheckConnection(connection_id=CONNECTION),
        RenameConnection(connection_id=CONNECTION, label="Mine"),
        Disconnect(connection_id=CONNECTION),
        a_connect(),
    )
    for command in asked:
        assert (await service.refusal(command, other)).slug == "not-found"


async def test_a_reconnect_gives_a_secret_of_its_own_and_the_old_one_is_revoked(
    service: MemoryConnectorService,
) -> None:
    await service.connected()
    await service.ask(a_connect())
    await service.react()

    first, second = [e.secret_id for e in await service.events(STREAM) if isinstance(e, ConnectionEstablished)]

    assert service.secret_svc.revoked == {first}
    assert second in service.secret_svc.values


async def test_a_check_records_that_the_credential_was_revoked_and_later_that_it_works_again(
    service: MemoryConnectorService,
) -> None:
    await service.connected()
    service.vendor.password = "changed"

    problem = await service.refusal(CheckConnection(connection_id=CONNECTION))
    call = await service.refusal(a_call())
    service.vendor.password = PASSWORD
    reply = await service.ask(CheckConnection(connection_id=CONNECTION))

    assert (problem.slug, call.slug) == ("reconnect-needed", "reconnect-needed")
    assert service.vendor.calls == []
    assert reply.problem is None
    interrupted, recovered = (await service.events(STREAM))[-2:]
    assert isinstance(interrupted, ConnectionInterrupted)
    assert (interrupted.reason, interrupted.reconnect) == ("revoked", True)
    assert isinstance(recovered, ConnectionRecovered)


async def test_a_connection_is_renamed_unless_it_changed_meanwhile(service: MemoryConnectorService) -> None:
    await service.connected()
    stale = await service.refusal(RenameConnection(connection_id=CONNECTION, label="New", expected_version=1))
    reply = await service.ask(RenameConnection(connection_id=CONNECTION, label="New", expected_version=2))

    assert (stale.slug, stale.kind) == ("stale-version", "conflict")
    assert (reply.problem, reply.version) == (None, 3)


async def test_a_closed_connection_leaves_no_secret_and_takes_no_call(service: MemoryConnectorService) -> None:
    await service.connected()

    stale = await service.refusal(Disconnect(connection_id=CONNECTION, expected_version=1))
    reply = await service.ask(Disconnect(connection_id=CONNECTION, expected_version=2))
    await service.react()

    assert stale.slug == "stale-version"
    assert reply.problem is None
    assert set(service.secret_svc.values) == {"oauth-tower"}
    assert (await service.refusal(a_call())).slug == "connection-closed"
    assert (await service.refusal(a_connect())).slug == "connection-closed"
    assert (await service.ask(Disconnect(connection_id=CONNECTION))).problem is None


async def test_ending_an_oauth_connection_ends_the_grant_at_the_vendor(service: MemoryConnectorService) -> None:
    await service.authorized()

    await service.ask(Disconnect(connection_id=CONNECTION))

    assert service.vendor.revocations == [service.vendor.refresh_token]


async def test_a_vendor_that_is_away_cannot_keep_a_connection_alive(service: MemoryConnectorService) -> None:
    await service.authorized()
    service.vendor.revoking_fails = ProviderDownError("Tower is away.")

    reply = await service.ask(Disconnect(connection_id=CONNECTION))
    await service.react()

    assert reply.problem is None
    assert isinstance((await service.events(STREAM))[-1], ConnectionClosed)
    assert set(service.secret_svc.values) == {"oauth-tower"}


async def test_a_connection_under_way_cannot_be_called_yet(service: MemoryConnectorService) -> None:
    await service.ask(an_authorization())

    problem = await service.refusal(a_call("identity.get_profile", {}))

    assert problem.slug == "not-connected"


async def test_what_can_be_connected_is_told_with_its_fields(service: MemoryConnectorService) -> None:
    told = await service.get(ListConnectors(), ConnectorCatalogue, a_context(role="tenant_user"))

    assert [connector.key for connector in told.connectors] == ["paper", "tower"]


async def test_a_webhook_is_refused_where_the_connector_declares_none(service: MemoryConnectorService) -> None:
    await service.connected()
    webhook = ReceiveWebhook(connection_id=CONNECTION, headers={}, body=b"{}")

    problem = (await service.ask(webhook)).problem
    elsewhere = (await service.ask(webhook, a_context(tenant="another"))).problem

    assert problem is not None
    assert (problem.kind, problem.slug) == ("not-found", "no-webhooks")
    assert elsewhere is not None
    assert elsewhere.slug == "not-found"


def test_when_a_vendor_is_away_nothing_was_connected_and_it_is_said() -> None:
    told = not_made("provider-down", "The vendor does not answer.")

    assert (told.slug, told.kind) == ("provider-down", "unavailable")
    assert told.remedy.startswith("Nothing was connected")
    assert told.retry_after
