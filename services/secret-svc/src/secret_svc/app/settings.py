"""The settings of secret-svc."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from bizosaas_ports.sealing import SealingKey
from bizosaas_runtime.settings import ServiceSettings

from ..adapters.cipher import parse_key


class Settings(ServiceSettings):
    """See each field's description; every variable starts with BIZOS_.

    The client secrets of the platform's OAuth applications have variables of
    their own, one per connector: see `adapters.env.ConfiguredSecrets`.
    """

    sealing_key: SecretStr = Field(description="X25519 private key of this service in base64: `bizos keys` makes one.")
    secret_backend: Literal["env", "vault"] = Field(
        "env", description="Where credentials are kept: env (one encrypted file) or vault."
    )
    secret_store_path: Path = Field(
        Path(".bizos/secrets"), description="The file of encrypted credentials, for the backend env."
    )
    secret_master_key: SecretStr | None = Field(
        None, description="Key of that file, 32 bytes in base64, for the backend env.", validate_default=True
    )
    vault_url: str = Field("", description="Address of Vault, for the backend vault.", validate_default=True)
    vault_mount: str = Field("secret", description="Vault's KV mount, version 2.")
    vault_role_id: str = Field("", description="AppRole id of this service in Vault.", validate_default=True)
    vault_wrapped_secret_id: SecretStr = Field(
        SecretStr(""), description="A wrapping token with the AppRole secret id in it, instead of the id itself."
    )
    vault_secret_id: SecretStr = Field(
        SecretStr(""), description="AppRole secret id of this service in Vault.", validate_default=True
    )

    @field_validator("sealing_key")
    @classmethod
    def _is_a_sealing_key(cls, value: SecretStr) -> SecretStr:
        SealingKey.parse(value.get_secret_value())
        return value

    @field_validator("secret_master_key")
    @classmethod
    def _is_a_master_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("secret_backend") == "env":
            if value is None:
                raise ValueError("it is needed with BIZOS_SECRET_BACKEND=env")
            parse_key(value.get_secret_value())
        return value

    @field_validator("vault_url", "vault_role_id")
    @classmethod
    def _is_there_for_vault(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("secret_backend") == "vault" and not value:
            raise ValueError("it is needed with BIZOS_SECRET_BACKEND=vault")
        return value

    @field_validator("vault_secret_id")
    @classmethod
    def _is_one_of_two(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        wrapped = info.data.get("vault_wrapped_secret_id")
        given = bool(value.get_secret_value()) + bool(wrapped and wrapped.get_secret_value())
        if info.data.get("secret_backend") == "vault" and given != 1:
            raise ValueError("with BIZOS_SECRET_BACKEND=vault set either it or BIZOS_VAULT_WRAPPED_SECRET_ID")
        return value
