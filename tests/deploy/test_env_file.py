"""`make env`: the secrets of a deployment, made from .env.example."""

import base64
import subprocess
import sys
from pathlib import Path

from nacl.public import PrivateKey

from bizosaas_ports.signing import SigningKey

ENV = Path(__file__).parents[2] / "deploy/env.py"


def written(folder: Path, example: str) -> tuple[int, dict[str, str], str]:
    """What the script leaves in .env, run on an example of our own: exit code, variables, what it said."""
    (folder / "deploy").mkdir(exist_ok=True)
    script = folder / "deploy/env.py"
    script.write_bytes(ENV.read_bytes())
    (folder / ".env.example").write_text(example)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    lines = [line for line in (folder / ".env").read_text().splitlines() if line and not line.startswith("#")]
    return done.returncode, dict(line.split("=", 1) for line in lines), done.stdout + done.stderr


def test_what_is_empty_gets_a_secret_and_the_rest_stays(tmp_path: Path) -> None:
    code, variables, said = written(tmp_path, "# A sentence.\nPORT=8000\nREDIS_PASSWORD=\n# BIZOS_ENV=bizos\n")

    assert code == 0
    assert variables["PORT"] == "8000"
    assert len(variables["REDIS_PASSWORD"]) == 48
    assert variables["REDIS_PASSWORD"] not in said


def test_a_public_key_belongs_to_the_private_one(tmp_path: Path) -> None:
    _, variables, _ = written(tmp_path, "SECRET_SVC_SEALING_KEY=\nSECRET_SVC_PUBLIC_KEY=\n")

    private = PrivateKey(base64.b64decode(variables["SECRET_SVC_SEALING_KEY"]))
    assert base64.b64decode(variables["SECRET_SVC_PUBLIC_KEY"]) == private.public_key.encode()


def test_a_key_that_signs_is_one(tmp_path: Path) -> None:
    _, variables, _ = written(tmp_path, "AUDIT_SIGNING_KEY=\n")

    assert SigningKey.parse(variables["AUDIT_SIGNING_KEY"]).export() == variables["AUDIT_SIGNING_KEY"]


def test_a_master_key_is_one(tmp_path: Path) -> None:
    _, variables, _ = written(tmp_path, "PERSONAL_MASTER_KEY=\n")

    assert len(base64.b64decode(variables["PERSONAL_MASTER_KEY"], validate=True)) == 32


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    written(tmp_path, "REDIS_PASSWORD=\n")
    before = (tmp_path / ".env").read_text()

    code, _, said = written(tmp_path, "REDIS_PASSWORD=\n")

    assert code == 1
    assert "remove it first" in said
    assert (tmp_path / ".env").read_text() == before


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    written(tmp_path, "REDIS_PASSWORD=\n")

    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
