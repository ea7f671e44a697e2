"""The port of a command bus, the names of its streams, and how a handled command becomes a reply."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, get_type_hints

import msgspec

from ..codec import Codec, type_of
from ..envelope import Command, Context, Envelope, Problem, Reply, Result
from ..errors import AlreadyHandledError, DomainError, Kind, RefusedError, UnavailableError, problem_of

R = TypeVar("R", bound=Result)


class Names(NamedTuple):
    """The keys of one deployment in Redis. What must be changed together shares a hash tag, for Redis Cluster."""

    env: str

    def partition(self, category: str, part: int) -> str:
        """The stream of one partition of an event log; a consumer of several logs reads the same part of all at once."""
        return f"{{{self.env}:{part:02}}}:{category}"

    def checkpoints(self, category: str) -> str:
        """How far each consumer of an event log has come: a hash of `<consumer>|<part>` to position."""
        return f"{self.env}:checkpoints:{category}"

    def behind(self, category: str, part: int) -> str:
        """Who needs what the partition's stream no longer has: a hash of consumer to position, beside the stream."""
        return f"{self.partition(category, part)}:behind"

    def again(self, category: str, part: int, consumer: str) -> str:
        """The catch-up stream of one consumer of a partition, while it is behind."""
        return f"{self.partition(category, part)}:again:{consumer}"

    def commands(self, service: str) -> str:
        """The stream of commands for one service."""
        return f"{{{self.env}:cmd:{service}}}"

    def queue(self, name: str) -> str:
        """The stream of a work queue, for `QueueConsumer`."""
        return f"{{{self.env}:queue:{name}}}"

    def replies(self, instance: str) -> str:
        """The stream of answers to one waiting process."""
        return f"{self.env}:reply:{instance}"

    def sender(self, command_id: str) -> str:
        """Who sent one command and how it ended, kept where the bus is told to remember."""
        return f"{self.env}:sender:{command_id}"

    def outcome(self, command_id: str) -> str:
        """The answer to one command, kept for `OUTCOME_SECONDS`."""
        return f"{self.env}:outcome:{command_id}"


OUTCOME_SECONDS = 60
NO_RESULT = msgspec.Raw(b"null")


class Answer(NamedTuple):
    """What a handler says: the last event it recorded, and a result where there is one."""

    recorded: Envelope | None = None
    result: Result | None = None


Handler = Callable[[Any, Envelope], Awaitable[Answer]]
"""One function per command: takes the command and its envelope, raises a DomainError to refuse."""


class CommandBus(Protocol):
    """Sends commands to services. A sent command is handled at least once, and has its effect once."""

    async def send(self, command: Command, context: Context, *, id: str, timeout: float = 0) -> str:
        """Hand over a command under the id that makes a repeat of it harmless; returns its place in the stream.

        `timeout`: how long an answer is of use to anybody, in seconds. Raises
        UnavailableError when it could not be handed over: then it will not happen,
        unless the connection broke while we waited; sending again under the same id is right in both cases.
        """

    async def ask(self, command: Command, context: Context, *, id: str, timeout: float) -> Reply:
        """Send and wait for the answer. Raises ReplyTimeoutError after `timeout` seconds; the command goes on."""

    async def call(self, command: Command, returns: type[R], context: Context, *, id: str, timeout: float) -> R:
        """Ask and return the result. Raises RefusedError with the service's own refusal."""


def bind(*functions: Callable[..., Awaitable[Answer]], **dependencies: object) -> dict[type[Command], Handler]:
    """The table of a service's command handlers, each with what it needs.

    A handler is `async def verb(command: SomeCommand, envelope: Envelope, *, store: EventStore, ...)`: its first
    annotation says which command it takes, its keyword-only parameters are filled by name. Raises TypeError,
    naming handler and parameter, when something is missing, and when two handlers take one command.
    """
    table: dict[type[Command], Handler] = {}
    for function in functions:
        parameters = inspect.signature(function).parameters
        command = get_type_hints(function)[next(iter(parameters))]
        wanted = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
        missing = [name for name in wanted if name not in dependencies]
        if missing:
            raise TypeError(f"{function.__name__} needs {', '.join(missing)}, which nobody provides")
        if command in table:
            raise TypeError(f"two handlers take {command.__name__}")
        table[command] = functools.partial(function, **{name: dependencies[name] for name in wanted})
    return table


async def answer(
    envelope: Envelope,
    command: Command,
    handlers: Mapping[type[Command], Handler],
    *,
    category: str,
    allows: Callable[[str, str | None], bool],
    handled: Callable[[str], Awaitable[Envelope | None]],
) -> Reply:
    """Let the right handler handle a command and turn what comes of it into a reply.

    A refusal is a reply, not an error. A command that was handled before is
    answered with what it recorded then. Anything else a handler raises rises.
    """
    try:
        if not allows(envelope.actorrole, command.permission):
            problem = Problem(
                kind=Kind.FORBIDDEN, slug="permission-missing",
                detail=f"The role {envelope.actorrole} lacks the permission {command.permission}.",
                remedy="Ask an administrator of your tenant.",
            )  # fmt: skip
            return Reply(command_id=envelope.id, problem=problem)
        handler = handlers.get(type(command))
        if handler is None:
            problem = Problem(
                kind=Kind.INVALID, slug="unknown-command", detail=f"{envelope.type} is not a command of this service."
            )
            return Reply(command_id=envelope.id, problem=problem)
        said = await handler(command, envelope)
    except AlreadyHandledError:
        said = Answer(await handled(envelope.id))
    except DomainError as error:
        return Reply(command_id=envelope.id, problem=problem_of(error))
    return reply_of(envelope.id, said, category)


def reply_of(command_id: str, said: Answer, category: str) -> Reply:
    """An answer as it goes over the wire."""
    recorded = said.recorded
    result = msgspec.Raw(msgspec.json.encode(said.result)) if said.result is not None else NO_RESULT
    if recorded is None:
        return Reply(command_id=command_id, result=result)
    return Reply(
        command_id=command_id, subject=recorded.subject, version=recorded.streamversion,
        position=f"{category}/{recorded.partition}@{recorded.sequence}", result=result,
    )  # fmt: skip


def command_envelope(
    command: Command, context: Context, codec: Codec, *, id: str, source: str, replyto: str = ""
) -> Envelope:
    """A command ready to travel."""
    return Envelope(
        id=id, source=source, type=type_of(command), subject=command.service, time=context.time,
        tenantid=context.tenant, actorid=context.actor, actorrole=context.role,
        correlationid=context.correlation_id, causationid=context.causation_id, traceparent=context.traceparent,
        replyto=replyto, data=codec.encode(command),
    )  # fmt: skip


def decode_result(reply: Reply, returns: type[R]) -> R:
    """The typed result of a reply; raises RefusedError when it is a refusal.

    A command that was handled before is answered without its result, which is
    never stored: UnavailableError says that.
    """
    if reply.problem is not None:
        raise RefusedError(reply.problem)
    if reply.result == NO_RESULT:
        raise UnavailableError(
            "The command was handled before, and its result is not kept.", remedy="Ask anew under a new id."
        )
    return msgspec.json.decode(reply.result, type=returns)
