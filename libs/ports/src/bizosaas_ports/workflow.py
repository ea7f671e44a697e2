"""WorkflowPort: long and human work that must survive restarts."""

from typing import Any, Protocol


class WorkflowUnavailableError(Exception):
    """The workflow engine is away; nothing was started or signalled."""


class WorkflowPort(Protocol):
    """Starts and signals workflows. Every call is idempotent by its ids; raises WorkflowUnavailableError."""

    async def start(self, workflow_id: str, name: str, input: dict[str, Any]) -> None:
        """Start a workflow; one that was started under this id before, running or ended, is left alone."""

    async def decide(self, workflow_id: str, approval_id: str, verdict: str) -> None:
        """Tell a waiting workflow a person's verdict; one that has ended is left alone."""
