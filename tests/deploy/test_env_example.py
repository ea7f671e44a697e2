"""One list of variables: what services read, .env.example explains, and compose and Kubernetes set."""

import importlib
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "pyproject.toml").exists())
LINE = re.compile(r"(?:# )?([A-Z][A-Z0-9_]*(?:<CONNECTOR>[A-Z_]+)?)=(.*)")


def settings(service: str) -> dict[str, FieldInfo]:
    """The variables that a service reads, by name."""
    cls = importlib.import_module(f"{service.replace('-', '_')}.app.settings").Settings
    fields: dict[str, FieldInfo] = cls.model_fields
    return {str(field.validation_alias or f"BIZOS_{name.upper()}"): field for name, field in fields.items()}


def explained() -> dict[str, str]:
    """The variables of .env.example with the value shown there."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    found = [(match[1], match[2]) for line in lines if (match := LINE.match(line))]
    assert len(found) == len(dict(found)), "a variable is there twice"
    return dict(found)


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return read


def manifests() -> Iterator[dict[str, Any]]:
    for path in (ROOT / "deploy/k8s").rglob("*.yaml"):
        yield from filter(None, yaml.safe_load_all(path.read_text()))


def in_kubernetes(service: str) -> set[str]:
    """The variables that a service's pods are given, from the manifest itself and the generated ConfigMaps it names."""
    deployment = next(
        m for m in manifests() if m["kind"] == "Deployment" and m["metadata"]["name"] == service
    )  # fmt: skip
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    names = {variable["name"] for variable in container["env"]}
    maps = {source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source}
    for kustomization in manifests():
        for generated in kustomization.get("configMapGenerator", []):
            if generated["name"] in maps:
                names |= {literal.partition("=")[0] for literal in generated["literals"]}
    return names


def shown_as(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_of_a_service_is_explained(service: str) -> None:
    # A setting that stands for a family, such as BIZOS_OAUTH, is explained by the names of the family.
    families = {name.partition("_<")[0] for name in explained() if "<" in name}

    assert settings(service).keys() - explained().keys() - families == set()


@pytest.mark.parametrize("service", SERVICES)
def test_the_default_shown_is_the_real_one(service: str) -> None:
    for name, field in settings(service).items():
        if isinstance(field.default, str | int | float | Path) and field.default != "":
            assert explained()[name] == shown_as(field.default), name


def test_what_is_explained_is_read_by_some_service() -> None:
    known = {name for service in SERVICES for name in settings(service)}
    families = {name for name in explained() if "<" in name}

    assert {name for name in explained() if name.startswith("BIZOS_")} - families - known == set()


def test_every_line_has_a_sentence_before_it() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    for before, line in pairwise(lines):
        if LINE.match(line):
            assert before.startswith("# "), line
            assert not LINE.match(before), line


def test_compose_uses_no_variable_that_is_not_explained() -> None:
    used = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text()))

    assert used - explained().keys() == set()


def test_every_variable_of_compose_alone_is_used_by_compose() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text()))

    assert {name for name in explained() if not name.startswith(("BIZOS_", "OTEL_"))} - used == set()


@pytest.mark.parametrize("service", SERVICES)
def test_compose_sets_what_a_service_needs_and_nothing_it_does_not_know(service: str) -> None:
    given = compose()["services"][service]["environment"].keys()

    assert given - settings(service).keys() == set()
    assert {name for name, field in settings(service).items() if field.is_required()} - given == set()


@pytest.mark.parametrize("service", SERVICES)
def test_kubernetes_sets_what_a_service_needs_and_nothing_it_does_not_know(service: str) -> None:
    given = in_kubernetes(service)

    assert given - settings(service).keys() == set()
    assert {name for name, field in settings(service).items() if field.is_required()} - given == set()
