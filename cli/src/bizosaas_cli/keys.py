"""`bizos keys`: the keys and passwords a deployment needs, made once and kept out of sight."""

import base64
import os
import secrets
from pathlib import Path
from typing import Annotated

import typer
from dotenv import dotenv_values

from bizosaas_ports.sealing import SealingKey, export_public
from bizosaas_ports.signing import SigningKey

from .output import console, fail

SEALED_TO = ("tenant-svc", "connector-svc", "secret-svc")
"""The services that receive sealed values, and so have a key pair."""
AUDIT_SIGNING_KEY = "BIZOS_AUDIT_SIGNING_KEY"
AUDIT_PUBLIC_KEY = "BIZOS_AUDIT_PUBLIC_KEY"
"""With it anybody can check what audit-svc signed; no service needs it."""


def variable(service: str, suffix: str) -> str:
    """`BIZOS_TENANT_SVC_PUBLIC_KEY` for tenant-svc."""
    return f"BIZOS_{service.upper().replace('-', '_')}_{suffix}"


def make() -> dict[str, str]:
    """A fresh set: a key pair per service that opens sealed values and one to sign the journal, the master keys of
    secret-svc and tenant-svc, the first admin."""
    made = {}
    for service in SEALED_TO:
        key = SealingKey.generate()
        made[variable(service, "SEALING_KEY")] = key.export()
        made[variable(service, "PUBLIC_KEY")] = export_public(key.public)
    signing = SigningKey.generate()
    made[AUDIT_SIGNING_KEY] = signing.export()
    made[AUDIT_PUBLIC_KEY] = export_public(signing.public)
    made["BIZOS_SECRET_MASTER_KEY"] = base64.b64encode(secrets.token_bytes(32)).decode()
    made["BIZOS_PERSONAL_MASTER_KEY"] = base64.b64encode(secrets.token_bytes(32)).decode()
    made["BIZOS_ADMIN_EMAIL"] = "admin@bizos.test"
    made["BIZOS_ADMIN_PASSWORD"] = secrets.token_urlsafe(15)
    return made


def load_or_make(path: Path) -> dict[str, str]:
    """The keys kept in a file only its owner can read; made when there is none yet, completed when it is older."""
    kept = {name: value for name, value in dotenv_values(path).items() if value} if path.exists() else {}
    missing = {name: value for name, value in make().items() if name not in kept}
    for service in SEALED_TO:  # a pair is kept or made together
        if variable(service, "SEALING_KEY") in kept:
            key = SealingKey.parse(kept[variable(service, "SEALING_KEY")])
            missing[variable(service, "PUBLIC_KEY")] = export_public(key.public)
    if AUDIT_SIGNING_KEY in kept:
        missing[AUDIT_PUBLIC_KEY] = export_public(SigningKey.parse(kept[AUDIT_SIGNING_KEY]).public)
    keys = kept | missing
    if keys != kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_private(path, keys)
    return keys


def _write_private(path: Path, values: dict[str, str]) -> None:
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    new.replace(path)


def register(app: typer.Typer) -> None:
    @app.command("keys")
    def keys(
        out: Annotated[Path | None, typer.Option(help="Write to this new file (mode 0600) and print nothing.")] = None,
    ) -> None:
        """Make the keys and passwords of a new deployment, as lines for `.env`."""
        if out is None:
            for name, value in make().items():
                console.print(f"{name}={value}", markup=False, highlight=False, soft_wrap=True)
            return
        if out.exists():
            fail(f"{out} exists: a deployment keeps its keys. Name a new file.")
        _write_private(out, make())
