"""OpenBao as a child process, used as secret-svc uses Vault."""

import hvac
import pytest
from hvac.exceptions import Forbidden, InvalidRequest, VaultDown

from bizosaas_sandbox.servers.openbao import AppRole, OpenBao


def _client(server: OpenBao, role: AppRole) -> hvac.Client:
    client = hvac.Client(server.url)
    client.auth.approle.login(role.role_id, role.secret_id)
    return client


def test_a_role_may_use_the_mount_and_nothing_else(openbao_server: OpenBao) -> None:
    role = openbao_server.approle("secret-svc")
    client = _client(openbao_server, role)

    client.secrets.kv.v2.create_or_update_secret("acme/crm", {"token": "a"}, cas=0, mount_point=role.mount)
    with pytest.raises(InvalidRequest):
        client.secrets.kv.v2.create_or_update_secret("acme/crm", {"token": "b"}, cas=0, mount_point=role.mount)
    with pytest.raises(Forbidden):
        client.sys.list_policies()

    read = client.secrets.kv.v2.read_secret_version("acme/crm", raise_on_deleted_version=True)
    assert read["data"]["data"] == {"token": "a"}
    assert role.secret_id not in repr(role)


def test_a_sealed_server_refuses_until_it_is_unsealed(private_openbao: OpenBao) -> None:
    role = private_openbao.approle("secret-svc")

    private_openbao.seal()
    with pytest.raises(VaultDown):
        _client(private_openbao, role)

    private_openbao.unseal()
    assert _client(private_openbao, role).is_authenticated()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_secrets_survive_a_stop_and_a_kill(private_openbao: OpenBao, end: str) -> None:
    role = private_openbao.approle("secret-svc")
    _client(private_openbao, role).secrets.kv.v2.create_or_update_secret("kept", {"value": "1"})

    getattr(private_openbao, end)()
    again = OpenBao(private_openbao.data)  # another object, another port: as after `bizos up` was run anew
    with again:
        read = _client(again, role).secrets.kv.v2.read_secret_version("kept", raise_on_deleted_version=True)

    assert read["data"]["data"] == {"value": "1"}


def test_its_key_is_for_the_owner_alone(openbao_server: OpenBao) -> None:
    assert (openbao_server.data / "keys.json").stat().st_mode & 0o077 == 0
