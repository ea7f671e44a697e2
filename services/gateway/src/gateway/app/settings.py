"""The settings of the gateway."""

from pydantic import Field, HttpUrl, field_validator

from bizosaas_ports.sealing import parse_public
from bizosaas_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """See each field's description; every variable starts with BIZOS_."""

    http_port: int = Field(8000, ge=0, le=65535, description="Port of the API, its documentation, health and metrics.")
    public_url: HttpUrl = Field(description="The address browsers use; OAuth vendors send people back to it.")
    tenant_svc_public_key: str = Field(
        description="Public half of tenant-svc's sealing key: passwords are sealed to it."
    )
    connector_svc_public_key: str = Field(
        description="Public half of connector-svc's sealing key: what OAuth vendors answer is sealed to it."
    )
    secret_svc_public_key: str = Field(
        description="Public half of secret-svc's sealing key: credentials are sealed to it."
    )
    session_seconds: int = Field(12 * 3600, ge=1, description="A session ends so long after its last use.")
    session_longest_seconds: int = Field(7 * 86400, ge=1, description="A session ends so long after signing in.")
    sign_in_failures_per_email: int = Field(10, ge=1, description="Failed sign-ins per address before a pause.")
    sign_in_failures_per_client: int = Field(50, ge=1, description="Failed sign-ins per network address, likewise.")
    sign_in_window_seconds: int = Field(900, ge=1, description="The pause, and the time in which failures are counted.")
    proxies: int = Field(
        0, ge=0, le=8, description="Proxies of ours in front: the client's address is read past so many."
    )
    read_after_seconds: float = Field(5.0, gt=0, le=30, description="How long a read waits for a write it must show.")
    drain_seconds: float = Field(20.0, gt=0, description="How long requests in hand may take when the process ends.")

    @field_validator("tenant_svc_public_key", "connector_svc_public_key", "secret_svc_public_key")
    @classmethod
    def _is_key(cls, value: str) -> str:
        parse_public(value)
        return value
