"""What a run decides."""

import pytest

from bizosaas_events import StreamNotFoundError, fold
from bizosaas_events.messages.workflow import (
    FinishWorkflow,
    StartWorkflow,
    WorkflowEvent,
    WorkflowFinished,
    WorkflowStarted,
)
from workflow_svc.domain.errors import InputInvalidError, WorkflowIdInvalidError, WorkflowIdTakenError
from workflow_svc.domain.run import RUN, RunCommand, fitted
from workflow_svc.testing import a_start
from workflow_svc.workflows.content_approval import ContentApprovalInput

START = a_start()
STARTED = WorkflowStarted(workflow_id="w1", name=START.name, input=START.input)
FINISH = FinishWorkflow(workflow_id="w1", outcome="completed", detail="Done.")
FINISHED = WorkflowFinished(workflow_id="w1", outcome="completed", detail="Done.")


def after(*given: WorkflowEvent, when: RunCommand) -> list[WorkflowEvent]:
    return list(RUN.decide(when, fold(RUN, given)))


def test_a_workflow_starts() -> None:
    assert after(when=START) == [STARTED]


def test_the_same_start_again_starts_nothing() -> None:
    assert after(STARTED, when=START) == []


def test_an_id_that_is_taken_by_something_else_is_refused() -> None:
    with pytest.raises(WorkflowIdTakenError) as refused:
        after(STARTED, when=a_start(content_id="18"))
    assert refused.value.field == "workflow_id"


@pytest.mark.parametrize("id", ["", "w" * 201])
def test_an_id_that_temporal_could_not_take_is_refused(id: str) -> None:
    with pytest.raises(WorkflowIdInvalidError):
        after(when=a_start(workflow_id=id))


def test_a_workflow_finishes_and_its_first_outcome_stands() -> None:
    assert after(STARTED, when=FINISH) == [FINISHED]
    late = FinishWorkflow(workflow_id="w1", outcome="failed", detail="Too late.")
    assert after(STARTED, FINISHED, when=late) == []


def test_a_workflow_that_nobody_started_cannot_finish() -> None:
    with pytest.raises(StreamNotFoundError):
        after(when=FINISH)


def test_what_is_recorded_has_the_defaults_of_the_day() -> None:
    assert fitted(a_start(), ContentApprovalInput).input == {
        "connection_id": "blog", "content_id": "17", "deadline_hours": 72,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("input", "field"),
    [
        ({"content_id": 17, "connection_id": "blog"}, "input.content_id"),
        ({"connection_id": "blog"}, "input.content_id"),
        ({"connection_id": "", "content_id": "17"}, "input.connection_id"),
        ({"connection_id": "blog", "content_id": "17", "deadline_hours": 0}, "input.deadline_hours"),
        ({"connection_id": "blog", "content_id": "17", "deadline_hours": "soon"}, "input.deadline_hours"),
        ({"connection_id": "blog", "content_id": "17", "colour": "red"}, "input.colour"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_by_its_field(input: dict[str, object], field: str) -> None:
    with pytest.raises(InputInvalidError) as refused:
        fitted(StartWorkflow(workflow_id="w1", name="content_approval", input=input), ContentApprovalInput)
    assert refused.value.field == field
