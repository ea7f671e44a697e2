"""One connection with its credential, ready to be called."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bizosaas_ports.connector import Account, CallResult, MaybeAppliedError

from .connectors._api import Api
from .connectors._declaration import Connector
from .http import Http
from .oauth import OAuthClient


class Session:
    """See `ConnectorPort`: one connection with its credential."""

    def __init__(
        self, connector: Connector, http: Http, oauth: OAuthClient, settings: Mapping[str, str], authorization: str
    ) -> None:
        self._connector = connector
        self._http = http
        self._oauth = oauth
        self._settings = settings
        self._authorization = authorization

    def __repr__(self) -> str:
        return f"Session({self._connector.key})"

    async def check(self) -> Account:
        return await self._connector.check(await self._api(has_effect=False))

    async def call(self, operation: str, arguments: dict[str, Any], idempotency_key: str) -> CallResult:
        kind = self._connector.operations[operation]
        api = await self._api(has_effect=kind.effect != "read")
        request = msgspec.convert(arguments, kind.request)
        result = await self._connector.actions[operation].run(api, request, idempotency_key)
        return msgspec.structs.replace(result, status=api.status, bytes=api.bytes)

    async def find(self, operation: str, arguments: dict[str, Any], idempotency_key: str) -> CallResult | None:
        kind, action = self._connector.operations[operation], self._connector.actions[operation]
        if action.find is None:
            if self._connector.idempotency(operation) == "none":
                raise MaybeAppliedError(f"{self._connector.name} offers no way to find out whether it was applied.")
            return None
        api = await self._api(has_effect=False)
        result = await action.find(api, msgspec.convert(arguments, kind.request), idempotency_key)
        return msgspec.structs.replace(result, status=api.status, bytes=api.bytes) if result else None

    async def _api(self, *, has_effect: bool) -> Api:
        connector, metadata, issuer = self._connector, {}, ""
        if connector.method == "oauth":
            metadata, issuer = dict(await self._oauth.metadata(connector.key)), self._oauth.issuer(connector.key)
        return Api(
            connector, self._http, base_url=connector.base_url.format_map({**self._settings, "issuer": issuer}),
            authorization=self._authorization, has_effect=has_effect, metadata=metadata,
        )  # fmt: skip
