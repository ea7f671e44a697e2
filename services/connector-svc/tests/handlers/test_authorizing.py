"""The OAuth flow, on memory adapters."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import pytest

from bizosaas_events import Context, new_id
from bizosaas_events.messages.connector import (
    AuthorizationStarted,
    AuthorizeAt,
    Authorized,
    ConnectionEstablished,
    ConnectionRefused,
    ConnectionRequested,
)
from bizosaas_ports.connector import ProviderDownError
from bizosaas_ports.sealing import SealingKey, seal
from connector_svc.testing import CONNECTION, ISSUER, MemoryConnectorService, a_connect, a_context, an_authorization

STREAM = f"connection-{CONNECTION}"
ANYBODY = a_context("platform", "tenant_user")


@pytest.fixture
def service() -> MemoryConnectorService:
    return MemoryConnectorService()


async def test_a_person_is_sent_to_the_vendor_and_comes_back_connected(service: MemoryConnectorService) -> None:
    at = await service.get(an_authorization(), AuthorizeAt)
    authorized = await service.get(service.callback(), Authorized, ANYBODY)

    assert at.url == f"{ISSUER}/auth?state={service.states[-1]}"
    assert authorized == Authorized(connection_id=CONNECTION, tenant_id="acme-id")
    events = await service.events(STREAM)
    assert [type(e) for e in events] == [ConnectionRequested, AuthorizationStarted, ConnectionEstablished]
    # The state names tenant and person: whoever carries it back acts for them.
    assert [e.tenantid for e in await service.store.load(STREAM)] == ["acme-id"] * 3
    assert (await service.store.load(STREAM))[-1].actorid == "member:ann"


async def test_neither_the_state_nor_the_verifier_is_kept(service: MemoryConnectorService) -> None:
    await service.ask(an_authorization())

    kept = repr(service.authorizations.pending)

    state = service.states[-1]
    assert state not in kept
    assert service.vendor.codes[state] not in kept
    assert list(service.authorizations.pending) == [hashlib.sha256(state.encode()).digest()]


async def test_a_state_nobody_gave_is_unknown(service: MemoryConnectorService) -> None:
    await service.ask(an_authorization())

    assert (await service.refusal(service.callback(state="made up"))).slug == "oauth-state-unknown"


async def test_a_state_is_used_once(service: MemoryConnectorService) -> None:
    await service.authorized()
    before = await everything(service)

    assert (await service.refusal(service.callback())).slug == "oauth-state-used"
    assert await everything(service) == before


async def test_a_state_is_good_for_ten_minutes(service: MemoryConnectorService) -> None:
    await service.ask(an_authorization())
    service.clock += timedelta(minutes=10, seconds=1)
    before = await everything(service)

    assert (await service.refusal(service.callback())).slug == "oauth-state-expired"
    assert await everything(service) == before


async def everything(service: MemoryConnectorService) -> object:
    """What is recorded, and what secret-svc holds."""
    heads = await service.store.heads()
    return heads, {id: dict(versions) for id, versions in service.secret_svc.values.items()}, service.secret_svc.revoked


async def test_a_vendor_that_is_away_when_it_begins_leaves_nothing_pending(service: MemoryConnectorService) -> None:
    service.vendor.authorizing_fails = ProviderDownError("Tower is away.")
    before = await everything(service)

    problem = await service.refusal(an_authorization())

    assert (problem.kind, problem.slug) == ("unavailable", "provider-down")
    assert await everything(service) == before
    assert service.authorizations.pending == {}
    service.vendor.authorizing_fails = None
    await service.authorized()


async def test_tokens_are_kept_while_secret_svc_is_away_since_a_code_is_good_once(
    service: MemoryConnectorService,
) -> None:
    def secret_svc_goes_away() -> None:
        service.secret_svc.away = True

    await service.ask(an_authorization())
    service.vendor.after_tokens = secret_svc_goes_away
    completing = asyncio.create_task(service.ask(service.callback()))
    await asyncio.sleep(0.3)
    assert not completing.done()
    service.secret_svc.away = False

    assert (await completing).problem is None
    assert isinstance((await service.events(STREAM))[-1], ConnectionEstablished)


async def test_a_callback_that_is_delivered_again_gives_the_same_answer(service: MemoryConnectorService) -> None:
    await service.ask(an_authorization())
    id = new_id()

    first, second = await service.ask(service.callback(), id=id), await service.ask(service.callback(), id=id)

    assert first.problem is None
    assert second == first


async def test_a_start_that_is_delivered_again_leads_to_the_vendor_too(service: MemoryConnectorService) -> None:
    id = new_id()
    await service.ask(an_authorization(), id=id)

    again = await service.get(an_authorization(), AuthorizeAt, id=id)
    await service.get(service.callback(), Authorized)

    assert again.url.endswith(service.states[-1])
    assert [type(e) for e in await service.events(STREAM)].count(AuthorizationStarted) == 1


async def test_the_vendors_no_is_recorded_and_told(service: MemoryConnectorService) -> None:
    await service.ask(an_authorization())

    id, no = new_id(), service.callback(error="access_denied", sealed_code=b"")

    problem, again = await service.refusal(no, id=id), await service.refusal(no, id=id)

    assert again == problem
    assert (problem.slug, problem.field) == ("authorization-refused", "error")
    refused = (await service.events(STREAM))[-1]
    assert isinstance(refused, ConnectionRefused)
    assert refused.reason == "access_denied"


async def test_what_a_browser_claims_to_be_an_error_does_not_become_an_event(service: MemoryConnectorService) -> None:
    await service.ask(an_authorization())

    await service.refusal(service.callback(error="<script>alert(1)</script>"))

    refused = (await service.events(STREAM))[-1]
    assert isinstance(refused, ConnectionRefused)
    assert "script" not in refused.reason + refused.detail


@pytest.mark.parametrize("issuer", ["", "https://evil.test"])
async def test_an_answer_from_another_server_is_refused(service: MemoryConnectorService, issuer: str) -> None:
    await service.ask(an_authorization())
    id = new_id()

    problem = await service.refusal(service.callback(issuer=issuer), id=id)
    again = await service.refusal(service.callback(issuer=issuer), id=id)

    assert again == problem

    assert problem.slug == "oauth-issuer-mismatch"
    assert isinstance((await service.events(STREAM))[-1], ConnectionRefused)


async def test_a_code_sealed_to_another_key_is_refused(service: MemoryConnectorService) -> None:
    await service.ask(an_authorization())

    problem = await service.refusal(service.callback(sealed_code=seal(SealingKey.generate().public, b"x")))

    assert problem.slug == "code-not-sealed"


async def test_a_code_the_vendor_does_not_take_is_told_in_its_words_and_recorded_in_ours(
    service: MemoryConnectorService,
) -> None:
    await service.ask(an_authorization())
    service.vendor.codes.clear()

    problem = await service.refusal(service.callback())

    assert problem.slug == "credential-refused"
    assert "grant not found" in problem.detail
    refused = (await service.events(STREAM))[-1]
    assert isinstance(refused, ConnectionRefused)
    assert "grant not found" not in refused.detail


async def test_a_grant_without_a_scope_that_is_needed_is_refused(service: MemoryConnectorService) -> None:
    service.vendor.granted = ["email"]
    await service.ask(an_authorization())

    problem = await service.refusal(service.callback())

    assert problem.slug == "scope-missing"
    assert "openid" in problem.detail


async def test_without_the_platforms_client_secret_nothing_is_redeemed(service: MemoryConnectorService) -> None:
    del service.secret_svc.values["oauth-tower"]
    await service.ask(an_authorization())

    problem = await service.refusal(service.callback())

    assert problem.slug == "connection-misconfigured"
    assert service.states[-1] in service.vendor.codes


@pytest.mark.parametrize(
    ("change", "slug", "field"),
    [
        ({"connector": "unheard-of"}, "unknown-connector", "connector"),
        ({"connector": "paper"}, "wrong-connection-method", "connector"),
        ({"redirect_uri": "javascript:alert(1)"}, "redirect-uri-invalid", "redirect_uri"),
        ({"redirect_uri": "https://bizos.test/cb#x"}, "redirect-uri-invalid", "redirect_uri"),
        ({"scopes": ["two words"]}, "scope-invalid", "scopes"),
        ({"label": ""}, "label-invalid", "label"),
    ],
)
async def test_what_cannot_be_authorised_is_refused_by_field(
    service: MemoryConnectorService, change: dict[str, Any], slug: str, field: str
) -> None:
    problem = await service.refusal(an_authorization(**change))

    assert (problem.slug, problem.field) == (slug, field)
    assert await service.events(STREAM) == []
    assert service.authorizations.pending == {}


async def test_an_abandoned_reconnect_leaves_the_connection_working(service: MemoryConnectorService) -> None:
    from connector_svc.testing import a_call

    await service.authorized()
    await service.ask(an_authorization())

    assert (await service.ask(a_call("identity.get_profile", {}))).problem is None


async def test_a_reconnect_keeps_the_connector(service: MemoryConnectorService) -> None:
    await service.connected()

    assert (await service.refusal(an_authorization())).slug == "connector-mismatch"
    assert (await service.ask(a_connect())).problem is None


def test_the_context_of_a_callback_is_not_trusted() -> None:
    assert isinstance(ANYBODY, Context)
    assert ANYBODY.tenant != "acme-id"
