"""OAuth 2.0 and the connector `openid` against a certified OpenID provider."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from bizosaas_ports.connector import (
    CredentialExpiredError,
    CredentialRevokedError,
    MisconfiguredError,
    ProviderDownError,
    RateLimitedError,
    Tokens,
)
from bizosaas_ports.identity import Profile
from bizosaas_ports.sealing import SealingKey
from bizosaas_runtime.discovery import discover
from bizosaas_sandbox.servers.oidc import OidcProvider
from connector_svc.adapters import connectors as package
from connector_svc.adapters.catalogue import Catalogue
from connector_svc.adapters.connectors._declaration import Connector
from connector_svc.adapters.http import Http
from connector_svc.adapters.oauth import OAuthApp, OAuthClient
from connector_svc.adapters.pkce import challenge_of, verifier_of
from connector_svc.domain.errors import OAuthNotConfiguredError, ScopeInvalidError
from connector_svc.testing.faults import FaultyProxy, answers, cuts

NewOidc = Callable[..., OidcProvider]
DECLARED = discover(package, Connector, key="key")
VERIFIER = verifier_of(SealingKey.generate())("a state")


@dataclass
class Vendor:
    """Our application at a provider."""

    server: OidcProvider
    oauth: OAuthClient
    catalogue: Catalogue

    async def code(self, login: str = "alice", verifier: str = VERIFIER) -> dict[str, str]:
        """What the provider sends back after the person has agreed."""
        url = await self.oauth.authorize_url(
            "openid", {}, state="a state", verifier=verifier, redirect_uri=self.server.redirect_uris[0],
            scopes=self.oauth.scopes("openid", []),
        )  # fmt: skip
        target = await asyncio.to_thread(self.server.sign_in, url, login)
        return dict(parse_qsl(urlsplit(target).query))

    async def exchange(self, code: str, **change: Any) -> Tokens:
        asked = {
            "code": code, "verifier": VERIFIER, "redirect_uri": self.server.redirect_uris[0],
            "client_secret": self.server.client_secret, "scopes": ["openid"],
        }  # fmt: skip
        return await self.oauth.exchange("openid", {}, **asked | change)

    async def tokens(self) -> Tokens:
        return await self.exchange((await self.code())["code"])

    async def refresh(self, tokens: Tokens) -> Tokens:
        return await self.oauth.refresh("openid", {}, tokens, self.server.client_secret)

    async def profile(self, tokens: Tokens) -> Profile:
        port = self.catalogue.open("openid", {}, msgspec.json.encode(tokens))
        profile = (await port.call("identity.get_profile", {}, "")).data
        assert isinstance(profile, Profile)
        return profile


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    client = Http(allow_private=True, user_agent="BizOSaaS/test")
    yield client
    await client.close()


def client(http: Http, issuer: str, client_id: str = "platform") -> OAuthClient:
    apps = {"openid": OAuthApp(client_id=client_id, issuer=issuer)}
    return OAuthClient(DECLARED, apps, http, lambda: datetime.now(UTC))


@pytest.fixture
def vendor(http: Http, oidc_server: OidcProvider) -> Vendor:
    oauth = client(http, oidc_server.url, oidc_server.client_id)
    return Vendor(oidc_server, oauth, Catalogue(DECLARED, http, oauth, allow_private=True))


async def test_a_code_is_redeemed_for_tokens_that_say_who_it_is(vendor: Vendor) -> None:
    answer = await vendor.code()
    tokens = await vendor.exchange(answer["code"])

    assert answer["state"] == "a state"
    assert await vendor.oauth.issued_by("openid", {}, answer["iss"])
    assert tokens.refresh_token
    assert tokens.expires_at is not None
    assert tokens.issued_at is not None
    assert 0 < (tokens.expires_at - tokens.issued_at).total_seconds() <= vendor.server.access_token_ttl
    assert {"openid", "offline_access"} <= set(tokens.scopes)
    assert vendor.oauth.missing("openid", tokens.scopes) == []
    assert await vendor.profile(tokens) == Profile(id="alice", name="Alice A", email="alice@example.test")


async def test_a_code_is_good_once_and_with_its_verifier_only(vendor: Vendor) -> None:
    code = (await vendor.code())["code"]

    with pytest.raises(CredentialRevokedError) as wrong:
        await vendor.exchange(code, verifier="another" * 8)
    fresh = (await vendor.code())["code"]
    await vendor.exchange(fresh)
    with pytest.raises(CredentialRevokedError):
        await vendor.exchange(fresh)

    assert wrong.value.vendor_says
    assert "grant request is invalid" not in str(wrong.value)


async def test_an_answer_from_another_issuer_or_from_none_is_told_apart(vendor: Vendor) -> None:
    assert not await vendor.oauth.issued_by("openid", {}, "https://evil.test")
    # This provider says in its metadata that it sends `iss`: an answer without it is not its own (RFC 9207).
    assert not await vendor.oauth.issued_by("openid", {}, "")


async def test_our_own_wrong_secret_is_our_own_fault(vendor: Vendor) -> None:
    code = (await vendor.code())["code"]

    with pytest.raises(MisconfiguredError):
        await vendor.exchange(code, client_secret="wrong")


async def test_refreshing_rotates_and_reusing_an_old_token_ends_the_grant(vendor: Vendor) -> None:
    first = await vendor.tokens()
    second = await vendor.refresh(first)

    assert second.refresh_token not in ("", first.refresh_token)
    assert (await vendor.profile(second)).id == "alice"
    with pytest.raises(CredentialRevokedError):
        await vendor.refresh(first)
    with pytest.raises(CredentialRevokedError):
        await vendor.refresh(second)


async def test_an_ended_token_is_told_apart_from_an_ended_grant(vendor: Vendor) -> None:
    tokens = await vendor.tokens()

    with pytest.raises(CredentialExpiredError):
        await vendor.profile(msgspec.structs.replace(tokens, access_token="made-up"))


async def test_a_revoked_grant_neither_refreshes_nor_answers(vendor: Vendor) -> None:
    tokens = await vendor.tokens()

    await vendor.oauth.revoke("openid", {}, tokens, vendor.server.client_secret)

    with pytest.raises(CredentialRevokedError):
        await vendor.refresh(tokens)
    with pytest.raises(CredentialExpiredError):
        await vendor.profile(tokens)


async def test_the_vendor_is_told_the_challenge_and_never_the_verifier(vendor: Vendor) -> None:
    url = await vendor.oauth.authorize_url(
        "openid", {}, state="s", verifier=VERIFIER, redirect_uri=vendor.server.redirect_uris[0], scopes=["openid"]
    )
    asked = dict(parse_qsl(urlsplit(url).query))

    assert asked["code_challenge"] == challenge_of(VERIFIER)
    assert asked["code_challenge_method"] == "S256"
    assert VERIFIER not in url


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answers(503), ProviderDownError),
        (answers(500, b"<html>"), ProviderDownError),
        (answers(429, Retry_After="9"), RateLimitedError),
        (answers(200, b"<html>maintenance</html>"), MisconfiguredError),
        (answers(200, b'{"issuer":"https://evil.test"}'), MisconfiguredError),
        (answers(404, b"{}"), MisconfiguredError),
        (answers(302, Location="https://elsewhere.test/"), MisconfiguredError),
        (cuts(applied=False), ProviderDownError),
    ],
)
async def test_an_issuer_that_goes_wrong_is_told_as_what_it_is(http: Http, fault: Any, error: type[Exception]) -> None:
    async with FaultyProxy() as issuer:
        issuer.faults.append(fault)
        with pytest.raises(error):
            await client(http, issuer.url).metadata("openid")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answers(400, b'{"error":"invalid_grant"}'), CredentialRevokedError),
        (answers(401, b'{"error":"invalid_client"}'), MisconfiguredError),
        (answers(400, b'{"error":"temporarily_unavailable"}'), ProviderDownError),
        (answers(400, b'{"error":"unheard_of"}'), MisconfiguredError),
        (answers(400, b"<html>"), ProviderDownError),
        (answers(200, b"<html>"), ProviderDownError),
        (answers(200, b'{"access_token":"x","expires_in":"soon"}'), ProviderDownError),
        (answers(503, b'{"error":"invalid_grant"}'), ProviderDownError),
        (answers(429), RateLimitedError),
        (cuts(applied=False), ProviderDownError),
    ],
)
async def test_only_an_invalid_grant_ends_a_connection(http: Http, fault: Any, error: type[Exception]) -> None:
    async with FaultyProxy() as issuer:
        url = issuer.url
        metadata = msgspec.json.encode(
            {"issuer": url, "authorization_endpoint": f"{url}/auth", "token_endpoint": f"{url}/token"}
        )
        issuer.faults.extend([answers(200, metadata), fault])
        with pytest.raises(error):
            await client(http, url).refresh("openid", {}, Tokens(access_token="a", refresh_token="r"), "s")
        assert len(issuer.requests) == 2


async def test_metadata_is_asked_for_once(http: Http, vendor: Vendor) -> None:
    async with FaultyProxy(vendor.server.url) as proxy:
        issuer = client(http, proxy.url)
        proxy.faults.extend([answers(200, msgspec.json.encode({"issuer": proxy.url}))] * 2)
        for _ in range(3):
            await issuer.metadata("openid")
        assert len(proxy.requests) == 1


async def test_a_platform_without_an_application_says_which_variables_are_missing(http: Http) -> None:
    oauth = OAuthClient(DECLARED, {}, http, lambda: datetime.now(UTC))

    assert not oauth.configured("openid")
    assert not Catalogue(DECLARED, http, oauth, allow_private=True).describe("openid").configured
    with pytest.raises(OAuthNotConfiguredError) as refused:
        await oauth.metadata("openid")
    assert "BIZOS_OAUTH_OPENID_CLIENT_ID" in refused.value.remedy
    assert "BIZOS_OAUTH_OPENID_ISSUER" in refused.value.remedy


async def test_scopes_are_the_connectors_own_and_those_wanted(vendor: Vendor) -> None:
    assert vendor.oauth.scopes("openid", ["contacts.read", "email"]) == [
        "openid", "profile", "email", "offline_access", "contacts.read",
    ]  # fmt: skip
    for scope in ("two words", "", "a" * 300, 'quo"te', "line\nbreak"):
        with pytest.raises(ScopeInvalidError):
            vendor.oauth.scopes("openid", [scope])


def test_a_verifier_follows_from_the_state_and_the_key_alone() -> None:
    key = SealingKey.generate()

    assert verifier_of(key)("s") == verifier_of(SealingKey.parse(key.export()))("s")
    assert len(verifier_of(key)("s")) == 43
    assert len({verifier_of(key)("s"), verifier_of(key)("t"), verifier_of(SealingKey.generate())("s")}) == 3
    # RFC 7636, appendix B.
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
