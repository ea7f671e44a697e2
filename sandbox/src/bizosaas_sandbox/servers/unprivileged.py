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


def reachable(folder: Path, user: Account | None) -> Path:
    """This folder if the user can get to it, else a sheltered one that a link inside this folder leads to.

    Root's home is closed to everybody else. Opening it would expose more than the data, so the data goes elsewhere.
    """
    if user is None:
        return folder
    folder.chmod(folder.stat().st_mode | 0o011)
    link = folder / "cluster"
    if link.is_symlink():
        return link.resolve().parent
    if can_enter(folder, user):
        return folder
    _forget_orphans()
    SHELTER.mkdir(mode=0o755, parents=True, exist_ok=True)
    shelter = Path(tempfile.mkdtemp(dir=SHELTER, prefix="data-"))
    shelter.chmod(0o711)
    (shelter / "origin").write_text(str(link))
    link.symlink_to(shelter / "cluster")
    return shelter


def reachable_program(root: Path, program: Path, user: Account | None) -> Path:
    """The installation at `root`, or a copy of it where the user can run it."""
    if user is None or (can_enter(program.parent, user) and program.stat().st_mode & 0o001):
        return root
    stamp = int(program.stat().st_mtime)
    copy = SHELTER / f"{root.name}-{stamp}-{program.stat().st_size}"
    if not copy.exists():
        SHELTER.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=SHELTER) as half:
            Path(half).chmod(0o755)
            shutil.copytree(root, Path(half) / "copy", symlinks=True)
            for path in [Path(half) / "copy", *_below(Path(half) / "copy")]:
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
            try:
                (Path(half) / "copy").rename(copy)
            except OSError:
                if not copy.exists():  # another run may have been quicker
                    raise
    return copy


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


def _forget_orphans() -> None:
    """Remove sheltered data whose link is gone: the project it belonged to was deleted or started over."""
    for shelter in SHELTER.glob("data-*"):
        try:
            link = Path((shelter / "origin").read_text())
        except FileNotFoundError:
            continue
        if not link.is_symlink() or link.readlink() != shelter / "cluster":
            shutil.rmtree(shelter, ignore_errors=True)
