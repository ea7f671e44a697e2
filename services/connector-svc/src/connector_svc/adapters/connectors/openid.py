"""Any certified OpenID Connect provider: who the person is that authorised the connection.

Endpoints come from the issuer's metadata; the operator says which issuer
(BIZOS_OAUTH_OPENID_ISSUER). Copy this file for a vendor with OAuth 2.0.
"""

from typing import Any

import msgspec

from bizosaas_ports.connector import Account, CallResult, RateLimitedError, ScopeMissingError
from bizosaas_ports.identity import GetProfile, Profile

from ._api import Api
from ._declaration import Action, Connector, ErrorRule, Errors, OAuth2


class _Claims(msgspec.Struct):
    sub: str
    name: str = ""
    preferred_username: str = ""
    email: str = ""


async def check(api: Api) -> Account:
    claims = await _claims(api)
    return Account(name=claims.email or claims.preferred_username or claims.name or claims.sub)


async def get_profile(api: Api, request: GetProfile, key: str) -> CallResult:
    claims = await _claims(api)
    profile = Profile(id=claims.sub, name=claims.name or claims.preferred_username, email=claims.email)
    return CallResult(data=profile, resource_type="profile", resource_id="")


async def _claims(api: Api) -> _Claims:
    claims, _ = await api.get(api.endpoint("userinfo_endpoint"), into=_Claims)
    return claims


def _code(body: Any) -> str:
    return str(body["error"])


OPENID = Connector(
    key="openid",
    name="OpenID Connect",
    auth=OAuth2(
        discover=True,
        scopes=("openid", "profile", "email", "offline_access"),
        required_scopes=("openid",),
        client_auth="client_secret_basic",
        pkce=True,
        refresh="rotating",
        # Without the consent page an OpenID provider leaves out offline_access, and with it the refresh token.
        authorize_params={"prompt": "consent"},
    ),
    base_url="{issuer}",
    check=check,
    actions={"identity.get_profile": Action(get_profile)},
    errors=Errors(
        code=_code,
        message=lambda body: body.get("error_description", ""),
        rules=(
            ErrorRule(ScopeMissingError, "The provider wants another scope for that.", status=403,
                      code="insufficient_scope"),
            ErrorRule(RateLimitedError, "The provider asks to be called less often.", status=429),
        ),
    ),
)  # fmt: skip
