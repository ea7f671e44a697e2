"""What every member has in common, whoever adds the next one."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))
MEMBERS = sorted(
    path.parent
    for pattern in ("libs/*", "services/*", "sandbox", "cli")
    for path in ROOT.glob(f"{pattern}/pyproject.toml")
)
ROOMS = {"domain", "handlers", "adapters", "app"}


def package_of(service: Path) -> Path:
    return service / "src" / service.name.replace("-", "_")


@pytest.mark.parametrize("service", SERVICES, ids=lambda p: p.name)
def test_every_service_has_the_same_rooms(service: Path) -> None:
    rooms = {path.name for path in package_of(service).iterdir() if path.is_dir() and path.name != "__pycache__"}
    wanted = ROOMS - {"domain"} if service.name == "gateway" else ROOMS

    assert wanted <= rooms
    for name in ("__main__.py", "app/settings.py", "app/bootstrap.py"):
        assert (package_of(service) / name).exists(), f"{service.name} lacks {name}"
    testing = (package_of(service) / "testing.py", package_of(service) / "testing" / "__init__.py")
    assert any(path.exists() for path in testing), f"{service.name} lacks testing.py"


@pytest.mark.parametrize("member", MEMBERS, ids=lambda p: p.name)
def test_every_member_describes_itself_and_is_typed(member: Path) -> None:
    project = tomllib.loads((member / "pyproject.toml").read_text())["project"]

    assert project["name"].startswith("bizosaas-")
    assert len((member / "README.md").read_text()) > 200
    assert list(member.glob("src/*/py.typed"))


@pytest.mark.parametrize("member", MEMBERS, ids=lambda p: p.name)
def test_tests_are_no_packages_so_that_they_cannot_shadow_each_other(member: Path) -> None:
    assert not list(member.glob("tests/**/__init__.py"))


def test_only_agent_svc_brings_crewai() -> None:
    bringing = [m.name for m in MEMBERS if "crewai" in (m / "pyproject.toml").read_text()]

    assert bringing == ["agent-svc"]


def test_the_lock_has_hashes_and_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    assert "://" not in lock
    pins = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pins) > 150
    assert lock.count("--hash=sha256:") >= len(pins)
