"""Workflow code must lead through the histories of runs that began under it: they are replayed here.

When this fails, a change would break workflows that are waiting right now: keep the old path behind
`workflow.patched(...)`. `record_histories.py` beside this file records the histories of new workflows.
"""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from workflow_svc.adapters.payloads import DATA_CONVERTER
from workflow_svc.adapters.temporal import sandbox
from workflow_svc.app.bootstrap import definitions

HISTORIES = {file.stem: file.read_text() for file in sorted((Path(__file__).parent / "histories").glob("*.json"))}


def replayer() -> Replayer:
    return Replayer(
        workflows=[definition.run for definition in definitions().values()],
        data_converter=DATA_CONVERTER,
        workflow_runner=sandbox(),
    )


@pytest.mark.parametrize("name", HISTORIES)
async def test_a_recorded_run_replays(name: str) -> None:
    await replayer().replay_workflow(WorkflowHistory.from_json(name, HISTORIES[name]))


def test_every_workflow_has_a_recorded_run() -> None:
    assert {name.partition("-")[0] for name in HISTORIES} == set(definitions())


async def test_a_change_that_leads_elsewhere_is_noticed() -> None:
    changed = HISTORIES["content_approval-approved"].replace('"request_approval"', '"ask_somebody"')
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(WorkflowHistory.from_json("changed", changed))
