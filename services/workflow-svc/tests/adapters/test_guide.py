"""The workflow in docs/guides/add-a-workflow.md works as it is printed there."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bizosaas_events import new_id
from bizosaas_events.messages.workflow import StartWorkflow
from bizosaas_sandbox.servers.temporal import Temporal
from workflow_svc.testing import on_temporal
from workflow_svc.workflows._definition import WorkflowDefinition

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "add-a-workflow.md"


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkflowDefinition]:
    """The guide's workflow, as a module of its own."""
    found = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found, "the guide has no example"
    (tmp_path / "content_takedown.py").write_text(found[1].replace("from ._", "from workflow_svc.workflows._"))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("content_takedown").DEFINITION
    del sys.modules["content_takedown"]


async def test_the_guides_workflow_asks_and_acts(temporal_server: Temporal, printed: WorkflowDefinition) -> None:
    id = new_id()
    start = StartWorkflow(workflow_id=id, name=printed.name, input={"connection_id": "blog", "content_id": "17"})
    more = {printed.name: printed}
    async with on_temporal(temporal_server.url, temporal_server.namespace, f"q-{id}", more) as bench:
        assert (await bench.service.ask(start)).problem is None
        await bench.decide(await bench.asked(id), "approved")
        assert (await bench.finished(id)).outcome == "completed"
    ((call, _),) = bench.connector.done.values()
    assert (call.operation, call.arguments) == ("cms.unpublish", {"id": "17"})
