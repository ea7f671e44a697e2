"""The settings of workflow-svc."""

from pydantic import Field

from bizosaas_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """See each field's description; every variable starts with BIZOS_."""

    temporal_address: str = Field(pattern=r"^[^\s/:]+:\d{1,5}$", description="Temporal's frontend as host:port.")
    temporal_namespace: str = Field(
        "default", pattern=r"^[A-Za-z0-9_.-]+$", description="Temporal's namespace, which must exist."
    )
