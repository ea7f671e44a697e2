"""`deploy/check.py` says what is wrong with a manifest, with and without kubectl on the path."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is deployed, to be broken."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("docker-compose.yml", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def check(project: Path, path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(project / "deploy/check.py")]
    return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)


def break_gateway(project: Path) -> None:
    manifest = project / "deploy/k8s/base/gateway.yaml"
    manifest.write_text(manifest.read_text().replace("revisionHistoryLimit: 3", "revisionHistoryLimits: 3"))


def test_all_is_well_without_any_tool_and_what_was_left_out_is_said(project: Path) -> None:
    done = check(project, "/nonexistent")

    assert done.returncode == 0, done.stderr
    assert "neither kustomize nor kubectl is on the path" in done.stdout
    assert "docker compose is not installed here" in done.stdout


def test_an_unknown_field_is_found_and_named_without_kubectl(project: Path) -> None:
    break_gateway(project)

    done = check(project, "/nonexistent")

    assert done.returncode == 1
    assert "deploy/k8s/base/gateway.yaml: Deployment gateway" in done.stderr
    assert "revisionHistoryLimits" in done.stderr


@pytest.mark.skipif(
    not (shutil.which("kubectl") or shutil.which("kustomize")), reason="neither kubectl nor kustomize here"
)
def test_an_unknown_field_is_found_in_every_overlay_that_has_it(project: Path) -> None:
    break_gateway(project)
    tool = shutil.which("kustomize") or shutil.which("kubectl")
    assert tool is not None
    (project / "bin").mkdir()
    (project / "bin" / Path(tool).name).symlink_to(Path(tool).resolve())

    done = check(project, str(project / "bin"))

    assert done.returncode == 1
    for overlay in ("development", "staging", "production"):
        assert f"deploy/k8s/overlays/{overlay}: Deployment gateway" in done.stderr
