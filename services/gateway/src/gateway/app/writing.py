"""Sending commands: accepted at once, or answered while the caller waits; repeated safely under a key."""

import re
from typing import Any

import msgspec

from bizosaas_events import Command, Problem, Reply, ReplyTimeoutError, new_id
from bizosaas_events.errors import RefusedError

from ..adapters import idempotency
from .answers import Answer, encoded
from .call import ApiRequest, Call
from .errors import InvalidParameterError, KeyReusedError

LONGEST_WAIT = 30
QUERY_SECONDS = 10.0

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?(?:$|[,;\s])", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Accepted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The command is on its way. `outcome` is where to ask what became of it; `id` is the new object's, if there is one."""

    command_id: str
    status: str
    outcome: str
    id: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a command. `position`, sent as Read-After, makes a read wait until it shows this."""

    command_id: str
    status: str
    """`done`, `refused` or `pending`."""
    id: str = ""
    version: int = 0
    position: str = ""
    result: Any = None
    problem: Any = None


class Written:
    """A command about to be sent: its id, and the ids of what it makes, the same ones for a repeat under the same key."""

    __slots__ = ("call", "id", "key", "tenant")

    def __init__(self, call: Call, tenant: str = "") -> None:
        self.call = call
        self.tenant = tenant or call.tenant
        self.key = call.header(b"idempotency-key")
        if self.key and not _KEY.fullmatch(self.key):
            raise InvalidParameterError(
                "An Idempotency-Key is 1 to 255 visible ASCII characters.", field="Idempotency-Key",
                remedy="Use a UUID.",
            )  # fmt: skip
        self.id = idempotency.command_id(self.tenant, call.member.member_id, self.key) if self.key else new_id()

    def new(self, kind: str) -> str:
        """The id of a new object."""
        return idempotency.object_id(self.id, kind) if self.key else new_id()


async def write(
    request: ApiRequest, written: Written, command: Command, *, made: str = "", id: str = "", tenant: str = "",
    flat: bool = False,
) -> Answer:  # fmt: skip
    """Send a command and answer as `Prefer` says. `made`: the path of the object that it makes, whose id is `id`.

    `flat` puts the fields of the result beside those of the outcome.
    """
    call = written.call
    wait = preferred_wait(call)
    if written.key:
        asked = b" ".join((request.method.encode(), request.scope["path"].encode(), await request.body()))
        if not await call.gateway.idempotency.claim(written.id, written.key, asked):
            raise KeyReusedError
    context = call.context(written.id, tenant or written.tenant)
    if not wait:
        await call.gateway.bus.send(command, context, id=written.id)
        return accepted(written.id, id)
    reply = await call.gateway.bus.outcome(written.id) if written.key else None
    if reply is None:
        try:
            reply = await call.gateway.bus.ask(command, context, id=written.id, timeout=wait)
        except ReplyTimeoutError:
            return accepted(written.id, id)
    return done(reply, wait, made=made, id=id, flat=flat)


def accepted(command_id: str, id: str) -> Answer:
    """202: it is handed over and will be handled."""
    where = f"/v1/commands/{command_id}"
    body = msgspec.json.encode(Accepted(command_id=command_id, status="accepted", outcome=where, id=id))
    return Answer(202, body, [(b"location", where.encode())])


def done(reply: Reply, wait: int, *, made: str, id: str, flat: bool = False) -> Answer:
    """201 or 200 with what the service said. Raises RefusedError for a refusal."""
    if reply.problem is not None:
        raise RefusedError(_in_http(reply.problem))
    outcome = Outcome(
        command_id=reply.command_id, status="done", id=id or reply.subject.partition("-")[2], version=reply.version,
        position=reply.position, result=reply.result,
    )  # fmt: skip
    headers = {"Preference-Applied": f"wait={wait}"}
    if reply.position:
        headers["Position"] = reply.position
    if made:
        headers["Location"] = made
    more = msgspec.json.decode(reply.result) if flat else None
    return Answer(201 if made else 200, encode_outcome(outcome, more), encoded(headers))


def _in_http(problem: Problem) -> Problem:
    """A service knows of an expected version; whoever asks here has sent it as If-Match."""
    if problem.field != "expected_version":
        return problem
    remedy = "Read it again, decide anew, and send its new ETag."
    return msgspec.structs.replace(problem, field="If-Match", remedy=remedy)


def encode_outcome(outcome: Outcome, more: dict[str, Any] | None = None) -> bytes:
    """An outcome as JSON, without a result that is none."""
    said = {name: value for name, value in msgspec.structs.asdict(outcome).items() if value}
    if isinstance(outcome.result, msgspec.Raw) and bytes(outcome.result) == b"null":
        del said["result"]
    document = (more or {}) | said
    document.pop("type", None)
    return msgspec.json.encode(document)


async def ask(call: Call, command: Command, *, seconds: float = QUERY_SECONDS, about_people: bool = False) -> Answer:
    """A question to a service: its result, as it said it, or with the names and addresses of people opened.

    Raises RefusedError, ReplyTimeoutError, UnavailableError.
    """
    id = new_id()
    seconds = preferred_wait(call) or seconds
    reply = await call.gateway.bus.ask(command, call.context(id), id=id, timeout=seconds)
    if reply.problem is not None:
        raise RefusedError(reply.problem)
    said = bytes(reply.result)
    if about_people:
        said = (await call.gateway.persons.opened(said.decode(), call.tenant)).encode()
    return Answer(200, said)


def preferred_wait(call: Call) -> int:
    """The seconds of `Prefer: wait=N` (RFC 7240), at most 30; 0: the caller does not want to wait."""
    prefer = call.headers.get(b"prefer")
    if prefer is None:
        return 0
    found = _WAIT.search(prefer.decode("latin-1"))
    return min(int(found[1]), LONGEST_WAIT) if found else 0
