"""The encrypted file passes the suite of its port, and keeps its own promises."""

import asyncio
import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bizosaas_ports.secret import SecretPort, SecretStoreUnavailableError
from bizosaas_ports.testing.secret import SecretSuite
from secret_svc.adapters.env import ConfiguredSecrets, EnvSecretAdapter

KEY = b"k" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "secrets"


@pytest.fixture
async def secrets(file: Path) -> EnvSecretAdapter:
    adapter = EnvSecretAdapter(file, KEY)
    await adapter.open()
    return adapter


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def content_of(file: Path) -> bytes:
    return file.read_bytes()


def rewrite(file: Path, content: bytes) -> None:
    file.write_bytes(content)


class TestEnvSecrets(SecretSuite):
    @pytest.fixture
    def secrets(self, secrets: EnvSecretAdapter) -> SecretPort:
        return secrets

    @pytest.fixture
    def path(self) -> str:
        return "acme/crm"


async def test_secrets_survive_a_restart(secrets: EnvSecretAdapter, file: Path) -> None:
    await secrets.put("acme/crm", b"value", expected=0)
    again = EnvSecretAdapter(file, KEY)
    await again.open()
    assert await again.get("acme/crm") == (b"value", 1)


async def test_the_file_is_its_owners_alone_and_shows_no_value(secrets: EnvSecretAdapter, file: Path) -> None:
    await secrets.put("acme/crm", b"canary-value", expected=0)
    assert (mode_of(file), mode_of(file.parent)) == (0o600, 0o700)
    assert b"canary" not in content_of(file)
    assert base64.b64encode(b"canary-value")[:12] not in content_of(file)


async def test_another_key_is_refused_at_start_and_names_the_setting(secrets: EnvSecretAdapter, file: Path) -> None:
    await secrets.put("acme/crm", b"value", expected=0)
    with pytest.raises(SecretStoreUnavailableError, match="BIZOS_SECRET_MASTER_KEY"):
        await EnvSecretAdapter(file, b"x" * 32).open()


async def test_a_value_moved_to_another_place_cannot_be_read(secrets: EnvSecretAdapter, file: Path) -> None:
    for tenant in ("acme", "other"):
        await secrets.put(f"{tenant}/crm", tenant.encode(), expected=0)
    await secrets.put("acme/crm", b"second", expected=1)
    contents = msgspec.json.decode(content_of(file))
    acme, other = (contents["secrets"][f"{tenant}/crm"]["values"] for tenant in ("acme", "other"))
    acme["1"], acme["2"] = other["1"], acme["1"]
    rewrite(file, msgspec.json.encode(contents))
    for version in (1, 2):
        with pytest.raises(SecretStoreUnavailableError, match="changed"):
            await secrets.get("acme/crm", version)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format":1}', b"[]"])
async def test_a_damaged_file_is_an_outage_that_names_the_setting(
    secrets: EnvSecretAdapter, file: Path, damage: bytes
) -> None:
    rewrite(file, damage)
    with pytest.raises(SecretStoreUnavailableError, match="BIZOS_SECRET_STORE_PATH"):
        await secrets.get("acme/crm")


async def test_a_file_of_another_version_is_refused_at_start(secrets: EnvSecretAdapter, file: Path) -> None:
    rewrite(file, content_of(file).replace(b'"format":1', b'"format":2'))
    with pytest.raises(SecretStoreUnavailableError, match="another version"):
        await secrets.open()


async def test_a_place_that_cannot_be_written_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "not a folder").write_text("")
    with pytest.raises(SecretStoreUnavailableError, match="BIZOS_SECRET_STORE_PATH"):
        await EnvSecretAdapter(tmp_path / "not a folder" / "secrets", KEY).open()


async def test_nothing_is_left_beside_the_file_but_its_lock(secrets: EnvSecretAdapter, file: Path) -> None:
    for n in range(3):
        await secrets.put("acme/crm", b"value", expected=n)
    assert sorted(os.listdir(file.parent)) == ["secrets", "secrets.lock"]


async def test_processes_that_share_the_file_lose_nothing_of_each_other(file: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from secret_svc.adapters.env import EnvSecretAdapter\n"
        "async def main():\n"
        "    adapter = EnvSecretAdapter(Path(sys.argv[1]), b'k' * 32)\n"
        "    await adapter.open()\n"
        "    for n in range(20): await adapter.put('acme/' + sys.argv[2], b'value', expected=n)\n"
        "asyncio.run(main())\n"
    )
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(file), name) for name in ("one", "two")
    ]
    assert [await child.wait() for child in children] == [0, 0]
    adapter = EnvSecretAdapter(file, KEY)
    assert [await adapter.get(f"acme/{name}") for name in ("one", "two")] == [(b"value", 20)] * 2


async def opened_and_read(file: Path) -> tuple[bytes, int]:
    adapter = EnvSecretAdapter(file, KEY)
    await adapter.open()
    return await adapter.get("acme/crm")


@pytest.mark.kill
def test_a_kill_in_the_middle_of_writing_leaves_a_whole_file(file: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from secret_svc.adapters.env import EnvSecretAdapter\n"
        "async def main():\n"
        "    adapter = EnvSecretAdapter(Path(sys.argv[1]), b'k' * 32)\n"
        "    await adapter.open()\n"
        "    n = int(sys.argv[2])\n"
        "    while True:\n"
        "        n = await adapter.put('acme/crm', b'v' * 10000, expected=n)\n"
        "        print(n, flush=True)\n"
        "asyncio.run(main())\n"
    )
    told = 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(file), str(told)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(10):
                told = int(child.stdout.readline())
            child.kill()
            told = max([told, *map(int, child.stdout.read().split())])
        _, newest = asyncio.run(opened_and_read(file))
        assert newest in (told, told + 1)
        told = newest


def test_the_configuration_is_read_by_connector() -> None:
    found = ConfiguredSecrets(
        {
            "BIZOS_SECRET_OAUTH_GOOGLE_ADS_CLIENT_SECRET": "one",
            "BIZOS_SECRET_OAUTH_EMPTY_CLIENT_SECRET": "",
            "BIZOS_SECRET_MASTER_KEY": "never this",
            "PATH": os.environ["PATH"],
        }
    )
    assert found.value("oauth-google-ads") == b"one"
    for unknown in ("oauth-empty", "google-ads", "oauth-", "oauth-hubspot", "MASTER_KEY"):
        assert found.value(unknown) is None
