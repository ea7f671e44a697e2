"""The settings of agent-svc."""

from pydantic import Field, SecretStr

from bizosaas_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """See each field's description; every variable starts with BIZOS_."""

    model_driver: str = Field("scripted", description="The language model's driver: scripted, openai_compatible.")
    model_url: str = Field("", description="Base URL of the provider, such as https://api.example.com/v1.")
    model_name: str = Field("", description="The model's name at the provider.")
    model_key: SecretStr = Field(SecretStr(""), description="The provider's API key.")
    crew_threads: int = Field(128, ge=4, le=1024, description="Threads in which CrewAI waits: runs at once, and a few.")
    abandoned_hours: int = Field(
        24, ge=1, description="After so long the tool results of a run that never ended are forgotten."
    )
