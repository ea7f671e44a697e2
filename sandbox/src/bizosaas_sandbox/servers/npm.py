"""Fetch a counterpart's npm packages once, exactly as its committed lock file names them."""

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bizosaas_sandbox.servers.base import Say, UnavailableError
from bizosaas_sandbox.servers.node import find_npm

COUNTERPARTS = Path(__file__).parent / "counterparts"
CACHE = Path(".bizos/npm")
SAY_EVERY = 5.0
LIMIT = 600.0
# Without a network npm would try for minutes; whoever waits for the fallback wants to know sooner.
IMPATIENCE = {
    "npm_config_fetch_retries": "1",
    "npm_config_fetch_retry_mintimeout": "1000",
    "npm_config_update_notifier": "false",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
}


def fetched(name: str, cache: Path, say: Say, more: Callable[[Path], None] | None = None) -> Path:
    """The folder with this counterpart's files and node_modules, filled on first use.

    It is named after the content of what is committed, so a changed lock file is fetched anew. `more` may add what
    npm install cannot. Runs beside each other wait for the one that fetches. Raises UnavailableError when npm or the
    registry cannot be reached; nothing half-done stays behind.
    """
    committed = COUNTERPARTS / name
    home = cache.absolute() / f"{name}-{_digest(committed)}"
    if home.is_dir():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with _alone(home.with_suffix(".lock")):
        if home.is_dir():
            return home
        for abandoned in home.parent.glob(f".{name}-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=f".{name}-") as half:
            folder = Path(half) / "package"
            shutil.copytree(committed, folder)
            wanted = json.loads((folder / "package.json").read_text())["dependencies"]
            packages = ", ".join(f"{package} {version}" for package, version in wanted.items())
            run_npm(name, ["ci", "--ignore-scripts"], folder, say, f"fetching {packages}")
            if more is not None:
                more(folder)
            folder.rename(home)
    return home


def run_npm(server: str, arguments: Sequence[str], folder: Path, say: Say, doing: str) -> str:
    """Run npm here, saying now and then that it is still at it, and return what it prints."""
    npm = find_npm()
    began = time.monotonic()
    say(f"{doing} (once) ...")
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*npm.command, *arguments],
            cwd=folder,
            env=npm.environment | IMPATIENCE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            while (code := _wait(process, SAY_EVERY)) is None:
                seconds = time.monotonic() - began
                if seconds > LIMIT:
                    raise UnavailableError(server, f"npm did not end within {LIMIT:g} seconds")
                say(f"{doing}: {seconds:.0f} s, {_megabytes(folder)} MB so far")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        errors.seek(0)
        if code:
            raise UnavailableError(
                server,
                f"npm could not fetch it (no network?), it ended with code {code}",
                errors.read()[-1500:].strip(),
            )
        say(f"{doing}: done in {time.monotonic() - began:.0f} s")
        return output.read()


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _megabytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # npm moves its files about while it works
            continue
    return total // 1_000_000


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
