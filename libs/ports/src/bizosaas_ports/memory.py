"""The ports in memory: for tests of handlers, and good enough to try the platform out; each passes its port's suite."""

from typing import Any

from .secret import SecretMissingError, SecretStoreUnavailableError
from .workflow import Origin, Verdict, WorkflowUnavailableError


class MemoryWorkflows:
    """See `WorkflowPort`: remembers what was started and told, and runs nothing.

    `away = True` is an outage; `end` is a workflow that came to its end.
    """

    def __init__(self) -> None:
        self.away = False
        self.started: dict[str, tuple[str, dict[str, Any], Origin]] = {}
        self.starts: list[str] = []
        self.told: dict[str, list[Verdict]] = {}
        self.ended: set[str] = set()

    async def start(self, workflow_id: str, name: str, input: dict[str, Any], origin: Origin) -> None:
        self._reach()
        if workflow_id not in self.started:
            self.starts.append(workflow_id)
            self.started[workflow_id] = (name, input, origin)

    async def decide(self, workflow_id: str, verdict: Verdict) -> None:
        self._reach()
        if workflow_id in self.started and workflow_id not in self.ended:
            self.told.setdefault(workflow_id, []).append(verdict)

    def end(self, workflow_id: str) -> None:
        self.ended.add(workflow_id)

    def _reach(self) -> None:
        if self.away:
            raise WorkflowUnavailableError("the workflow engine is away")


class MemorySecrets:
    """See `SecretPort`. `away = True` is an outage."""

    def __init__(self) -> None:
        self.away = False
        self._values: dict[str, dict[int, bytes]] = {}
        self._newest: dict[str, int] = {}

    async def put(self, path: str, value: bytes, *, expected: int) -> int:
        self._reach()
        version, values = expected + 1, self._values.setdefault(path, {})
        if self._newest.get(path, 0) == expected:
            values[version] = value
            self._newest[path] = version
        elif values.get(version) != value:
            raise ValueError(f"{path} is not at version {expected}")
        return version

    async def get(self, path: str, version: int | None = None) -> tuple[bytes, int]:
        self._reach()
        wanted = self._newest.get(path, 0) if version is None else version
        value = self._values.get(path, {}).get(wanted)
        if value is None:
            raise SecretMissingError(path)
        return value, wanted

    async def destroy(self, path: str, versions: list[int]) -> None:
        self._reach()
        for version in versions:
            self._values.get(path, {}).pop(version, None)

    def _reach(self) -> None:
        if self.away:
            raise SecretStoreUnavailableError("the secret store is away")
