"""The life of a server that is one child process: sweep, prepare, start, wait until it answers, stop."""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from bizosaas_sandbox.servers.base import Say, ServerError, silent
from bizosaas_sandbox.servers.binaries import Binary
from bizosaas_sandbox.servers.children import PORT_TAKEN, ChildProcess, free_port, sweep
from bizosaas_sandbox.servers.guardian import GRACE


class ProcessServer(ABC):
    """A server as a child process; a subclass says which program, with which arguments, and when it is ready.

    `data` is its folder, made when missing. Port 0 takes a free one at the first start and keeps it over restarts,
    so that a killed server comes back where its clients look for it.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    grace: ClassVar[float] = GRACE
    """Seconds it may take to end after that signal, before it is killed."""

    def __init__(
        self, data: Path, *, port: int = 0, binary: Binary | None = None, say: Say = silent, timeout: float = 60
    ) -> None:
        self.data = data.absolute()
        self.say = say
        self._binary = binary
        self._port = port
        self._timeout = timeout
        self._child: ChildProcess | None = None

    @abstractmethod
    def find(self) -> Binary:
        """Choose the program; raises UnavailableError when there is none."""

    @abstractmethod
    def command(self) -> list[str | Path]: ...

    @abstractmethod
    def ready(self) -> bool:
        """Ask once; False means not yet."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    def prepare(self) -> None:  # noqa: B027  most have nothing to prepare
        """Make the data folder usable before the process starts."""

    def settle(self) -> None:  # noqa: B027  most have nothing left to do
        """What is left to do when the process answers, such as unsealing."""

    def environment(self) -> Mapping[str, str]:
        """What the process sees of ours: too little to change what it does, or to hand it a secret."""
        return {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "TMPDIR", "LANG")}

    def identity(self) -> tuple[int, int] | None:
        """The user and group to run as; None for our own."""
        return None

    @property
    def binary(self) -> Binary:
        if self._binary is None:
            self._binary = self.find()
        return self._binary

    @property
    def version(self) -> str:
        return self.binary.version

    @property
    def source(self) -> str:
        return self.binary.source

    @property
    def port(self) -> int:
        if not self._port:
            self._port = free_port()
        return self._port

    @property
    def log(self) -> Path:
        return self.data / f"{self.name.lower().replace(' ', '-')}.log"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def start(self) -> Self:
        if self.running:
            return self
        chosen = bool(self._port)
        self.data.mkdir(parents=True, exist_ok=True)
        sweep(self.name, self.data / "process.json", self.stop_signal)
        self.prepare()
        for attempt in range(3):
            try:
                self._start_once()
                break
            except ServerError as error:
                # Between choosing a free port and listening on it another program may have taken it.
                taken = any(phrase in error.log_tail.lower() for phrase in PORT_TAKEN)
                if chosen or not taken or attempt == 2:
                    raise
                self._port = 0
        self.say(f"{self.name} {self.binary} listens on port {self.port}")
        return self

    def _start_once(self) -> None:
        self.log.unlink(missing_ok=True)
        uid, gid = self.identity() or (None, None)
        child = ChildProcess(
            self.name,
            self.command(),
            log=self.log,
            note=self.data / "process.json",
            env=self.environment(),
            cwd=self.data,
            uid=uid,
            gid=gid,
            stop_signal=self.stop_signal,
            grace=self.grace,
        )
        self._child = child
        try:
            child.wait_until(self.ready, self._timeout)
            self.settle()
        except BaseException:  # also on Ctrl-C: nobody will stop a server whose start was interrupted
            child.stop()
            self._child = None
            raise

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """SIGKILL, for tests that ask what survives; `start` brings it back on the same data and port."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
