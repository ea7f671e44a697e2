"""A command bus in memory: a command is handled at once, in this process."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..codec import Codec
from ..envelope import Command, Context, Envelope, Reply, Result
from .base import command_envelope, decode_result

R = TypeVar("R", bound=Result)

Answerer = Callable[[Envelope, Command], Awaitable[Reply]]


class MemoryCommandBus:
    """See `CommandBus`. `serve` says who answers for a service; `sent` keeps every command, for assertions."""

    def __init__(self, codec: Codec, *, source: str = "test") -> None:
        self.codec = codec
        self.source = source
        self.sent: list[tuple[Command, Context]] = []
        self._services: dict[str, Answerer] = {}

    def serve(self, service: str, answerer: Answerer) -> None:
        """Let `answerer` handle the commands of a service."""
        self._services[service] = answerer

    async def send(self, command: Command, context: Context, *, id: str, timeout: float = 0) -> str:
        await self.ask(command, context, id=id, timeout=timeout)
        return f"{len(self.sent)}-0"

    async def ask(self, command: Command, context: Context, *, id: str, timeout: float) -> Reply:
        self.sent.append((command, context))
        envelope = command_envelope(command, context, self.codec, id=id, source=self.source)
        answerer = self._services.get(command.service)
        return await answerer(envelope, command) if answerer else Reply(command_id=id)

    async def call(self, command: Command, returns: type[R], context: Context, *, id: str, timeout: float) -> R:
        return decode_result(await self.ask(command, context, id=id, timeout=timeout), returns)
