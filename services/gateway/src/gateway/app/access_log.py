"""The access log: one JSON object a request, without bodies and without query strings.

Lines are gathered and written a few times a second: a line through the
logging pipeline would cost as much as half the request.
"""

import asyncio
import sys
from typing import Any

import msgspec

FLUSH_SECONDS = 0.2

_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Collects lines. What is gathered when the process is killed is lost; `flush` is called on the way out."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._lines: list[bytes] = []

    def note(self, entry: dict[str, Any]) -> None:
        """Log a request."""
        if not self._enabled:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._lines.append(_encode(entry))

    def flush(self) -> None:
        """Write what is gathered."""
        lines, self._lines = self._lines, []
        if lines:
            sys.stderr.write(b"\n".join(lines).decode() + "\n")
            sys.stderr.flush()
