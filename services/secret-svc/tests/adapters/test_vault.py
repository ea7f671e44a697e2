"""Vault's adapter on a real OpenBao: the suite of its port, and the bad days."""

import asyncio
import secrets as randomness
from collections.abc import AsyncIterator

import hvac
import pytest

from bizosaas_ports.secret import SecretMissingError, SecretPort, SecretStoreUnavailableError
from bizosaas_ports.testing.secret import SecretSuite
from bizosaas_sandbox.servers.openbao import AppRole, OpenBao
from secret_svc.adapters.vault import VaultAdapter


def a_name() -> str:
    return f"t{randomness.token_hex(4)}"


def adapter_for(server: OpenBao, role: AppRole, timeout: float = 5.0) -> VaultAdapter:
    return VaultAdapter(server.url, role_id=role.role_id, secret_id=role.secret_id, mount=role.mount, timeout=timeout)


@pytest.fixture
async def vault(openbao_server: OpenBao) -> AsyncIterator[VaultAdapter]:
    adapter = adapter_for(openbao_server, openbao_server.approle(a_name()))
    yield adapter
    await adapter.close()


class TestVault(SecretSuite):
    @pytest.fixture
    def secrets(self, vault: VaultAdapter) -> SecretPort:
        return vault

    @pytest.fixture
    def path(self) -> str:
        return f"{a_name()}/crm"


async def test_an_expired_token_is_replaced_without_anybody_noticing(openbao_server: OpenBao) -> None:
    adapter = adapter_for(openbao_server, openbao_server.approle(a_name(), token_ttl="1s", token_max_ttl="2s"))
    path = f"{a_name()}/crm"
    try:
        await adapter.put(path, b"value", expected=0)
        for _ in range(8):
            await asyncio.sleep(0.4)
            assert await adapter.get(path) == (b"value", 1)
        await asyncio.sleep(2.2)
        assert await adapter.get(path) == (b"value", 1)
    finally:
        await adapter.close()


async def test_a_token_is_renewed_before_its_time_is_over_while_it_is_used(openbao_server: OpenBao) -> None:
    role = openbao_server.approle(a_name(), token_ttl="2s", token_max_ttl="1h", secret_id_uses=1)
    adapter = adapter_for(openbao_server, role)
    try:
        for _ in range(12):  # one sign-in only: the secret id is used up by it
            with pytest.raises(SecretMissingError):
                await adapter.get("nothing/here")
            await asyncio.sleep(0.4)
    finally:
        await adapter.close()


async def test_a_revoked_token_is_replaced(openbao_server: OpenBao, vault: VaultAdapter) -> None:
    path = f"{a_name()}/crm"
    await vault.put(path, b"value", expected=0)
    openbao_server.call("POST", "auth/token/revoke", token=vault._client.token)
    assert await vault.get(path) == (b"value", 1)


async def test_many_at_once_sign_in_once(openbao_server: OpenBao) -> None:
    adapter = adapter_for(openbao_server, openbao_server.approle(a_name(), secret_id_uses=1))
    path = f"{a_name()}/crm"
    try:
        await asyncio.gather(*(adapter.put(f"{path}{n}", b"value", expected=0) for n in range(10)))
    finally:
        await adapter.close()


async def test_a_wrapped_secret_id_is_used_once(openbao_server: OpenBao) -> None:
    name = a_name()
    role = openbao_server.approle(name)
    root = hvac.Client(openbao_server.url, token=openbao_server.root_token)
    wrapped = root.auth.approle.generate_secret_id(name, wrap_ttl="60s")["wrap_info"]["token"]
    root.adapter.close()
    first, second = (
        VaultAdapter(openbao_server.url, role_id=role.role_id, wrapped_secret_id=wrapped, mount=role.mount)
        for _ in range(2)
    )
    try:
        await first.put(f"{name}/crm", b"value", expected=0)
        openbao_server.call("POST", "auth/token/revoke", token=first._client.token)
        assert await first.get(f"{name}/crm") == (b"value", 1)  # signs in again with what it unwrapped

        with pytest.raises(SecretStoreUnavailableError, match="somebody else has it") as refused:
            await second.open()
        assert wrapped not in str(refused.value)
        assert "somebody else" in await second.check()
    finally:
        await first.close()
        await second.close()


async def test_a_wrong_secret_id_is_told_by_its_setting(openbao_server: OpenBao) -> None:
    role = openbao_server.approle(a_name())
    adapter = VaultAdapter(openbao_server.url, role_id=role.role_id, secret_id="wrong", mount=role.mount)
    try:
        with pytest.raises(SecretStoreUnavailableError, match="BIZOS_VAULT_SECRET_ID"):
            await adapter.open()
        assert "BIZOS_VAULT_SECRET_ID" in await adapter.check()
    finally:
        await adapter.close()


async def test_a_mount_that_our_role_may_not_use_is_told(openbao_server: OpenBao) -> None:
    role = openbao_server.approle(a_name())
    adapter = VaultAdapter(openbao_server.url, role_id=role.role_id, secret_id=role.secret_id, mount="elsewhere")
    try:
        with pytest.raises(SecretStoreUnavailableError, match="policy"):
            await adapter.get("acme/crm")
        assert "policy" in await adapter.check() or await adapter.check() == ""
    finally:
        await adapter.close()


async def test_a_mount_that_does_not_exist_is_told(openbao_server: OpenBao) -> None:
    adapter = VaultAdapter(openbao_server.url, role_id="", mount="elsewhere")
    adapter._client.token = openbao_server.root_token
    adapter._note_lease(0)
    try:
        with pytest.raises(SecretStoreUnavailableError, match="BIZOS_VAULT_MOUNT"):
            await adapter.get("acme/crm")
    finally:
        await adapter.close()


async def test_a_sealed_vault_is_an_outage_that_ends_by_itself(private_openbao: OpenBao) -> None:
    adapter = adapter_for(private_openbao, private_openbao.approle(a_name()))
    try:
        await adapter.put("acme/crm", b"value", expected=0)
        assert await adapter.check() == ""

        private_openbao.seal()
        for attempt in (adapter.get("acme/crm"), adapter.put("acme/crm", b"new", expected=1),
                        adapter.destroy("acme/crm", [1])):  # fmt: skip
            with pytest.raises(SecretStoreUnavailableError, match="sealed or away"):
                await attempt
        assert await adapter.check() == "Vault is sealed"

        private_openbao.unseal()
        assert await adapter.get("acme/crm") == (b"value", 1)
        assert await adapter.check() == ""
    finally:
        await adapter.close()


async def test_secrets_survive_a_kill_of_the_server_which_is_an_outage_meanwhile(private_openbao: OpenBao) -> None:
    adapter = adapter_for(private_openbao, private_openbao.approle(a_name()), timeout=2.0)
    try:
        await adapter.put("acme/crm", b"value", expected=0)

        private_openbao.kill()
        with pytest.raises(SecretStoreUnavailableError, match="sealed or away"):
            await adapter.get("acme/crm")
        assert (await adapter.check()).startswith("Vault is away")

        private_openbao.start()
        assert await adapter.get("acme/crm") == (b"value", 1)
        assert await adapter.put("acme/crm", b"new", expected=1) == 2
    finally:
        await adapter.close()


async def test_it_does_not_take_a_token_from_the_environment(
    openbao_server: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", openbao_server.root_token)
    adapter = VaultAdapter(openbao_server.url, role_id="nobody", secret_id="nothing")
    try:
        with pytest.raises(SecretStoreUnavailableError, match="BIZOS_VAULT_ROLE_ID"):
            await adapter.get("acme/crm")
    finally:
        await adapter.close()
