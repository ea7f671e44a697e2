"""Find the program of a server: one on the PATH wins, the one inside a Python wheel is the fallback."""

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bizosaas_sandbox.servers.base import UnavailableError

# "wheel" leaves the PATH aside: the way to repeat on one machine what another one without any server would do.
PREFERENCE = "BIZOS_SERVERS"


@dataclass(frozen=True, kw_only=True)
class Binary:
    """A program that was found, the version it reports, and where it came from."""

    path: Path
    version: str
    source: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def __str__(self) -> str:
        return f"{self.version} ({self.source})"


def on_path(*names: str) -> Iterator[Path]:
    """Programs of these names on the PATH; those of this Python environment are wheels and not the machine's."""
    if os.environ.get(PREFERENCE) == "wheel":
        return
    ours = {_scripts(), Path(sys.executable).parent}
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if folder and Path(folder) not in ours:
            for name in names:
                path = Path(folder) / name
                # os.path rather than pathlib: it says no, instead of raising, in a folder that is closed to us.
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    yield path


def in_wheel(package: str, inside: str) -> Iterator[Path]:
    """The program at this place inside an installed package, if that package is installed."""
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / inside
        if path.is_file():
            yield path


def in_environment(name: str) -> Iterator[Path]:
    """The program a wheel put among this environment's scripts."""
    path = _scripts() / name
    if path.is_file():
        yield path


@cache
def version_of(path: Path, *arguments: str, pattern: str = r"(\d+(?:\.\d+)+)") -> str | None:
    """The version a program reports about itself, or None when it cannot be run here."""
    try:
        said = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(pattern, said)
    return found[1] if found else None


def first(
    server: str,
    candidates: Iterator[tuple[Path, str]],
    version: Callable[[Path], str | None],
    fits: Callable[[Binary], bool],
    remedy: str,
) -> Binary:
    """The first candidate that runs and fits; UnavailableError with the remedy when there is none."""
    for path, source in candidates:
        reported = version(path)
        if reported is not None:
            binary = Binary(path=path, version=reported, source=source)
            if fits(binary):
                return binary
    raise UnavailableError(server, remedy)


def at_least(*minimum: int) -> Callable[[Binary], bool]:
    """A program of this version or newer."""

    def fits(binary: Binary) -> bool:
        return tuple(int(part) for part in re.findall(r"\d+", binary.version)) >= minimum

    return fits


def _scripts() -> Path:
    return Path(sysconfig.get_path("scripts"))
