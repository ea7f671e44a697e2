"""Settings that are missing or wrong stop the start and name themselves."""

import base64

import pytest

from bizosaas_ports.sealing import SealingKey
from bizosaas_runtime.settings import load
from secret_svc.app.settings import Settings

GOOD = {
    "BIZOS_DATABASE_URL": "postgresql://secret_svc:x@127.0.0.1/secret_svc",
    "BIZOS_REDIS_URL": "redis://127.0.0.1:6379/0",
    "BIZOS_SEALING_KEY": SealingKey.generate().export(),
    "BIZOS_SECRET_BACKEND": "env",
    "BIZOS_SECRET_MASTER_KEY": base64.b64encode(b"k" * 32).decode(),
}
VAULT = {
    "BIZOS_SECRET_BACKEND": "vault",
    "BIZOS_VAULT_URL": "http://127.0.0.1:8200",
    "BIZOS_VAULT_ROLE_ID": "role",
    "BIZOS_VAULT_SECRET_ID": "canary-id",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in {*GOOD, *VAULT, "BIZOS_VAULT_WRAPPED_SECRET_ID"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_complete_configuration_is_taken_and_shows_no_secret(environment: pytest.MonkeyPatch) -> None:
    for name, value in VAULT.items():
        environment.setenv(name, value)
    settings = load(Settings)
    assert settings.vault_mount == "secret"
    for value in (GOOD["BIZOS_SEALING_KEY"], GOOD["BIZOS_SECRET_MASTER_KEY"], "canary-id"):
        assert value not in repr(settings)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"BIZOS_SEALING_KEY": None}, "BIZOS_SEALING_KEY is missing"),
        ({"BIZOS_SEALING_KEY": "c2hvcnQ="}, "BIZOS_SEALING_KEY is wrong"),
        ({"BIZOS_SECRET_BACKEND": "file"}, "BIZOS_SECRET_BACKEND is wrong"),
        ({"BIZOS_SECRET_MASTER_KEY": None}, "BIZOS_SECRET_MASTER_KEY is wrong"),
        ({"BIZOS_SECRET_MASTER_KEY": "canary"}, "BIZOS_SECRET_MASTER_KEY is wrong"),
        (VAULT | {"BIZOS_VAULT_URL": None}, "BIZOS_VAULT_URL is wrong"),
        (VAULT | {"BIZOS_VAULT_ROLE_ID": None}, "BIZOS_VAULT_ROLE_ID is wrong"),
        (VAULT | {"BIZOS_VAULT_SECRET_ID": None}, "BIZOS_VAULT_SECRET_ID is wrong"),
        (VAULT | {"BIZOS_VAULT_WRAPPED_SECRET_ID": "canary"}, "BIZOS_VAULT_SECRET_ID is wrong"),
    ],
)
def test_what_is_missing_or_wrong_is_named_without_its_value(
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str | None],
    named: str,
) -> None:
    for name, value in changes.items():
        environment.setenv(name, value) if value is not None else environment.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    said = capsys.readouterr().err
    assert ended.value.code == 78
    assert named in said
    assert "canary" not in said


def test_with_vault_no_master_key_is_needed(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("BIZOS_SECRET_MASTER_KEY")
    for name, value in VAULT.items():
        environment.setenv(name, value)
    assert load(Settings).secret_master_key is None
