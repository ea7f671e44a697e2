"""Each service installs and starts alone, with only its own dependencies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bizosaas_cli.keys import make, variable
from bizosaas_cli.machine import ServiceProcess
from bizosaas_sandbox.servers.binaries import Binary
from bizosaas_sandbox.servers.temporal import Temporal

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))


class Installed(ServiceProcess):
    """A service in an environment of its own."""

    def __init__(self, service: str, data: Path, *, python: Path, settings: dict[str, str]) -> None:
        super().__init__(service, data, settings=settings, port=0)
        self.python = python

    def find(self) -> Binary:
        return Binary(path=self.python, version="this", source="an environment of its own")


@pytest.fixture
def settings(
    database_url: str, redis_url: str, env_name: str, temporal_server: Temporal, tmp_path: Path
) -> dict[str, str]:
    """All that any service needs."""
    return make() | {
        "BIZOS_ENV": env_name, "BIZOS_DATABASE_URL": database_url, "BIZOS_REDIS_URL": redis_url,
        "BIZOS_SECRET_BACKEND": "env", "BIZOS_SECRET_STORE_PATH": str(tmp_path / "secrets"),
        "BIZOS_TEMPORAL_ADDRESS": temporal_server.url, "BIZOS_TEMPORAL_NAMESPACE": temporal_server.namespace,
        "BIZOS_MODEL_DRIVER": "scripted", "BIZOS_PUBLIC_URL": "http://127.0.0.1:1",
        "BIZOS_HEADS_PATH": str(tmp_path / "heads"),
    }  # fmt: skip


def run(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=170, env=env)


@pytest.fixture
def compiled(run_folder: Path) -> dict[str, str]:
    """That what one service's environment has compiled is there for the next one's, which stands in the same place."""
    return {"PYTHONPYCACHEPREFIX": str(run_folder / "compiled")}


@pytest.mark.xdist_group("packaging")
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_installs_alone_names_what_is_missing_and_starts(
    service: str, settings: dict[str, str], run_folder: Path, tmp_path: Path, compiled: dict[str, str]
) -> None:
    alone = run_folder / "alone"
    python = alone / "bin" / "python"
    assert run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, alone).returncode == 0
    lock, member = ROOT / "requirements.lock", ROOT / "services" / service
    installed = run(UV, "pip", "install", "--python", python, "--constraint", lock, member)
    assert installed.returncode == 0, installed.stderr
    nothing_set = {name: value for name, value in os.environ.items() if not name.startswith("BIZOS_")} | compiled

    started = run(python, "-m", service.replace("-", "_"), env=nothing_set)

    assert started.returncode == 78, started.stderr
    assert "BIZOS_DATABASE_URL is missing" in started.stderr
    assert "Traceback" not in started.stderr
    packages = run(UV, "pip", "list", "--python", python).stdout
    assert ("crewai" in packages) is (service == "agent-svc")
    assert ("temporalio" in packages) is (service == "workflow-svc")
    assert "pytest" not in packages

    sealing_key = settings.get(variable(service, "SEALING_KEY"))
    with Installed(
        service,
        tmp_path / "data",
        python=python,
        settings=settings | compiled | ({"BIZOS_SEALING_KEY": sealing_key} if sealing_key else {}),
    ) as process:
        assert process.ready()
    assert "Traceback" not in process.log.read_text()
