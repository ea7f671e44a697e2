"""Checks what is deployed without deploying it: `python deploy/check.py`, part of `make check`.

The overlays are rendered and every object is validated strictly, offline, against the schemas of Kubernetes. Rendering
needs kustomize or kubectl on the path, and the compose file is read by `docker compose` only where that is installed:
what could not be checked here is said, and is no failure.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from tempfile import NamedTemporaryFile
from typing import Any

import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[1]
K8S = ROOT / "deploy/k8s"
VERSIONS = ("1.33", "1.37")
"""The oldest and the newest Kubernetes that the overlays are for."""


def main() -> int:
    problems = [*kubernetes(), *compose()]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def kubernetes() -> Iterator[str]:
    """What is wrong with the manifests: one line each, with the file or overlay, the object and the place in it."""
    overlays = sorted(path.parent for path in K8S.glob("overlays/*/kustomization.yaml"))
    renderer = ["kustomize", "build"] if which("kustomize") else ["kubectl", "kustomize"]
    if which(renderer[0]) is None:
        sources = [path for path in sorted(K8S.rglob("*.yaml")) if path.name != "kustomization.yaml"]
        print(
            "neither kustomize nor kubectl is on the path: the manifests are checked one by one, the overlays are not"
        )
        for path in sources:
            yield from _validated(path.relative_to(ROOT), path.read_text())
        return
    for overlay in overlays:
        rendered = subprocess.run([*renderer, overlay], capture_output=True, text=True, check=False)
        if rendered.returncode != 0:
            yield f"{overlay.relative_to(ROOT)}: {rendered.stderr.strip()}"
            continue
        yield from _validated(overlay.relative_to(ROOT), rendered.stdout)


def _validated(source: Path, text: str) -> Iterator[str]:
    count = 0
    for manifest in yaml.safe_load_all(text):
        if manifest is None:  # a file that is only a comment
            continue
        count += 1
        for version in VERSIONS:
            yield from (f"{source}: {problem}" for problem in _refusals(manifest, version))
    print(f"{source}: {count} objects")


def _refusals(manifest: dict[str, Any], version: str) -> Iterator[str]:
    what = f"{manifest.get('kind')} {manifest.get('metadata', {}).get('name')} for Kubernetes {version}"
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as refused:
        yield f"{what}: {'.'.join(str(step) for step in refused.path)}: {refused.message}"
    except kubernetes_validate.SchemaNotFoundError as unknown:
        yield f"{what}: {unknown.message}"


def compose() -> Iterator[str]:
    """What is wrong with the compose file, by the judgement of compose itself, with something for every secret."""
    asked = (
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=False) if which("docker") else None
    )
    if asked is None or asked.returncode != 0:
        print("docker compose is not installed here: docker-compose.yml is not checked")
        return
    with NamedTemporaryFile("w", suffix=".env") as variables:
        variables.write(re.sub("=$", "=something", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
        variables.flush()
        command = [
            "docker",
            "compose",
            "--env-file",
            variables.name,
            "-f",
            str(ROOT / "docker-compose.yml"),
            "config",
            "-q",
        ]
        read = subprocess.run(command, capture_output=True, text=True, check=False)
    print("docker-compose.yml: read by docker compose")
    if read.returncode != 0 or read.stderr:  # a warning names a variable that nobody sets
        yield f"docker-compose.yml: {read.stderr.strip()}"


if __name__ == "__main__":
    sys.exit(main())
