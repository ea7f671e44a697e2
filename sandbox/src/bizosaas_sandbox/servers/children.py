"""A server's process: started in a session of its own, waited for, watched over, and ended with all its workers."""

import atexit
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

from bizosaas_sandbox.servers import guardian
from bizosaas_sandbox.servers.base import ServerError

LOG_TAIL = 2000
PORT_TAKEN = ("address already in use", "eaddrinuse")
NOT_FOR_OUTGOING = (20_000, 30_000)  # and below the node ports of Kubernetes


class ChildProcess:
    """One run of one server. Ends with the Python process that started it, however that one ends."""

    def __init__(
        self,
        server: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        note: Path,
        env: Mapping[str, str],
        cwd: Path,
        uid: int | None = None,
        gid: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = guardian.GRACE,
    ) -> None:
        self.server, self.log, self.note, self.stop_signal = server, log, note, stop_signal
        self.grace = grace
        identity: dict[str, Any] = {} if uid is None else {"user": uid, "group": gid, "extra_groups": []}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                **identity,
            )
        self.pid: int = self.process.pid
        try:
            self._put_under_watch()
        except BaseException:  # Ctrl-C included: nobody else knows of this process yet
            self.process.kill()
            self.process.wait()
            raise

    def _put_under_watch(self) -> None:
        self.started = psutil.Process(self.pid).create_time()
        _watch(self)
        me = psutil.Process()
        self.note.write_text(
            json.dumps({"pid": self.pid, "started": self.started, "parent": me.pid, "parent_started": me.create_time()})
        )

    @property
    def running(self) -> bool:
        return bool(self.process.poll() is None)

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Return as soon as `ready` is true; ServerError when the process ends first or the time is over."""
        end, pause = time.monotonic() + timeout, 0.01
        while not ready():
            if not self.running:
                raise ServerError(self.server, f"ended at once, with code {self.process.returncode}", self.log_tail())
            if time.monotonic() > end:
                raise ServerError(self.server, f"did not answer within {timeout:g} seconds", self.log_tail())
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    def log_tail(self) -> str:
        with suppress(OSError):
            return self.log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
        return ""

    def stop(self, how: signal.Signals | None = None) -> None:
        """End the process and its workers, orderly if it can within its grace, in seconds."""
        guardian.end(self.pid, self.started, how or self.stop_signal, self.grace)
        self.process.wait()
        _forget(self)
        self.note.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL to the process and every worker at once, as a power cut or the kernel's memory killer would."""
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)] if self.running else []
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.stop(signal.SIGKILL)
        guardian.still_there(family, guardian.GRACE)


def sweep(server: str, note: Path, how: signal.Signals) -> None:
    """End what an earlier, dead process left behind on this data folder; refuse when its owner is alive."""
    try:
        left = json.loads(note.read_text())
        pid, started, parent = left["pid"], left["started"], left["parent"]
        owned = guardian.same(parent, left["parent_started"])
    except (OSError, ValueError, KeyError):
        return
    if guardian.same(pid, started):
        if owned:
            raise ServerError(server, f"already runs on {note.parent}, started by process {parent}: end that one first")
        guardian.end(pid, started, how)
    note.unlink(missing_ok=True)


def free_port() -> int:
    """A port that was free a moment ago."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ports that were free a moment ago, and that no outgoing connection will take before a server does.

    A port that the system chooses is one of those it also gives to outgoing connections (from 32768 on Linux, from
    49152 elsewhere), such as a client's that looks whether a server that is starting, or was killed, is back.
    """
    with ExitStack() as held:
        free: list[int] = []
        while len(free) < count:
            probe, port = held.enter_context(socket.socket()), _any.randrange(*NOT_FOR_OUTGOING)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                free.append(port)
        return free


def answers(port: int) -> bool:
    """Whether something accepts connections on this port of loopback."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


_any = random.SystemRandom()  # Hypothesis seeds the others alike in every process
_children: dict[int, ChildProcess] = {}
_lock = threading.Lock()
_guardian: subprocess.Popen[bytes] | None = None
_guarded_by_pid = 0


def _watch(child: ChildProcess) -> None:
    with _lock:
        _children[child.pid] = child
        _tell(f"watch {child.pid} {child.started} {int(child.stop_signal)}")


def _forget(child: ChildProcess) -> None:
    with _lock:
        if _children.pop(child.pid, None) is not None:
            _tell(f"forget {child.pid}")


def _tell(line: str) -> None:
    global _guardian, _guarded_by_pid
    if _guarded_by_pid != os.getpid():  # first use, or the first one after a fork
        _guarded_by_pid = os.getpid()
        _guardian = None
    if _guardian is not None and _guardian.poll() is not None:  # somebody killed it: the next one takes over
        assert _guardian.stdin is not None
        with suppress(BrokenPipeError):
            _guardian.stdin.close()
        _guardian = None
    if _guardian is None:
        _guardian = subprocess.Popen(
            [sys.executable, "-P", guardian.__file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.unregister(_stop_all)
        atexit.register(_stop_all)
        known = [f"watch {c.pid} {c.started} {int(c.stop_signal)}" for c in _children.values()]
        line = "\n".join([*known, line])
    assert _guardian.stdin is not None
    with suppress(BrokenPipeError):
        _guardian.stdin.write(line.encode() + b"\n")
        _guardian.stdin.flush()


def _stop_all() -> None:
    """At exit: end whatever was not stopped, newest first, then let the guardian go."""
    if _guarded_by_pid != os.getpid():  # a forked child leaves its parent's servers alone
        return
    for child in reversed(list(_children.values())):
        child.stop()
    if _guardian is not None and _guardian.stdin is not None:
        _guardian.stdin.close()
        _guardian.wait()
