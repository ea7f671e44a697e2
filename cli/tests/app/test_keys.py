"""The keys of a deployment."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bizosaas_cli.keys import SEALED_TO, load_or_make, variable
from bizosaas_cli.machine import SERVICES, _needed_by
from bizosaas_cli.main import app
from bizosaas_ports.sealing import SealingKey, parse_public
from bizosaas_ports.signing import SigningKey


def test_keys_are_made_once_and_kept_where_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "keys.env"

    made = load_or_make(path)

    assert load_or_make(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_public_key_always_belongs_to_its_private_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.env"
    kept = SealingKey.generate()
    path.write_text(f"BIZOS_SECRET_SVC_SEALING_KEY={kept.export()}\n")

    keys = load_or_make(path)

    for service in SEALED_TO:
        private = SealingKey.parse(keys[variable(service, "SEALING_KEY")])
        assert parse_public(keys[variable(service, "PUBLIC_KEY")]) == private.public
    assert keys["BIZOS_SECRET_SVC_SEALING_KEY"] == kept.export()


@pytest.mark.parametrize("kept", [None, SigningKey(bytes(32)).export()])
def test_the_public_key_of_the_journal_belongs_to_the_one_that_signs_it(tmp_path: Path, kept: str | None) -> None:
    path = tmp_path / "keys.env"
    if kept:
        path.write_text(f"BIZOS_AUDIT_SIGNING_KEY={kept}\n")

    keys = load_or_make(path)

    private = SigningKey.parse(keys["BIZOS_AUDIT_SIGNING_KEY"])
    assert kept in (None, private.export())
    assert parse_public(keys["BIZOS_AUDIT_PUBLIC_KEY"]) == private.public


def test_no_service_sees_a_key_it_does_not_need(tmp_path: Path) -> None:
    keys = load_or_make(tmp_path / "keys.env")

    seen = {service: set(_needed_by(service, keys)) for service in SERVICES}

    assert not any(name.endswith("SEALING_KEY") for names in seen.values() for name in names)
    assert [s for s in SERVICES if "BIZOS_SECRET_MASTER_KEY" in seen[s]] == ["secret-svc"]
    assert [s for s in SERVICES if "BIZOS_PERSONAL_MASTER_KEY" in seen[s]] == ["tenant-svc"]
    assert [s for s in SERVICES if "BIZOS_ADMIN_PASSWORD" in seen[s]] == ["tenant-svc"]
    assert [s for s in SERVICES if "BIZOS_AUDIT_SIGNING_KEY" in seen[s]] == ["audit-svc"]
    assert seen["audit-svc"] == {"BIZOS_AUDIT_SIGNING_KEY"}
    assert seen["agent-svc"] == set()


def test_a_file_of_keys_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "production.env"
    runner = CliRunner()
    assert runner.invoke(app, ["keys", "--out", str(path)]).exit_code == 0
    before = path.read_text()

    again = runner.invoke(app, ["keys", "--out", str(path)])

    assert again.exit_code == 1
    assert "Name a new file" in again.stderr
    assert path.read_text() == before


def test_keys_are_printed_as_lines_for_an_env_file() -> None:
    printed = CliRunner().invoke(app, ["keys"]).stdout

    names = [line.partition("=")[0] for line in printed.splitlines()]
    assert "BIZOS_TENANT_SVC_SEALING_KEY" in names
    assert all(name.startswith("BIZOS_") for name in names)
