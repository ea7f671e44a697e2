"""A workflow's run, from the wish to its outcome. What happens in between is Temporal's."""

import re
from typing import Any, assert_never

import msgspec

from bizosaas_events import Decider, StreamNotFoundError
from bizosaas_events.messages.workflow import (
    FinishWorkflow,
    StartWorkflow,
    WorkflowEvent,
    WorkflowFinished,
    WorkflowStarted,
)

from .errors import InputInvalidError, WorkflowIdInvalidError, WorkflowIdTakenError

LONGEST_ID = 200

RunCommand = StartWorkflow | FinishWorkflow


class State(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    """Empty: nobody has asked for it."""
    input: dict[str, Any] = {}
    finished: bool = False

    @property
    def running(self) -> bool:
        return bool(self.name) and not self.finished


def decide(command: RunCommand, state: State) -> list[WorkflowEvent]:
    match command:
        case StartWorkflow():
            return _start(command, state)
        case FinishWorkflow():
            if not state.name:
                raise StreamNotFoundError(RUN.stream(command.workflow_id))
            if state.finished:
                return []
            return [WorkflowFinished(workflow_id=command.workflow_id, outcome=command.outcome, detail=command.detail)]
        case _:
            assert_never(command)


def _start(command: StartWorkflow, state: State) -> list[WorkflowEvent]:
    if not 0 < len(command.workflow_id) <= LONGEST_ID:
        raise WorkflowIdInvalidError(LONGEST_ID)
    if not state.name:
        return [WorkflowStarted(workflow_id=command.workflow_id, name=command.name, input=command.input)]
    if (command.name, command.input) != (state.name, state.input):
        raise WorkflowIdTakenError(command.workflow_id, state.name)
    return []


def evolve(state: State, event: WorkflowEvent) -> State:
    match event:
        case WorkflowStarted():
            return State(name=event.name, input=event.input)
        case WorkflowFinished():
            return msgspec.structs.replace(state, finished=True)
        case _:
            assert_never(event)


RUN: Decider[RunCommand, State, WorkflowEvent] = Decider(
    category="workflow", initial=State, decide=decide, evolve=evolve
)


def fitted(command: StartWorkflow, input: type[msgspec.Struct]) -> StartWorkflow:
    """The command with the whole input of its workflow: checked, and with the defaults written out.

    A run keeps the defaults of the day it was started. Raises
    InputInvalidError with the path of what does not fit.
    """
    try:
        given = msgspec.convert(command.input, input)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at ")
        inside = path.strip("`").removeprefix("$").strip(".")
        # A missing or an unknown field is named in the message itself, its parent in the path.
        named = re.search(r"field `(\w+)`", reason)
        field = ".".join(part for part in ("input", inside, named[1] if named else "") if part)
        raise InputInvalidError(field, reason[:1].lower() + reason[1:], command.name) from error
    return msgspec.structs.replace(command, input=msgspec.to_builtins(given))
