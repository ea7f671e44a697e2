"""The settings of audit-svc."""

from bizosaas_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Nothing beyond what every service with a database needs."""
