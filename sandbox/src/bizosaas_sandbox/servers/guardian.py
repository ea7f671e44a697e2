"""Ends the servers of a process that died: started beside it, as a script of its own.

It reads `watch <pid> <start time> <signal>` and `forget <pid>` from the process it guards. When that pipe ends, or
the process is gone, it signals what is still watched, waits, and kills the rest. A guardian rather than Linux'
PR_SET_PDEATHSIG, because that one fires when the *thread* that started the server ends, is not inherited by a
server's own workers, needs code between fork and exec, and exists on Linux only.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress

import psutil

GRACE = 8.0
Watched = dict[int, tuple[float, int]]


def same(pid: int, started: float) -> psutil.Process | None:
    """The process of this id, unless the id was given to another one since."""
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - started) < 2 else None
    except psutil.NoSuchProcess:
        return None


def end(pid: int, started: float, how: int, grace: float = GRACE) -> None:
    """Signal a server's process group, and after the grace period kill it with all its descendants.

    The descendants are noted first: Postgres puts each of its own into another group, and once the parent is gone
    nobody knows them any more.
    """
    process = same(pid, started)
    family = [process, *_children(process)] if process else []
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)
    if left := still_there(family, grace):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for survivor in left:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    still_there(left, grace)


def still_there(family: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until these have ended and return those that have not; a zombie has, and who reaps it is not our affair."""
    deadline = time.monotonic() + timeout
    while (family := [process for process in family if _alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return family


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def guard(parent: int) -> None:
    watched: Watched = {}
    pending = b""
    while True:
        # A child that was forked without exec may hold the pipe open, so the parent's id is looked at as well. What
        # is in the pipe is read in any case: the parent may have died before this process was ready to listen.
        orphaned = os.getppid() != parent
        if not select.select([0], [], [], 0 if orphaned else 1.0)[0]:
            if orphaned:
                break
            continue
        read = os.read(0, 4096)
        if not read:
            break
        *lines, pending = (pending + read).split(b"\n")
        for line in lines:
            word, *rest = line.decode().split()
            if word == "watch":
                watched[int(rest[0])] = (float(rest[1]), int(rest[2]))
            else:
                watched.pop(int(rest[0]), None)
    for pid, (started, how) in reversed(watched.items()):
        end(pid, started, how)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    guard(int(sys.argv[1]))
