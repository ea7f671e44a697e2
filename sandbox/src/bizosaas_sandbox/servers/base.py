"""What every server offers, whichever program is behind it, and how it fails."""

from collections.abc import Callable
from typing import Protocol, Self

Say = Callable[[str], None]


class Server(Protocol):
    """A program that listens on loopback and belongs to whoever started it.

    `start` returns when the server answers, or raises ServerError quoting the end of its log; starting a running
    server changes nothing. `stop` lets it finish and waits for its end; stopping a stopped server changes nothing.
    Data outlives both, so the next start goes on where the last one ended, at the same port; what is in memory
    (oidc-provider) or in a container is forgotten.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def source(self) -> str:
        """Where the program came from: "PATH", "wheel", "npm", "container", "stand-in", or "given"."""
        ...

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...

    def start(self) -> Self: ...

    def stop(self) -> None: ...


class ServerError(Exception):
    """A server did not start, or ended when it should not have."""

    def __init__(self, server: str, reason: str, log_tail: str = "") -> None:
        super().__init__(f"{server}: {reason}" + (f"\nThe end of its log:\n{log_tail}" if log_tail else ""))
        self.server = server
        self.reason = reason
        self.log_tail = log_tail


class UnavailableError(ServerError):
    """This machine cannot have the server (no program, no npm, another processor): fall back, or skip by name."""


def silent(text: str) -> None:
    """Take a progress message and show it to nobody."""
