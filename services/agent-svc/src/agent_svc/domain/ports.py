"""What agent-svc alone needs from outside."""

from typing import Any, Literal, Protocol

import msgspec

from bizosaas_events import Context
from bizosaas_ports.agent import AgentOutcome

from .gate import Connection, Grant


class Connections(Protocol):
    """The read model of connections."""

    async def of(self, tenant: str) -> list[Connection]:
        """All connections of a tenant that were not closed."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded step of a run: what was asked, as a digest, and what came back."""

    n: int
    kind: Literal["model", "tool"]
    name: str
    """The model, or the operation."""
    digest: str
    payload: bytes
    """JSON; of a tool call empty after the run has ended, because it is an external system's data."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a run delivered."""

    output: msgspec.Raw
    output_type: str
    steps: int
    tokens_in: int
    tokens_out: int


class Ledger(Protocol):
    """The steps of open runs and the outputs of finished ones.

    A step is recorded once: whoever records it again gets the first one, so
    two processes that work on one run agree.
    """

    async def steps(self, run_id: str) -> list[Step]:
        """The recorded steps in order."""

    async def record(self, run_id: str, step: Step) -> Step:
        """Record a step and return the one that is kept."""

    async def keep_output(self, run_id: str, output: Kept) -> Kept:
        """Keep a run's typed output and return the one that is kept: the first."""

    async def output(self, run_id: str) -> Kept | None:
        """The typed output, None when there is none."""

    async def scrub(self, run_id: str) -> None:
        """Forget what the tools gave: digests stay. A repeat is harmless."""

    async def scrub_abandoned(self, hours: int) -> int:
        """Scrub runs whose last step is older, and say how many steps that were."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine delivers: the output, and what the tools really gave."""

    outcome: AgentOutcome
    results: list[tuple[str, dict[str, Any]]]


class Engine(Protocol):
    """Works on one run, step by step from the ledger where it was begun before."""

    model: str
    simulated: bool

    async def work(self, grant: Grant, brief: dict[str, Any], context: Context) -> Finished:
        """Work until the output is there. Raises AgentFailedError; whatever else rises leaves the run open."""
