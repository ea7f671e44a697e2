"""The servers the platform and its tests need, started as child processes: no Docker, no root, nothing left behind."""

from bizosaas_sandbox.servers.base import Say, Server, ServerError, UnavailableError
from bizosaas_sandbox.servers.binaries import Binary

__all__ = ["Binary", "Say", "Server", "ServerError", "UnavailableError"]
