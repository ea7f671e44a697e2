"""OAuth 2.0 towards vendors: authorization code with PKCE S256, refresh, revocation, and issuers' metadata.

RFC 6749, 7009 (revocation), 7636 (PKCE), 8414 (metadata), 9207 (issuer).
"""

import base64
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from bizosaas_ports.connector import (
    ConnectorError,
    CredentialRevokedError,
    MisconfiguredError,
    ProviderDownError,
    RateLimitedError,
    Tokens,
)

from ..domain.errors import OAuthNotConfiguredError, ScopeInvalidError
from .connectors._declaration import Connector, OAuth2
from .http import AddressRefusedError, Answer, BrokenOffError, Http, NotSentError, RedirectedError
from .pkce import challenge_of

METADATA_SECONDS = 3600.0
METADATA_PATH = "/.well-known/openid-configuration"
ANSWER_BYTES = 256 * 1024
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")
"""RFC 6749, 3.3: scope-token."""


class OAuthApp(NamedTuple):
    """Our application at one vendor, as the operator registered it. Its secret lives in secret-svc."""

    client_id: str = ""
    issuer: str = ""


class Endpoints(NamedTuple):
    authorize: str
    token: str
    revoke: str


class _TokenAnswer(msgspec.Struct):
    """RFC 6749, 5.1."""

    access_token: str
    refresh_token: str = ""
    expires_in: int | float | str | None = None
    scope: str = ""


class _ErrorAnswer(msgspec.Struct):
    """RFC 6749, 5.2."""

    error: str
    error_description: str = ""


def variable_of(connector: str, what: str) -> str:
    """`BIZOS_OAUTH_<CONNECTOR>_CLIENT_ID`, as the operator sets it."""
    return f"BIZOS_OAUTH_{connector.upper().replace('-', '_')}_{what}"


