"""What mapping functions call: the vendor's API as one connection sees it, with every failure typed.

Whether a failed request may have been applied is decided here, once: a
request with an effect that was sent and not answered, or answered with a 5xx
or with nonsense, may have been; everything else was not.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from bizosaas_ports.connector import (
    ConnectorError,
    CredentialExpiredError,
    CredentialRevokedError,
    MaybeAppliedError,
    MisconfiguredError,
    ProviderDownError,
    RateLimitedError,
    RequestRefusedError,
    ResourceNotFoundError,
    ScopeMissingError,
)

from ..http import AddressRefusedError, Answer, BrokenOffError, Http, NotSentError, RedirectedError

if TYPE_CHECKING:
    from ._declaration import Connector

T = TypeVar("T")

LONGEST_WAIT = 3600.0
_NOTHING = object()


class NonsenseError(ProviderDownError):
    """An answer that is not what the vendor documents: a maintenance page, another program, a cut body."""


class Api:
    """The API of one vendor with one credential, for one operation; counts what it reads."""

    def __init__(
        self, connector: "Connector", http: Http, *, base_url: str, authorization: str, has_effect: bool,
        metadata: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.connector = connector
        self.base_url = base_url
        self.status = 0
        self.bytes = 0
        self._http = http
        self._headers = {**connector.headers, "Accept": "application/json", "Authorization": authorization}
        self._has_effect = has_effect
        self._metadata = metadata

    def __repr__(self) -> str:
        return f"Api({self.connector.key}, {self.base_url})"

    def endpoint(self, name: str) -> str:
        """An address that the issuer's metadata states, such as `userinfo_endpoint`."""
        address = self._metadata.get(name)
        if not isinstance(address, str):
            raise MisconfiguredError(f"{self.connector.name} states no {name}.")
        return address

    async def get(self, path: str, params: Mapping[str, str | int] | None = None, *, into: type[T]) -> tuple[T, Answer]:
        """Read; a broken connection is tried once more, because reading twice is harmless."""
        try:
            return await self._ask("GET", path, params, None, into, has_effect=False)
        except ProviderDownError as error:
            if not (isinstance(error.__cause__, BrokenOffError) and error.__cause__.cut):
                raise
        return await self._ask("GET", path, params, None, into, has_effect=False)

    async def post(
        self, path: str, json: Any, *, into: type[T], params: Mapping[str, str | int] | None = None
    ) -> tuple[T, Answer]:
        """Send; has an effect wherever the operation has one."""
        return await self._ask("POST", path, params, json, into, has_effect=self._has_effect)

    async def _ask(
        self, method: str, path: str, params: Mapping[str, str | int] | None, json: Any, into: type[T], *,
        has_effect: bool,
    ) -> tuple[T, Answer]:  # fmt: skip
        limits, name = self.connector.limits, self.connector.name
        url = path if path.startswith(("http://", "https://")) else self.base_url + path
        try:
            answer = await self._http.send(
                method, url, headers=self._headers, params=params, json=json, seconds=limits.seconds,
                connect_seconds=limits.connect_seconds, limit=limits.answer_bytes,
            )  # fmt: skip
        except NotSentError as error:
            raise ProviderDownError(f"{name} cannot be reached: {error}.") from error
        except BrokenOffError as error:
            if has_effect:
                raise MaybeAppliedError(f"{name} was asked, and then {error}.") from error
            raise ProviderDownError(f"{name} does not answer: {error}.") from error
        except AddressRefusedError as error:
            raise MisconfiguredError(
                "The connection's address is in a private network, which is not allowed."
            ) from error
        except RedirectedError as error:
            raise MisconfiguredError(
                f"{name} answers at another address by now.", vendor_says=f"It redirects to {error.location}."
            ) from error
        self.status, self.bytes = answer.status, self.bytes + len(answer.body)
        if answer.status >= 400:
            raise self._error(answer, has_effect)
        try:
            return msgspec.json.decode(answer.body, type=into), answer
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            says = f"{name} answered something else than it documents."
            if has_effect:
                raise MaybeAppliedError(says, answered=True) from error
            raise NonsenseError(says, status=answer.status) from error

    def _error(self, answer: Answer, has_effect: bool) -> ConnectorError | MaybeAppliedError:
        connector, status = self.connector, answer.status
        body = _decoded(answer.body)
        code = _field(connector.errors.code, body)
        details: dict[str, Any] = {"status": status, "vendor_says": _field(connector.errors.message, body)[:300]}
        for rule in connector.errors.rules:
            if rule.status in (0, status) and rule.code in ("", code):
                return rule.error(rule.says, **details, retry_after=self._retry_after(rule.error, answer))
        error = self._by_status(status, told=not answer.body or body is not _NOTHING)
        if status >= 500 and has_effect:
            return MaybeAppliedError(f"{connector.name} answered {status}.", answered=True)
        says = (
            f"{connector.name} answered {status}{f' ({code})' if re.fullmatch(r'[A-Za-z0-9_.:-]{1,60}', code) else ''}."
        )
        return error(says, **details, retry_after=self._retry_after(error, answer))

    def _by_status(self, status: int, *, told: bool) -> type[ConnectorError]:
        """`told`: the body is JSON, so it was the API that answered."""
        match status:
            case 401:
                return CredentialExpiredError if self.connector.method == "oauth" else CredentialRevokedError
            case 403:
                return ScopeMissingError
            case 404 if not told:
                return MisconfiguredError
            case 404 | 410:
                return ResourceNotFoundError
            case 429:
                return RateLimitedError
            case 408 | 425:
                return ProviderDownError
            case _:
                return ProviderDownError if status >= 500 else RequestRefusedError

    def _retry_after(self, error: type[ConnectorError], answer: Answer) -> float | None:
        """Seconds. `Retry-After` may be a date instead: then the connector's default is near enough."""
        if not issubclass(error, RateLimitedError | ProviderDownError):
            return None
        said = answer.headers.get("retry-after", "")
        if re.fullmatch(r"[0-9]{1,6}", said):
            return min(float(said), LONGEST_WAIT)
        return self.connector.limits.retry_after if issubclass(error, RateLimitedError) else None


def path_of(*parts: str) -> str:
    """A path from parts that may come from outside: nothing in them can leave its place."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _NOTHING


def _field(read: Any, body: Any) -> str:
    """What a connector reads from an error's body; the body may have any shape."""
    try:
        return str(read(body) or "")
    except (TypeError, KeyError, AttributeError, IndexError):
        return ""
