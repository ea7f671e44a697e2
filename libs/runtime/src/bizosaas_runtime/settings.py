"""Settings: read once from the environment, frozen, and refused at start when something is missing or wrong."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import TypeVar

from pydantic import Field, PostgresDsn, RedisDsn, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "BIZOS_"


WRONG_SETTING = 78
"""The exit code for a setting that is missing or wrong: EX_CONFIG of sysexits.h."""


class WrongSettingError(Exception):
    """A setting that looked right turned out to be wrong when it was used; the message names it.

    A bootstrap that raises it ends the process with `WRONG_SETTING`. It must
    not raise SystemExit itself: inside a task that tears the event loop down
    under everybody else, and the process may hang.
    """


@contextlib.contextmanager
def ended_by_wrong_settings() -> Iterator[None]:
    """End the process with what a WrongSettingError says, and with `WRONG_SETTING`."""
    try:
        yield
    except WrongSettingError as error:
        print(error, file=sys.stderr)
        raise SystemExit(WRONG_SETTING) from None


class Settings(BaseSettings):
    """What every process needs. A service's own Settings add to it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    env: str = Field("bizos", pattern=r"^[a-z0-9-]+$", description="Prefix of all keys in Redis: one per deployment.")
    redis_url: RedisDsn = Field(
        description="Redis 7.2 or newer, or Valkey, with AOF and appendfsync always; "
        "with ?cluster=true, any server of a Redis Cluster."
    )
    partitions: int = Field(64, ge=1, le=1024, description="Partitions of each event log; fixed once there are events.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    health_port: int = Field(8080, ge=0, le=65535, description="Port of /livez, /readyz and /metrics.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR.")
    otel_exporter_otlp_endpoint: str = Field(
        "", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", description="Where traces go; empty: nowhere."
    )

    @field_validator("redis_url")
    @classmethod
    def _of_a_cluster_or_not(cls, url: RedisDsn) -> RedisDsn:
        from bizosaas_events.bus.connecting import address_of

        address_of(str(url))
        return url


class ServiceSettings(Settings):
    """What every service with a database needs."""

    database_url: PostgresDsn = Field(description="The service's own PostgreSQL database, with its own role.")
    database_connections: int = Field(10, ge=2, le=200, description="Connections of this process to its database.")
    workers: int = Field(32, ge=1, le=1024, description="Commands that one process handles at once.")
    command_idle_ms: int = Field(
        5000, ge=500, description="A command whose process has been silent for so long is given to another."
    )


S = TypeVar("S", bound=Settings)


def load(cls: type[S]) -> S:
    """Read the settings, or end the process with one line per missing or wrong variable (exit code 78, EX_CONFIG)."""
    try:
        return cls()
    except ValidationError as error:
        for problem in error.errors():
            field = str(problem["loc"][0])
            known = cls.model_fields.get(field)
            name = field if field.isupper() else PREFIX + field.upper()
            what = f" ({known.description})" if known and known.description else ""
            verb = (
                "is missing"
                if problem["type"] == "missing"
                else f"is wrong: {problem['msg'].removeprefix('Value error, ')}"
            )
            print(f"{name} {verb}{what}", file=sys.stderr)
        raise SystemExit(WRONG_SETTING) from None


def instance_name(service: str) -> str:
    """A name no other process has, now or after a restart."""
    from bizosaas_events import new_id

    return f"{service}-{socket.gethostname()}-{new_id()[-12:]}"
