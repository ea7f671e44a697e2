"""Secrets in Vault, or OpenBao: a KV engine of version 2 with check-and-set, signed in to with an AppRole."""

import asyncio
import base64
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import hvac
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, VaultError
from requests.exceptions import RequestException

from bizosaas_ports.secret import SecretMissingError, SecretStoreUnavailableError

TIMEOUT_SECONDS = 5.0
RENEW_AFTER = 2 / 3
"""Of a token's time: then it is renewed, or signed in for anew where it cannot be."""

T = TypeVar("T")


class VaultAdapter:
    """See `SecretPort`. hvac blocks, so every call is made in a thread.

    `wrapped_secret_id` is a wrapping token: it is unwrapped once, and what
    was in it lives in this process's memory only.
    """

    def __init__(
        self, url: str, *, role_id: str, secret_id: str = "", wrapped_secret_id: str = "", mount: str = "secret",
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:  # fmt: skip
        self._url = url
        self._role_id = role_id
        self._secret_id = secret_id
        self._wrapped = wrapped_secret_id
        self._mount = mount
        self._timeout = timeout
        self._client = hvac.Client(url, timeout=timeout)
        # hvac takes a token from VAULT_TOKEN or ~/.vault-token by itself; ours comes from the AppRole alone.
        self._client.token = None
        self._signing_in = threading.Lock()
        self._renew_at = self._ends_at = 0.0
        self.trouble = ""
        """What went wrong with the last call, in one sentence; empty: nothing."""

    async def open(self) -> None:
        """Sign in. Raises SecretStoreUnavailableError; every later call tries again."""
        await asyncio.to_thread(self._call, lambda: None)

    async def close(self) -> None:
        await asyncio.to_thread(self._client.adapter.close)

    async def put(self, path: str, value: bytes, *, expected: int) -> int:
        return await asyncio.to_thread(self._put, path, value, expected)

    async def get(self, path: str, version: int | None = None) -> tuple[bytes, int]:
        return await asyncio.to_thread(self._get, path, version)

    async def destroy(self, path: str, versions: list[int]) -> None:
        await asyncio.to_thread(self._destroy, path, versions)

    async def check(self) -> str:
        """For readiness: what keeps us from the secrets, in one sentence; empty: nothing."""
        try:
            if await asyncio.to_thread(self._client.sys.is_sealed):
                return "Vault is sealed"
        except (VaultError, RequestException) as error:
            return f"Vault is away: {type(error).__name__}"
        if self.trouble:
            try:
                await self.open()
            except SecretStoreUnavailableError as error:
                return str(error)
        return ""

    @property
    def _kv(self) -> Any:
        return self._client.secrets.kv.v2

    def _put(self, path: str, value: bytes, expected: int) -> int:
        secret = {"value": base64.b64encode(value).decode()}
        try:
            answer = self._call(
                lambda: self._kv.create_or_update_secret(path, secret, cas=expected, mount_point=self._mount)
            )
            return int(answer["data"]["version"])
        except InvalidRequest as error:
            # Check-and-set refused: fine when an earlier try of this very call is what stands there.
            version = expected + 1
            try:
                there, _ = self._get(path, version)
            except SecretMissingError:
                there = None
            if there != value:
                raise ValueError(f"{path} is not at version {expected}") from error
            return version

    def _get(self, path: str, version: int | None) -> tuple[bytes, int]:
        try:
            answer = self._call(
                lambda: self._kv.read_secret_version(
                    path, version=version, mount_point=self._mount, raise_on_deleted_version=True
                )
            )
        except InvalidPath as error:
            raise SecretMissingError(path) from error
        data = answer["data"]
        return base64.b64decode(data["data"]["value"]), int(data["metadata"]["version"])

    def _destroy(self, path: str, versions: list[int]) -> None:
        try:
            self._call(lambda: self._kv.destroy_secret_versions(path, versions, mount_point=self._mount))
        except InvalidPath:
            return

    def _call(self, request: Callable[[], T]) -> T:
        """Make a request with a good token. Raises InvalidRequest and InvalidPath as Vault says, else Unavailable."""
        try:
            self._keep_signed_in()
            token = self._client.token
            try:
                result = request()
            except Forbidden:
                # The token ended before its time, with a restart or by revocation; or the policy is wrong.
                self._sign_in(instead_of=token)
                result = request()
        except InvalidPath as error:
            if error.errors:  # a path that merely has no secret is answered without a word
                self.trouble = f"Vault has no KV mount {self._mount!r}: check BIZOS_VAULT_MOUNT"
                raise SecretStoreUnavailableError(self.trouble) from error
            self.trouble = ""
            raise
        except InvalidRequest:
            self.trouble = ""
            raise
        except Forbidden as error:
            self.trouble = f"Vault does not allow our role to use the mount {self._mount!r}: check its policy"
            raise SecretStoreUnavailableError(self.trouble) from error
        except (VaultError, RequestException) as error:
            self.trouble = f"Vault is sealed or away: {type(error).__name__}"
            raise SecretStoreUnavailableError(self.trouble) from error
        except SecretStoreUnavailableError as error:
            self.trouble = str(error)
            raise
        self.trouble = ""
        return result

    def _keep_signed_in(self) -> None:
        now = time.monotonic()
        token = self._client.token
        if token is None or now >= self._ends_at:
            self._sign_in(instead_of=token)
        elif now >= self._renew_at:
            self._renew(token)

    def _renew(self, token: str) -> None:
        with self._signing_in:
            if self._client.token != token or time.monotonic() < self._renew_at:
                return
            whole = self._ends_at - self._renew_at
            try:
                lease = self._client.auth.token.renew_self()["auth"]["lease_duration"]
            except VaultError:  # past its maximum a renewal is answered with a 500
                lease = 0
            # A token near its maximum gets less and less: better to sign in while the old one still works.
            if lease * (1 - RENEW_AFTER) >= whole / 2:
                self._note_lease(lease)
                return
        self._sign_in(instead_of=token)

    def _sign_in(self, instead_of: str | None) -> None:
        """Get a new token, unless another thread has done so in the meantime."""
        with self._signing_in:
            if self._client.token != instead_of and self._client.token is not None:
                return
            secret_id = self._unwrapped()
            try:
                answer = self._client.auth.approle.login(self._role_id, secret_id)
            except (InvalidRequest, Forbidden) as error:
                raise SecretStoreUnavailableError(
                    "Vault refuses our AppRole: check BIZOS_VAULT_ROLE_ID and BIZOS_VAULT_SECRET_ID"
                ) from error
            self._note_lease(answer["auth"]["lease_duration"])

    def _note_lease(self, seconds: int) -> None:
        now = time.monotonic()
        self._ends_at = now + (seconds or float("inf"))
        self._renew_at = now + (seconds * RENEW_AFTER or float("inf"))

    def _unwrapped(self) -> str:
        if not self._secret_id and self._wrapped:
            wrapping = hvac.Client(self._url, token=self._wrapped, timeout=self._timeout)
            try:
                self._secret_id = wrapping.sys.unwrap()["data"]["secret_id"]
            except (InvalidRequest, Forbidden) as error:
                raise SecretStoreUnavailableError(
                    "the wrapped secret id has been unwrapped before, or its time is over: if it was not this service, "
                    "somebody else has it; destroy it and put a new one into BIZOS_VAULT_WRAPPED_SECRET_ID"
                ) from error
            finally:
                wrapping.adapter.close()
        return self._secret_id
