"""The certified OpenID provider, as a vendor and as the platform's sign-in."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

from bizosaas_sandbox.servers.oidc import OidcProvider

NewProvider = Callable[..., OidcProvider]


def _signed_in(server: OidcProvider, login: str = "alice", **change: str) -> tuple[dict[str, str], str]:
    """The parameters of the redirect back, and the verifier that redeems its code."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "client_id": server.client_id,
        "redirect_uri": server.redirect_uris[0],
        "response_type": "code",
        "scope": "openid email profile offline_access",
        "prompt": "consent",
        "state": "some-state",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    target = server.sign_in(f"{server.url}/auth?{urlencode(asked | change)}", login)
    return dict(parse_qsl(urlsplit(target).query)), verifier


def _token(server: OidcProvider, **asked: str) -> httpx.Response:
    return httpx.post(f"{server.url}/token", data=asked, auth=(server.client_id, server.client_secret))


def _redeem(server: OidcProvider, login: str = "alice") -> dict[str, Any]:
    callback, verifier = _signed_in(server, login)
    answer = _token(
        server,
        grant_type="authorization_code",
        code=callback["code"],
        redirect_uri=server.redirect_uris[0],
        code_verifier=verifier,
    )
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


def test_a_code_is_redeemed_with_its_verifier_only(oidc_server: OidcProvider) -> None:
    callback, _ = _signed_in(oidc_server)
    assert callback["state"] == "some-state"
    assert callback["iss"] == oidc_server.url

    answer = _token(
        oidc_server,
        grant_type="authorization_code",
        code=callback["code"],
        redirect_uri=oidc_server.redirect_uris[0],
        code_verifier="another" * 8,
    )

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_client_without_pkce_is_sent_back_with_an_error(oidc_server: OidcProvider) -> None:
    callback, _ = _signed_in(oidc_server, code_challenge="", code_challenge_method="")
    assert callback["error"] == "invalid_request"


def test_reusing_a_refresh_token_ends_the_whole_grant(oidc_server: OidcProvider) -> None:
    first = _redeem(oidc_server)
    second = _token(oidc_server, grant_type="refresh_token", refresh_token=first["refresh_token"]).json()

    reused = _token(oidc_server, grant_type="refresh_token", refresh_token=first["refresh_token"])
    after = _token(oidc_server, grant_type="refresh_token", refresh_token=second["refresh_token"])

    assert second["refresh_token"] != first["refresh_token"]
    assert (reused.json()["error"], after.json()["error"]) == ("invalid_grant", "invalid_grant")


def test_an_access_token_ends_when_it_was_told_to(private_oidc: NewProvider) -> None:
    server = private_oidc(access_token_ttl=4)
    tokens = _redeem(server)
    header = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert httpx.get(f"{server.url}/me", headers=header).status_code == 200

    time.sleep(tokens["expires_in"] + 0.1)

    assert httpx.get(f"{server.url}/me", headers=header).status_code == 401


def test_signing_in_gives_the_claims_of_the_person(private_oidc: NewProvider) -> None:
    server = private_oidc(
        mode="sso",
        client_id="gateway",
        client_secret="a-secret-of-the-gateway",
        redirect_uris=["http://127.0.0.1:8000/v1/auth/callback"],
        people={"carol": {"email": "carol@example.test", "name": "Carol", "groups": ["platform-admins"]}},
    )

    claims = _redeem(server, "carol")["id_token"].split(".")[1]

    told = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert (told["sub"], told["aud"], told["groups"]) == ("carol", "gateway", ["platform-admins"])


def test_an_error_page_is_told_in_its_words(oidc_server: OidcProvider) -> None:
    with pytest.raises(ValueError, match="redirect_uri did not match"):
        _signed_in(oidc_server, redirect_uri="http://elsewhere.example.test/")
