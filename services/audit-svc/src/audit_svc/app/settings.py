"""The settings of audit-svc."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from bizosaas_ports.sealing import parse_public
from bizosaas_ports.signing import SigningKey
from bizosaas_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """See each field's description; every variable starts with BIZOS_."""

    audit_signing_key: SecretStr = Field(
        description="Ed25519 key that signs the heads of the chains and exports, in base64: `bizos keys` makes one."
    )
    audit_former_public_keys: str = Field(
        "", description="Public keys in base64, with commas between them, of signing keys that were in use before."
    )
    heads_path: Path = Field(
        Path(".bizos/heads.ndjson"), description="The file outside the database that the signed heads are written to."
    )
    heads_seconds: int = Field(60, ge=1, description="How often the heads are signed.")

    @field_validator("audit_signing_key")
    @classmethod
    def _is_a_signing_key(cls, value: SecretStr) -> SecretStr:
        SigningKey.parse(value.get_secret_value())
        return value

    @field_validator("audit_former_public_keys")
    @classmethod
    def _are_public_keys(cls, value: str) -> str:
        public_keys(value)
        return value


def public_keys(text: str) -> list[bytes]:
    """Several public keys. Raises ValueError for one that is none."""
    return [parse_public(part.strip()) for part in text.split(",") if part.strip()]
