"""WorkflowPort: long and human work that must survive restarts."""

from typing import Any, Literal, Protocol

import msgspec


class WorkflowUnavailableError(Exception):
    """The workflow engine is away; trying again under the same ids is right, whatever happened."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf a workflow runs, and because of what: everything it does later is done for them."""

    tenant: str
    actor: str
    correlation_id: str
    causation_id: str
    traceparent: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a waiting workflow is told when a person has decided."""

    approval_id: str
    verdict: Literal["approved", "rejected"]


class WorkflowPort(Protocol):
    """Starts and signals workflows. Every call is idempotent by its ids; raises WorkflowUnavailableError."""

    async def start(self, workflow_id: str, name: str, input: dict[str, Any], origin: Origin) -> None:
        """Start a workflow; one that was started under this id before, running or ended, is left alone.

        Accepted, it survives every restart, and waits for a worker that knows `name` when there is none.
        """

    async def decide(self, workflow_id: str, verdict: Verdict) -> None:
        """Tell a waiting workflow a person's verdict, which may come more than once.

        One that has ended, or that nobody started, is left alone.
        """
