"""Settings are read once, and a wrong one ends the start by its name."""

import pytest
from pydantic import SecretStr

from bizosaas_runtime.settings import WRONG_SETTING, ServiceSettings, instance_name, load

GOOD = {"BIZOS_DATABASE_URL": "postgresql://a:b@127.0.0.1:5432/c", "BIZOS_REDIS_URL": "redis://127.0.0.1:6379/0"}


class Settings(ServiceSettings):
    sealing_key: SecretStr


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {**GOOD, "BIZOS_SEALING_KEY": "a secret"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_what_is_set_is_read_and_the_rest_has_its_default(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BIZOS_PARTITIONS", "8")
    settings = load(Settings)
    assert (settings.partitions, settings.env, settings.host) == (8, "bizos", "127.0.0.1")
    assert "a secret" not in repr(settings)


def test_a_missing_setting_is_named_with_what_it_is_for(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("BIZOS_DATABASE_URL")
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    assert ended.value.code == WRONG_SETTING
    printed = capsys.readouterr().err
    assert printed.startswith("BIZOS_DATABASE_URL is missing (The service's own PostgreSQL database")


def test_every_wrong_setting_is_named_without_its_value(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("BIZOS_PARTITIONS", "none")
    environment.setenv("BIZOS_REDIS_URL", "http://user:hunter2@nowhere")
    with pytest.raises(SystemExit):
        load(Settings)
    printed = capsys.readouterr().err
    assert "BIZOS_PARTITIONS is wrong" in printed
    assert "BIZOS_REDIS_URL is wrong" in printed
    assert "hunter2" not in printed


def test_whether_redis_is_a_cluster_is_said_in_its_address(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("BIZOS_REDIS_URL", "redis://127.0.0.1:6379?cluster=true")
    assert str(load(Settings).redis_url).endswith("?cluster=true")
    environment.setenv("BIZOS_REDIS_URL", "redis://127.0.0.1:6379?cluster=maybe")
    with pytest.raises(SystemExit):
        load(Settings)
    assert (
        "BIZOS_REDIS_URL is wrong: cluster= in the address of Redis is neither true nor false"
        in capsys.readouterr().err
    )


def test_settings_cannot_be_changed(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(Settings).partitions = 3  # type: ignore[misc]  # that is the point


def test_no_two_processes_have_one_name() -> None:
    assert len({instance_name("tenant-svc") for _ in range(100)}) == 100
