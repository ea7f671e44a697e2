"""Secrets without a Vault: the environment for the platform's own, one encrypted file for what is stored at run time."""

import asyncio
import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from bizosaas_ports.secret import SecretMissingError, SecretStoreUnavailableError

from ..domain.secret import PLATFORM_OWNED
from .cipher import Cipher, CipherError

FORMAT = 1
_CHECK = "the key of this store"


class ConfiguredSecrets:
    """See `Configuration`: BIZOS_SECRET_OAUTH_<CONNECTOR>_CLIENT_SECRET is the secret `oauth-<connector>`."""

    PATTERN = re.compile(r"BIZOS_SECRET_OAUTH_([A-Z0-9_]+)_CLIENT_SECRET")

    def __init__(self, environment: Mapping[str, str]) -> None:
        found = ((self.PATTERN.fullmatch(name), value) for name, value in environment.items())
        self._values = {match[1]: value.encode() for match, value in found if match and value}

    def value(self, secret_id: str) -> bytes | None:
        if not secret_id.startswith(PLATFORM_OWNED):
            return None
        connector = secret_id.removeprefix(PLATFORM_OWNED)
        return self._values.get(re.sub(r"[^A-Z0-9]", "_", connector.upper()))


class Kept(msgspec.Struct):
    """One secret in the file: its newest version number and the encrypted values that are not destroyed."""

    newest: int = 0
    values: dict[int, bytes] = {}


class Contents(msgspec.Struct):
    format: int
    check: bytes
    """Something known, encrypted: tells a wrong key at start, and not at the first use."""
    secrets: dict[str, Kept] = {}


_decode = msgspec.json.Decoder(Contents).decode


class EnvSecretAdapter:
    """See `SecretPort`: one file that only its owner can read, each value in it encrypted.

    The file is replaced as a whole, so a crash leaves the old or the new one;
    a lock beside it lets several processes share it. For one machine.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._cipher = Cipher(key)

    async def open(self) -> None:
        """Make the file, or see that our key is its key. Raises SecretStoreUnavailableError, naming the setting."""
        await asyncio.to_thread(self._open)

    async def put(self, path: str, value: bytes, *, expected: int) -> int:
        return await asyncio.to_thread(self._put, path, value, expected)

    async def get(self, path: str, version: int | None = None) -> tuple[bytes, int]:
        return await asyncio.to_thread(self._get, path, version)

    async def destroy(self, path: str, versions: list[int]) -> None:
        await asyncio.to_thread(self._destroy, path, versions)

    def _open(self) -> None:
        with self._translated():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            if not self._path.exists():
                self._write(Contents(FORMAT, self._cipher.encrypt(_CHECK.encode(), _CHECK)))
            contents = self._read()
        if contents.format != FORMAT:
            raise SecretStoreUnavailableError(
                f"{self._path} (BIZOS_SECRET_STORE_PATH) has the format {contents.format} of another version"
            )
        self._decrypt(contents.check, _CHECK)

    def _put(self, path: str, value: bytes, expected: int) -> int:
        version = expected + 1
        with self._locked():
            contents = self._read()
            kept = contents.secrets.setdefault(path, Kept())
            if kept.newest != expected:
                there = kept.values.get(version)
                if there is None or self._decrypt(there, _place(path, version)) != value:
                    raise ValueError(f"{path} is not at version {expected}")
                return version
            kept.newest = version
            kept.values[version] = self._cipher.encrypt(value, _place(path, version))
            self._write(contents)
        return version

    def _get(self, path: str, version: int | None) -> tuple[bytes, int]:
        kept = self._read().secrets.get(path, Kept())
        wanted = kept.newest if version is None else version
        if wanted not in kept.values:
            raise SecretMissingError(path)
        return self._decrypt(kept.values[wanted], _place(path, wanted)), wanted

    def _destroy(self, path: str, versions: list[int]) -> None:
        with self._locked():
            contents = self._read()
            kept = contents.secrets.get(path, Kept())
            gone = kept.values.keys() & set(versions)
            for version in gone:
                del kept.values[version]
            if gone:
                self._write(contents)

    def _decrypt(self, encrypted: bytes, place: str) -> bytes:
        try:
            return self._cipher.decrypt(encrypted, place)
        except CipherError as error:
            raise SecretStoreUnavailableError(
                f"BIZOS_SECRET_MASTER_KEY is not the key of {self._path}, or the file was changed"
            ) from error

    def _read(self) -> Contents:
        with self._translated():
            data = self._path.read_bytes()
        try:
            return _decode(data)
        except msgspec.DecodeError as error:
            raise SecretStoreUnavailableError(
                f"{self._path} (BIZOS_SECRET_STORE_PATH) is damaged: restore it from a backup"
            ) from error

    def _write(self, contents: Contents) -> None:
        """Replace the file: written aside, on disk, then renamed. mkstemp makes it readable by its owner alone."""
        folder = self._path.parent
        with self._translated():
            handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(msgspec.json.encode(contents))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self._path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
                raise
            directory = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._translated():
            handle = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SecretStoreUnavailableError(
                f"{self._path} (BIZOS_SECRET_STORE_PATH) cannot be used: {error.strerror}"
            ) from error


def _place(path: str, version: int) -> str:
    return f"{path}@{version}"
