"""What is decided in a run."""

from typing import Any

import msgspec

from agent_svc.domain.errors import RunEndedError, RunExistsError
from agent_svc.domain.gate import digest_of
from agent_svc.domain.run import RUN, Begin, Complete, DecideToolCall, Fail, FinishToolCall
from agent_svc.testing import a_connection, a_grant
from bizosaas_events.messages.agent import RunCompleted, RunFailed, RunStarted, ToolCallDecided, ToolCallFinished
from bizosaas_events.testing import given

DRAFT = {"title": "Tea", "body": "<p>Tea</p>"}
BEGIN = Begin(run_id="run-1", agent_id="writer", agent_version=2, model="scripted", simulated=True)
STARTED = RunStarted(run_id="run-1", agent_id="writer", agent_version=2, model="scripted", simulated=True)
DECIDED = ToolCallDecided(
    run_id="run-1", step=1, operation="cms.create_draft", effect="write", verdict="allowed", rule="granted",
    reason="agent, tenant and caller may", arguments_digest=digest_of("cms.create_draft", DRAFT), connection_id="wp",
)  # fmt: skip
FINISHED = ToolCallFinished(
    run_id="run-1", step=1, operation="cms.create_draft", outcome="succeeded", digest="d", call_id="c"
)
COMPLETED = RunCompleted(
    run_id="run-1", output_type="Draft", output_digest="d", steps=3, tokens_in=5, tokens_out=7, simulated=True
)
COMPLETE = Complete(output_type="Draft", output_digest="d", steps=3, tokens_in=5, tokens_out=7)
FAIL = Fail(reason="timeout", detail="the run took longer than 60 s")
FAILED = RunFailed(run_id="run-1", reason="timeout", detail="the run took longer than 60 s")


def decide_call(step: int = 1, operation: str = "cms.create_draft", **changes: Any) -> DecideToolCall:
    command = DecideToolCall(
        step=step, operation=operation, arguments=DRAFT, grant=a_grant(), connections=[a_connection()]
    )
    return msgspec.structs.replace(command, **changes)


def finish_call(step: int = 1) -> FinishToolCall:
    return FinishToolCall(step=step, outcome="succeeded", digest="d", call_id="c")


def test_a_run_begins() -> None:
    given(RUN).when(BEGIN).then(STARTED)


def test_a_run_begins_once() -> None:
    given(RUN, STARTED).when(BEGIN).then_refused(RunExistsError, slug="run-exists")


def test_a_tool_call_is_decided_and_recorded() -> None:
    given(RUN, STARTED).when(decide_call()).then(DECIDED)


def test_a_decided_tool_call_stays_decided_when_the_connection_has_gone_since() -> None:
    given(RUN, STARTED, DECIDED).when(decide_call(connections=[])).then()


def test_a_denial_is_recorded_with_the_rule_and_its_reason() -> None:
    denied = ToolCallDecided(
        run_id="run-1", step=1, operation="cms.create_draft", effect="write", verdict="denied", rule="no-connection",
        reason="the tenant has no connection for it", arguments_digest=DECIDED.arguments_digest,
    )  # fmt: skip
    given(RUN, STARTED).when(decide_call(connections=[])).then(denied)


def test_an_operation_a_model_made_up_is_denied_and_not_quoted() -> None:
    denied = ToolCallDecided(
        run_id="run-1", step=1, operation="unknown", effect=None, verdict="denied", rule="not-offered",
        reason="this version of the agent does not have this operation",
        arguments_digest=digest_of("password is 1234", DRAFT),
    )  # fmt: skip
    given(RUN, STARTED).when(decide_call(operation="password is 1234")).then(denied)


def test_a_finished_tool_call_is_recorded_once() -> None:
    given(RUN, STARTED, DECIDED).when(finish_call()).then(FINISHED)
    given(RUN, STARTED, DECIDED, FINISHED).when(finish_call()).then()


def test_a_tool_call_nobody_decided_cannot_finish() -> None:
    given(RUN, STARTED).when(finish_call()).then()


def test_a_run_completes_once() -> None:
    given(RUN, STARTED).when(COMPLETE).then(COMPLETED)
    given(RUN, STARTED, COMPLETED).when(COMPLETE).then()


def test_a_run_that_completed_cannot_fail_and_one_that_failed_cannot_complete() -> None:
    given(RUN, STARTED, COMPLETED).when(FAIL).then()
    given(RUN, STARTED, FAILED).when(COMPLETE).then()
    given(RUN, STARTED).when(FAIL).then(FAILED)


def test_a_run_that_has_ended_takes_no_tool_call() -> None:
    given(RUN, STARTED, FAILED).when(decide_call()).then_refused(RunEndedError, slug="run-ended")
