"""What secret-svc alone needs from outside."""

from collections.abc import Callable
from typing import Protocol

Fingerprint = Callable[[bytes], str]
"""12 hexadecimal digits by which a value is recognised and from which nobody gets back to it."""


class Configuration(Protocol):
    """The platform's own secrets that whoever runs it has written into the configuration."""

    def value(self, secret_id: str) -> bytes | None:
        """The value configured for a secret of the platform's, or None."""
