"""The workflow port in memory passes the port's suite."""

from typing import Any

import pytest

from bizosaas_ports.memory import MemoryWorkflows
from bizosaas_ports.testing.workflow import WorkflowSuite
from bizosaas_ports.workflow import Origin, Verdict


class MemoryEngine:
    """See `WorkflowEngine`."""

    def __init__(self) -> None:
        self.port = MemoryWorkflows()
        self.waiting = "waiting"
        self._ids = 0

    def new_id(self) -> str:
        self._ids += 1
        return f"workflow-{self._ids}"

    async def starts(self, workflow_id: str) -> int:
        return self.port.starts.count(workflow_id)

    async def given(self, workflow_id: str) -> tuple[dict[str, Any], Origin]:
        return self.port.started[workflow_id][1:]

    async def told(self, workflow_id: str) -> list[Verdict]:
        return self.port.told[workflow_id]

    async def end(self, workflow_id: str) -> None:
        self.port.end(workflow_id)

    async def stop(self) -> None:
        self.port.away = True

    async def resume(self) -> None:
        self.port.away = False


class TestMemoryWorkflows(WorkflowSuite):
    @pytest.fixture
    def engine(self) -> MemoryEngine:
        return MemoryEngine()
