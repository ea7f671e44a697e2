"""The connectors that were found, and connections opened through them."""

import base64
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from bizosaas_events.messages.connector import ConnectorField, ConnectorInfo, ConnectorOperation
from bizosaas_ports.connector import ConnectorPort, Tokens

from ..domain.errors import CredentialsInvalidError, SettingInvalidError, UnknownConnectorError
from .connectors._declaration import Basic, Connector
from .http import Http, is_host, is_private_literal
from .oauth import OAuthClient
from .session import Session

LONGEST_VALUE = 2000


class Catalogue:
    """See `Connectors`."""

    def __init__(
        self, connectors: Mapping[str, Connector], http: Http, oauth: OAuthClient, *, allow_private: bool
    ) -> None:
        self._connectors = connectors
        self._http = http
        self._oauth = oauth
        self._allow_private = allow_private

    def all(self) -> list[ConnectorInfo]:
        return [self.describe(key) for key in sorted(self._connectors)]

    def describe(self, key: str) -> ConnectorInfo:
        connector = self._connector(key)
        auth = connector.auth
        return ConnectorInfo(
            key=key, name=connector.name, method=connector.method, settings=list(connector.settings),
            credentials=list(auth.fields), scopes=[] if isinstance(auth, Basic) else list(auth.scopes),
            operations=[
                ConnectorOperation(name=name, effect=operation.effect, summary=operation.summary)
                for name, operation in sorted(connector.operations.items())
            ],
            configured=isinstance(auth, Basic) or self._oauth.configured(key),
        )  # fmt: skip

    def settings(self, key: str, given: Mapping[str, str]) -> dict[str, str]:
        connector = self._connector(key)
        known = {field.name for field in connector.settings}
        for name in given:
            if name not in known:
                remedy = (
                    f"Leave it out; there {'is' if len(known) == 1 else 'are'} {', '.join(sorted(known)) or 'none'}."
                )
                raise SettingInvalidError(name, f"{connector.name} has no setting {name!r}.", remedy)
        checked = {
            field.name: self._setting(connector, field, given.get(field.name, "")) for field in connector.settings
        }
        return {name: value for name, value in checked.items() if value}

    def settle_seconds(self, key: str) -> float:
        return self._connector(key).limits.settle_seconds

    def open(self, key: str, settings: Mapping[str, str], credential: bytes) -> ConnectorPort:
        connector = self._connector(key)
        authorization = _authorization(connector, credential)
        return Session(connector, self._http, self._oauth, settings, authorization)

    def _connector(self, key: str) -> Connector:
        if key not in self._connectors:
            raise UnknownConnectorError(key, self._connectors)
        return self._connectors[key]

    def _setting(self, connector: Connector, field: ConnectorField, value: str) -> str:
        value = value.strip()
        example = f"For example: {field.example}." if field.example else f"Fill in: {field.label}."
        if not value and field.required:
            raise SettingInvalidError(field.name, f"{connector.name} needs: {field.label}.", example)
        if len(value) > LONGEST_VALUE:
            raise SettingInvalidError(field.name, f"{field.label} is longer than {LONGEST_VALUE} characters.", example)
        return self._address(field, value, example) if field.kind == "url" and value else value

    def _address(self, field: ConnectorField, value: str, example: str) -> str:
        try:
            parts = urlsplit(value)
            whole = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0 and is_host(value)
            )
        except ValueError:
            whole = False
        if not whole or any(character.isspace() or ord(character) < 32 for character in value):
            raise SettingInvalidError(
                field.name, f"{field.label} is not an address that begins with https://.", example
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise SettingInvalidError(
                field.name, f"{field.label} may hold neither a user name, a password, a query nor a fragment.", example
            )
        if not self._allow_private and is_private_literal(parts.hostname or ""):
            raise SettingInvalidError(
                field.name, f"{field.label} is in a private network, which is not allowed.",
                "Use the public address; an operator may allow private ones with BIZOS_ALLOW_PRIVATE_ADDRESSES=true.",
            )  # fmt: skip
        return value.rstrip("/")


def _authorization(connector: Connector, credential: bytes) -> str:
    """The value of the Authorization header. No message of what goes wrong here holds any of the credential."""
    if not isinstance(connector.auth, Basic):
        return f"Bearer {msgspec.json.decode(credential, type=Tokens).access_token}"
    try:
        given = msgspec.json.decode(credential, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CredentialsInvalidError("The credentials are not a JSON object of texts.") from None
    if set(given) - {field.name for field in connector.auth.fields}:  # not named: somebody's password may stand there
        raise CredentialsInvalidError(f"The credentials hold a field that {connector.name} does not have.")
    for field in connector.auth.fields:
        if not given.get(field.name):
            raise CredentialsInvalidError(f"The credentials lack: {field.label}.", f"credentials.{field.name}")
    username, password = (given[field.name] for field in connector.auth.fields)
    if ":" in username:
        name = connector.auth.username.name
        raise CredentialsInvalidError("A user name cannot hold a colon.", f"credentials.{name}")
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"
