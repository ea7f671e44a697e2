"""The settings of tenant-svc."""

from pydantic import Field, SecretStr, field_validator

from bizosaas_events.personal import MasterKey
from bizosaas_ports.sealing import SealingKey
from bizosaas_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """See each field's description; every variable starts with BIZOS_."""

    sealing_key: SecretStr = Field(description="X25519 private key of this service in base64: `bizos keys` makes one.")
    admin_email: str = Field("", description="Address of the first super admin, made at start when there is none.")
    admin_password: SecretStr = Field(
        SecretStr(""), description="Password of the first super admin, 12 characters or more."
    )

    personal_master_key: SecretStr = Field(
        description="32 bytes in base64 that each person's key is wrapped with: `bizos keys` makes them. Whoever loses "
        "them can read no member's name again."
    )

    @field_validator("personal_master_key")
    @classmethod
    def _is_a_master_key(cls, value: SecretStr) -> SecretStr:
        MasterKey.parse(value.get_secret_value())
        return value

    @field_validator("sealing_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        SealingKey.parse(value.get_secret_value())
        return value
