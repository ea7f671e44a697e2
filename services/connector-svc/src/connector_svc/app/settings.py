"""The settings of connector-svc."""

import os
import re
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from bizosaas_ports.sealing import SealingKey, parse_public
from bizosaas_runtime.settings import ServiceSettings

from ..adapters.oauth import OAuthApp

_OAUTH = re.compile(r"BIZOS_OAUTH_([A-Z0-9_]+)_(CLIENT_ID|ISSUER)")


def oauth_apps() -> dict[str, OAuthApp]:
    """Our applications at vendors, by connector, from BIZOS_OAUTH_<CONNECTOR>_CLIENT_ID and _ISSUER."""
    found: dict[str, dict[str, str]] = {}
    for variable, value in os.environ.items():
        match = _OAUTH.fullmatch(variable)
        if match and value:
            found.setdefault(match[1].lower().replace("_", "-"), {})[match[2].lower()] = value
    return {key: OAuthApp(**values) for key, values in found.items()}


class Settings(ServiceSettings):
    """See each field's description; every variable starts with BIZOS_."""

    sealing_key: SecretStr = Field(description="X25519 private key of this service in base64: `bizos keys` makes one.")
    secret_svc_public_key: str = Field(description="secret-svc's public key in base64: credentials are sealed to it.")
    allow_private_addresses: bool = Field(
        False, description="Let connections reach private networks: on one's own machine only, never in production."
    )
    connection_calls: int = Field(
        8, ge=1, le=1000, description="Calls that one connection may have in flight in one process."
    )
    oauth: dict[str, OAuthApp] = Field(
        default_factory=oauth_apps, validate_default=True,
        description="BIZOS_OAUTH_<CONNECTOR>_CLIENT_ID and _ISSUER: our applications at vendors.",
    )  # fmt: skip

    @field_validator("sealing_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        SealingKey.parse(value.get_secret_value())
        return value

    @field_validator("secret_svc_public_key")
    @classmethod
    def _is_a_public_key(cls, value: str) -> str:
        parse_public(value)
        return value

    @field_validator("oauth")
    @classmethod
    def _issuers_are_addresses(cls, value: dict[str, OAuthApp]) -> dict[str, OAuthApp]:
        for key, app in value.items():
            if app.issuer and not (urlsplit(app.issuer).scheme in ("http", "https") and urlsplit(app.issuer).hostname):
                raise ValueError(f"the issuer of {key} is not an address that begins with https://")
        return value