class OAuthClient:
    """See `Authorizer`. Issuers' metadata is kept for an hour."""

    def __init__(
        self, connectors: Mapping[str, Connector], apps: Mapping[str, OAuthApp], http: Http,
        now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._connectors = connectors
        self._apps = apps
        self._http = http
        self._now = now
        self._metadata: dict[str, tuple[float, dict[str, Any]]] = {}

    def configured(self, connector: str) -> bool:
        """Whether the operator has registered our application at this vendor."""
        app = self._apps.get(connector, OAuthApp())
        auth = self._auth(connector)
        return bool(app.client_id and (not auth.discover or auth.issuer or app.issuer))

    def issuer(self, connector: str) -> str:
        """The vendor's issuer, without a slash at its end; empty where it has none."""
        return (self._auth(connector).issuer or self._apps.get(connector, OAuthApp()).issuer).rstrip("/")

    def scopes(self, connector: str, wanted: list[str]) -> list[str]:
        for scope in wanted:
            if not _SCOPE.fullmatch(scope):
                raise ScopeInvalidError(scope)
        return list(dict.fromkeys([*self._auth(connector).scopes, *wanted]))

    def missing(self, connector: str, granted: list[str]) -> list[str]:
        return [scope for scope in self._auth(connector).required_scopes if scope not in granted]

    def needs_secret(self, connector: str) -> bool:
        return self._auth(connector).client_auth != "none"

    async def metadata(self, connector: str) -> Mapping[str, Any]:
        """What the issuer says of itself; empty for a vendor whose endpoints are stated. Raises ConnectorError."""
        if not self._auth(connector).discover:
            return {}
        self._app(connector)
        issuer = self.issuer(connector)
        kept = self._metadata.get(issuer)
        if kept and time.monotonic() - kept[0] < METADATA_SECONDS:
            return kept[1]
        answer = await self._send(connector, "GET", issuer + METADATA_PATH)
        try:
            found: dict[str, Any] = msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MisconfiguredError("At the issuer's address answers no OpenID provider.") from error
        if answer.status != 200 or str(found.get("issuer", "")).rstrip("/") != issuer:
            raise MisconfiguredError("The issuer's metadata is another issuer's.", status=answer.status)
        self._metadata[issuer] = (time.monotonic(), found)
        return found

    async def authorize_url(
        self, connector: str, settings: Mapping[str, str], *, state: str, verifier: str, redirect_uri: str,
        scopes: list[str],
    ) -> str:  # fmt: skip
        auth, app = self._auth(connector), self._app(connector)
        endpoints = await self._endpoints(connector, settings)
        asked = {
            "response_type": "code", "client_id": app.client_id, "redirect_uri": redirect_uri,
            "scope": auth.separator.join(scopes), "state": state, **auth.authorize_params,
        }  # fmt: skip
        if auth.pkce:
            asked |= {"code_challenge": challenge_of(verifier), "code_challenge_method": "S256"}
        return f"{endpoints.authorize}{'&' if '?' in endpoints.authorize else '?'}{urlencode(asked, quote_via=quote)}"

    async def issued_by(self, connector: str, settings: Mapping[str, str], issuer: str) -> bool:
        metadata = await self.metadata(connector)
        if not issuer:
            return not metadata.get("authorization_response_iss_parameter_supported", False)
        return issuer.rstrip("/") == self.issuer(connector)

    async def exchange(
        self, connector: str, settings: Mapping[str, str], *, code: str, verifier: str, redirect_uri: str,
        client_secret: str, scopes: list[str],
    ) -> Tokens:  # fmt: skip
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if self._auth(connector).pkce:
            asked["code_verifier"] = verifier
        return await self._tokens(connector, settings, asked, client_secret, Tokens(access_token="", scopes=scopes))

    async def refresh(self, connector: str, settings: Mapping[str, str], tokens: Tokens, client_secret: str) -> Tokens:
        asked = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
        return await self._tokens(connector, settings, asked, client_secret, tokens)

    async def revoke(self, connector: str, settings: Mapping[str, str], tokens: Tokens, client_secret: str) -> None:
        endpoint = (await self._endpoints(connector, settings)).revoke
        if not endpoint:
            return
        # The refresh token stands for the whole grant; some vendors end the access token only when it is named too.
        for token, hint in ((tokens.refresh_token, "refresh_token"), (tokens.access_token, "access_token")):
            if token:
                await self._post(connector, endpoint, {"token": token, "token_type_hint": hint}, client_secret)

    async def _tokens(
        self, connector: str, settings: Mapping[str, str], asked: dict[str, str], client_secret: str, before: Tokens
    ) -> Tokens:
        endpoint = (await self._endpoints(connector, settings)).token
        answer = await self._post(connector, endpoint, asked, client_secret)
        if answer.status != 200:
            raise self._refusal(connector, answer)
        try:
            found = msgspec.json.decode(answer.body, type=_TokenAnswer)
            lives = float(found.expires_in) if found.expires_in is not None else None
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise ProviderDownError("The token endpoint answered something else than tokens.") from error
        now = self._now()
        return Tokens(
            access_token=found.access_token, refresh_token=found.refresh_token or before.refresh_token, issued_at=now,
            expires_at=now + timedelta(seconds=lives) if lives is not None else None,
            scopes=re.split(r"[ ,]+", found.scope.strip()) if found.scope.strip() else before.scopes,
        )  # fmt: skip

    async def _post(self, connector: str, url: str, form: dict[str, str], client_secret: str) -> Answer:
        auth, app = self._auth(connector), self._app(connector)
        headers = {"Accept": "application/json"}
        if auth.client_auth == "client_secret_basic":
            # RFC 6749, 2.3.1: both parts are form-encoded first.
            pair = f"{quote(app.client_id, safe='')}:{quote(client_secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form = form | {"client_id": app.client_id}
        if auth.client_auth == "client_secret_post":
            form = form | {"client_secret": client_secret}
        return await self._send(connector, "POST", url, headers, form)

    async def _send(
        self, connector: str, method: str, url: str, headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        limits, name = self._connectors[connector].limits, self._connectors[connector].name
        try:
            answer = await self._http.send(
                method, url, headers=headers, form=form, seconds=limits.seconds,
                connect_seconds=limits.connect_seconds, limit=ANSWER_BYTES,
            )  # fmt: skip
        except (NotSentError, BrokenOffError) as error:
            raise ProviderDownError(f"{name}'s authorization server does not answer: {error}.") from error
        except (AddressRefusedError, RedirectedError) as error:
            raise MisconfiguredError(f"{name}'s authorization server is not at its address.") from error
        if answer.status >= 500 or answer.status == 408:
            raise ProviderDownError(f"{name}'s authorization server answered {answer.status}.", status=answer.status)
        if answer.status == 429:
            wait = answer.headers.get("retry-after", "")
            seconds = float(wait) if re.fullmatch(r"[0-9]{1,4}", wait) else limits.retry_after
            raise RateLimitedError(f"{name} asks to wait.", status=429, retry_after=seconds)
        return answer

    def _refusal(self, connector: str, answer: Answer) -> ConnectorError:
        """Only `invalid_grant` says that the grant is over; everything else is no reason to connect again."""
        name = self._connectors[connector].name
        try:
            said = msgspec.json.decode(answer.body, type=_ErrorAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ProviderDownError(f"{name}'s token endpoint answered {answer.status}.", status=answer.status)
        words = said.error_description[:300]
        match said.error:
            case "invalid_grant":
                return CredentialRevokedError(
                    f"{name} does not take the authorization any more.", status=answer.status, vendor_says=words
                )
            case "temporarily_unavailable" | "server_error":
                return ProviderDownError(f"{name}'s token endpoint is unavailable.", vendor_says=words)
            case "invalid_client" | "unauthorized_client":
                return MisconfiguredError(
                    f"{name} does not take this platform's own client id and secret.", vendor_says=words
                )
            case _:
                return MisconfiguredError(f"{name}'s token endpoint refused the request.", vendor_says=words)

    async def _endpoints(self, connector: str, settings: Mapping[str, str]) -> Endpoints:
        auth, metadata = self._auth(connector), await self.metadata(connector)
        if not metadata:
            return Endpoints(
                auth.authorize_url.format_map(settings), auth.token_url.format_map(settings),
                auth.revoke_url.format_map(settings),
            )  # fmt: skip
        try:
            return Endpoints(
                str(metadata["authorization_endpoint"]), str(metadata["token_endpoint"]),
                str(metadata.get("revocation_endpoint", "")),
            )  # fmt: skip
        except KeyError as error:
            raise MisconfiguredError(f"The issuer's metadata states no {error.args[0]}.") from error

    def _auth(self, connector: str) -> OAuth2:
        auth = self._connectors[connector].auth
        if not isinstance(auth, OAuth2):
            raise TypeError(f"{connector} is not connected by OAuth")
        return auth

    def _app(self, connector: str) -> OAuthApp:
        if not self.configured(connector):
            names = [variable_of(connector, "CLIENT_ID")]
            if self._auth(connector).discover and not self._auth(connector).issuer:
                names.append(variable_of(connector, "ISSUER"))
            raise OAuthNotConfiguredError(connector, " and ".join(names))
        return self._apps[connector]
