"""The store of secrets in memory passes the suite of its port."""

import pytest

from bizosaas_ports.memory import MemorySecrets
from bizosaas_ports.secret import SecretPort, SecretStoreUnavailableError
from bizosaas_ports.testing.secret import SecretSuite


class TestMemorySecrets(SecretSuite):
    @pytest.fixture
    def secrets(self) -> SecretPort:
        return MemorySecrets()

    @pytest.fixture
    def path(self) -> str:
        return "acme/crm"


async def test_an_outage_can_be_played() -> None:
    secrets = MemorySecrets()
    secrets.away = True
    with pytest.raises(SecretStoreUnavailableError):
        await secrets.get("acme/crm")
