"""What became of a command."""

from uuid import UUID

from litestar import Controller, get
from litestar.params import FromPath

from bizosaas_events import Reply, StreamNotFoundError
from bizosaas_ports.access import Feature, allows
from bizosaas_runtime import problems

from ...adapters.views import ALL_TENANTS
from ..answers import Answer
from ..auth import needs
from ..call import ApiRequest, Call
from ..writing import Outcome, encode_outcome


class Commands(Controller):
    path = "/v1/commands"
    tags = ("Commands",)

    @get("/{command_id:str}", opt=needs(None, answers=Outcome))
    async def show_command(self, request: ApiRequest, command_id: FromPath[str]) -> Answer:
        """Whether a command is done, refused or pending. Who sent it can read its result here for a minute."""
        return Answer(200, encode_outcome(await outcome_of(request.call, command_id)))


async def outcome_of(call: Call, command_id: str) -> Outcome:
    """From the answer while Redis has it, after that from what is known of its end and of the events it caused.

    A command's id stands in the events that everybody of the tenant follows, and
    what it brought may be for another role: only who sent it is told more than how it ended.
    Raises StreamNotFoundError.
    """
    try:
        command_id = str(UUID(command_id))
    except ValueError as error:
        raise StreamNotFoundError(f"command-{command_id[:100]}") from error
    bus = call.gateway.bus
    sender = await bus.sender(command_id)
    manages = allows(call.member.role, Feature.TENANT_MANAGEMENT)
    mine = sender is not None and sender.actor == f"member:{call.member.member_id}"
    ours = mine or (sender is not None and (manages or sender.tenant == call.tenant))
    if ours and (reply := await bus.outcome(command_id)) is not None:
        return answered(reply, whole=mine)
    if ours and sender is not None and sender.ended != "done":  # it may have recorded something on its way
        return Outcome(command_id=command_id, status=sender.ended)
    caused = await call.gateway.views.caused(ALL_TENANTS if ours or manages else call.tenant, command_id)
    if caused is not None:
        return Outcome(
            command_id=command_id, status="done", id=caused.subject.partition("-")[2], version=caused.version,
            position=caused.position,
        )  # fmt: skip
    if not ours:
        raise StreamNotFoundError(f"command-{command_id}")
    return Outcome(command_id=command_id, status="done")


def answered(reply: Reply, *, whole: bool) -> Outcome:
    """A reply as an outcome, with what it says if it is to be `whole`."""
    if reply.problem is not None:
        problem = problems.document(reply.problem) if whole else None
        return Outcome(command_id=reply.command_id, status="refused", problem=problem)
    return Outcome(
        command_id=reply.command_id, status="done", id=reply.subject.partition("-")[2], version=reply.version,
        position=reply.position, result=reply.result if whole else None,
    )  # fmt: skip
