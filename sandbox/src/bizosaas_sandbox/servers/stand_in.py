"""A stand-in of this package, served by a process of its own."""

import importlib
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bizosaas_sandbox.servers.base import Say, silent
from bizosaas_sandbox.servers.binaries import Binary
from bizosaas_sandbox.servers.children import answers
from bizosaas_sandbox.servers.process import ProcessServer


class StandIn(ProcessServer):
    """One module of `bizosaas_sandbox.providers`, answering as that company's system would."""

    name = "stand-in"

    def __init__(self, data: Path, *, provider: str, port: int = 0, say: Say = silent) -> None:
        super().__init__(data, port=port, say=say)
        self.provider = provider

    @property
    def credentials(self) -> Mapping[str, Any]:
        """What one signs in with there."""
        told: Mapping[str, Any] = importlib.import_module(f"bizosaas_sandbox.providers.{self.provider}").CREDENTIALS
        return told

    def find(self) -> Binary:
        return Binary(path=Path(sys.executable), version=version("bizosaas-sandbox"), source="stand-in")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str | Path]:
        wanted = [self.provider, "--port", str(self.port), "--data", str(self.data)]
        return [self.binary.path, "-m", "bizosaas_sandbox", *wanted]

    def ready(self) -> bool:
        return answers(self.port)
