"""SecretPort: where secret-svc keeps the values of credentials."""

from typing import Protocol


class SecretMissingError(LookupError):
    """There is no such secret, or not this version of it."""


class SecretStoreUnavailableError(Exception):
    """The store is sealed, away, or refuses our own login; nothing was changed."""


class SecretPort(Protocol):
    """A versioned store of secret values; versions count from 1 and are never given twice.

    `path` is `<tenant>/<secret id>`. Every method may raise
    SecretStoreUnavailableError; a cancelled call may or may not have happened.
    """

    async def put(self, path: str, value: bytes, *, expected: int) -> int:
        """Keep a value as version `expected` + 1 and return that number.

        The same value again for the same `expected` is success (a repeat after
        a crash). Otherwise, when the newest version is not `expected`, raises
        ValueError, naming the path: of several calls that race, one wins.
        """

    async def get(self, path: str, version: int | None = None) -> tuple[bytes, int]:
        """The value and its version, the newest by default.

        Raises SecretMissingError, also when this very version is destroyed
        and others are not.
        """

    async def destroy(self, path: str, versions: list[int]) -> None:
        """Make these versions unreadable for good; those that are already is success."""
