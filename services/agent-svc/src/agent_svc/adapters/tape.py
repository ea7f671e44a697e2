"""A run's recorded steps, played back as far as they go and recorded from there: what makes a killed run resume."""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import msgspec
import structlog

from bizosaas_ports.agent import AgentFailedError
from bizosaas_ports.model import ChatMessage, Completion, ModelPort, ModelUnavailableError, ToolOffer

from ..domain.ports import Ledger, Step

MODEL_TRIES = 4

_log = structlog.get_logger(__name__)
_decode_completion = msgspec.json.Decoder(Completion).decode


class Tape:
    """The steps of one run in this process, one after another.

    A step that is on the tape is not taken again. When what is asked differs
    from what was asked then (another version of the prompts, say), the run
    fails rather than repeating an effect.
    """

    def __init__(self, ledger: Ledger, run_id: str, recorded: Sequence[Step]) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._recorded = recorded
        self._lock = asyncio.Lock()
        self.steps: list[Step] = []

    @classmethod
    async def open(cls, ledger: Ledger, run_id: str) -> "Tape":
        return cls(ledger, run_id, await ledger.steps(run_id))

    async def step(
        self, kind: Literal["model", "tool"], name: str, digest: str, take: Callable[[int], Awaitable[bytes]]
    ) -> tuple[bytes, int]:
        """The payload of the next step and its number, from the tape or taken now. Raises AgentFailedError."""
        async with self._lock:
            n = len(self.steps)
            if n < len(self._recorded):
                kept = self._recorded[n]
            else:
                payload = await take(n)
                kept = await self._ledger.record(
                    self._run_id, Step(n=n, kind=kind, name=name, digest=digest, payload=payload)
                )
            if (kept.kind, kept.digest) != (kind, digest):
                raise AgentFailedError("diverged", f"step {n} is not the one that was recorded before the interruption")
            self.steps.append(kept)
            return kept.payload, n


class TapedModel:
    """See `ModelPort`: a model whose answers go onto the tape. The only place that tries again when a provider is away."""

    def __init__(self, model: ModelPort, tape: Tape) -> None:
        self.name = model.name
        self.simulated = model.simulated
        self._model = model
        self._tape = tape

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolOffer], output_schema: dict[str, Any]
    ) -> Completion:
        digest = hashlib.sha256(
            msgspec.json.encode([self.name, messages, [tool.name for tool in tools], output_schema], order="sorted")
        ).hexdigest()

        async def take(_: int) -> bytes:
            return msgspec.json.encode(await self._ask(messages, tools, output_schema))

        payload, _ = await self._tape.step("model", self.name, digest, take)
        return _decode_completion(payload)

    async def _ask(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolOffer], output_schema: dict[str, Any]
    ) -> Completion:
        for attempt in range(1, MODEL_TRIES + 1):
            try:
                return await self._model.complete(messages, tools=tools, output_schema=output_schema)
            except ModelUnavailableError as error:
                if attempt == MODEL_TRIES:
                    raise AgentFailedError("model-unavailable", f"the model {self.name} is away") from error
                pause = error.retry_after if error.retry_after is not None else random.uniform(0.5, 1) * 2**attempt  # noqa: S311  # jitter, no secret
                _log.warning("the model is away, trying again", model=self.name, seconds=round(pause, 1))
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")
