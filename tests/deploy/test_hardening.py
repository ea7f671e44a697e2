"""What holds for every container, wherever it runs: it is asked of each, so that the next service cannot forget it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy/k8s"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "pyproject.toml").exists())
MAY_WRITE = {"temporal-ui"}
"""Containers whose root file system is writable, since an image of others insists on it."""


def of_kind(path: Path, kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in yaml.safe_load_all(path.read_text()) if manifest and manifest["kind"] == kind]


@pytest.mark.parametrize("name", COMPOSE)
def test_a_container_has_no_capabilities_and_cannot_gain_any(name: str) -> None:
    container = COMPOSE[name]

    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in container
    assert "cap_add" not in container
    assert container["read_only"] is (name not in MAY_WRITE)


def test_the_image_has_no_build_tools_and_runs_as_nobody_special() -> None:
    """Of the service image: built in one stage, run in another, as a number that Kubernetes can tell from root."""
    lines = (ROOT / "deploy/docker/service.Dockerfile").read_text().splitlines()
    stages = [n for n, line in enumerate(lines) if line.startswith("FROM ")]
    assert len(stages) == 2
    run = lines[stages[-1] :]
    users = [line.split()[1] for line in run if line.startswith("USER ")]
    assert [re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) is not None for user in users] == [True]
    copied = [line for line in run if line.startswith(("COPY ", "ADD "))]
    assert copied == ["COPY --from=build /opt/bizos /opt/bizos"]
    assert not any("pip install" in line for line in run)


@pytest.mark.parametrize("name", [name for name, container in COMPOSE.items() if "ports" in container])
def test_a_published_port_is_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE[name]["ports"])


def test_only_the_gateway_and_temporals_page_are_published() -> None:
    assert {name for name, container in COMPOSE.items() if "ports" in container} == {"gateway", "temporal-ui"}


def test_vault_is_on_no_network_but_that_of_secret_svc() -> None:
    assert COMPOSE["vault"]["networks"] == ["vault"]
    assert {name for name, container in COMPOSE.items() if "vault" in container["networks"]} == {
        "vault", "vault-keeper", "secret-svc",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMPOSE)
def test_no_secret_is_written_into_the_compose_file(name: str) -> None:
    for variable, value in COMPOSE[name].get("environment", {}).items():
        if re.search("PASSWORD|PWD|KEY$|SECRET_ID|AUTH$|_URL$", variable) and "://" not in str(value):
            assert str(value).startswith("${"), variable


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_database_and_a_role_of_its_own(service: str) -> None:
    sql = (ROOT / "deploy/docker/postgres/services.sql").read_text()
    role = service.replace("-", "_")

    assert f"CREATE ROLE {role} LOGIN" in sql
    assert f"CREATE DATABASE {role} OWNER {role};" in sql
    assert re.search(rf"REVOKE CONNECT[^;]*\b{role}\b[^;]*FROM PUBLIC", sql)
    assert f"//{role}:" in COMPOSE[service]["environment"]["BIZOS_DATABASE_URL"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_is_restricted_and_probed_and_has_limits(service: str) -> None:
    [deployment] = of_kind(K8S / f"base/{service}.yaml", "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert "replicas" not in deployment["spec"], "the autoscaler owns them"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_all_its_objects(service: str) -> None:
    base = K8S / f"base/{service}.yaml"
    for kind in ("ServiceAccount", "Service", "PodDisruptionBudget"):
        assert [manifest["metadata"]["name"] for manifest in of_kind(base, kind)] == [service], kind
    assert of_kind(K8S / f"components/network-policies/{service}.yaml", "NetworkPolicy")
    scaled = of_kind(K8S / "components/autoscaling/horizontal-pod-autoscalers.yaml", "HorizontalPodAutoscaler")
    assert service in {manifest["spec"]["scaleTargetRef"]["name"] for manifest in scaled}


@pytest.mark.parametrize("overlay", sorted((K8S / "overlays").iterdir()), ids=lambda path: path.name)
def test_a_namespace_enforces_the_restricted_standard_and_denies_by_default(overlay: Path) -> None:
    [namespace] = of_kind(overlay / "namespace.yaml", "Namespace")

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert (
        "../../components/network-policies"
        in yaml.safe_load((overlay / "kustomization.yaml").read_text())["components"]
    )


def test_every_manifest_is_listed_where_it_is_used() -> None:
    for kustomization in K8S.rglob("kustomization.yaml"):
        listed = yaml.safe_load(kustomization.read_text())["resources"]
        beside = {path.name for path in kustomization.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert beside == {name for name in listed if name.endswith(".yaml")}, kustomization
