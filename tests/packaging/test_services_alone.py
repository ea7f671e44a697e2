"""Each service installs and starts alone, with only its own dependencies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))


def run(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=170, env=env)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_installs_alone_and_its_start_names_what_is_missing(service: str, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    assert run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path).returncode == 0
    lock, member = ROOT / "requirements.lock", ROOT / "services" / service
    installed = run(UV, "pip", "install", "--python", python, "--constraint", lock, member)
    assert installed.returncode == 0, installed.stderr
    nothing_set = {name: value for name, value in os.environ.items() if not name.startswith("BIZOS_")}

    started = run(python, "-m", service.replace("-", "_"), env=nothing_set)

    assert started.returncode == 78, started.stderr
    assert "BIZOS_DATABASE_URL is missing" in started.stderr
    assert "Traceback" not in started.stderr
    packages = run(UV, "pip", "list", "--python", python).stdout
    assert ("crewai" in packages) is (service == "agent-svc")
    assert ("temporalio" in packages) is (service == "workflow-svc")
    assert "pytest" not in packages
