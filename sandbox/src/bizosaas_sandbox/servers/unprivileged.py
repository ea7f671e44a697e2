"""Run a server that refuses to run as root, when root is who we are (a container, a fresh virtual machine)."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bizosaas_sandbox.servers.base import UnavailableError

Account = pwd.struct_passwd

ACCOUNTS = ("postgres", "_postgres", "nobody")
# Where such a user can get to on every Unix, and what survives a restart of the machine.
SHELTER = Path("/var/lib/bizosaas")


def account(server: str) -> Account | None:
    """The system user to run as; None when we are not root and simply run as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UnavailableError(server, f"it refuses to run as root and there is none of the users {', '.join(ACCOUNTS)}")


def reachable(folder: Path, user: Account | None, shelter: Path = SHELTER) -> Path:
    """This folder if the user can get to it, else a sheltered one that a link inside this folder leads to.

    Root's home is closed to everybody else. Opening it would expose more than the data, so the data goes elsewhere.
    """
    if user is None:
        return folder
    folder.chmod(folder.stat().st_mode | 0o011)
    link = folder / "cluster"
    if link.is_symlink():
        return link.readlink().parent
    if can_enter(folder, user):
        return folder
    shelter.mkdir(mode=0o755, parents=True, exist_ok=True)
    _forget_orphans(shelter)
    home = Path(tempfile.mkdtemp(dir=shelter, prefix="data-"))
    home.chmod(0o711)
    (home / "origin").write_text(str(link))
    link.symlink_to(home / "cluster")
    return home


def reachable_program(program: Path, user: Account | None, shelter: Path = SHELTER) -> Path:
    """This program if the user can run it, else the one in a copy of its installation.

    Copied is what a wheel consists of: the installation around `bin`, in a folder of the package's name, and the
    libraries that repaired wheels keep beside the package.
    """
    if user is None or (can_enter(program.parent, user) and program.stat().st_mode & 0o001):
        return program
    installation = program.parent.parent
    package = installation.parent
    state = program.stat()
    copy = shelter / f"program-{program.name}-{int(state.st_mtime)}-{state.st_size}"
    if not copy.exists():
        shelter.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=shelter) as folder:
            half = Path(folder) / "copy"
            shutil.copytree(installation, half / package.name / installation.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, half / libraries.name)
            for path in [half, *_below(half)]:
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
            try:
                half.rename(copy)
            except OSError:
                if not copy.exists():  # another run may have been quicker
                    raise
    return copy / program.relative_to(package.parent)


def can_enter(folder: Path, user: Account) -> bool:
    """Whether this user may pass through the folder and everything above it."""
    return all(_may_search(step, user) for step in (folder.resolve(), *folder.resolve().parents))


def hand_over(folder: Path, user: Account) -> None:
    """Give a folder that another user left to this one."""
    if folder.stat().st_uid != user.pw_uid:
        for path in (folder, *_below(folder)):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def remove(folder: Path) -> None:
    """Empty the folder; a link stays a link."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _may_search(folder: Path, user: Account) -> bool:
    state = folder.stat()
    if state.st_uid == user.pw_uid:
        return bool(state.st_mode & 0o100)
    if state.st_gid == user.pw_gid:
        return bool(state.st_mode & 0o010)
    return bool(state.st_mode & 0o001)


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent) / name for name in (*folders, *files))


def _forget_orphans(shelter: Path) -> None:
    """Remove sheltered data whose link is gone: the project it belonged to was deleted or started over."""
    for home in shelter.glob("data-*"):
        try:
            link = Path((home / "origin").read_text())
        except FileNotFoundError:
            continue
        if not link.is_symlink() or link.readlink() != home / "cluster":
            shutil.rmtree(home, ignore_errors=True)
