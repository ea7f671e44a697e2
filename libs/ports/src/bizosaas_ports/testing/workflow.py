"""The suite that every workflow engine passes."""

from typing import Any, Protocol

import pytest

from ..workflow import Origin, Verdict, WorkflowPort, WorkflowUnavailableError

ORIGIN = Origin(tenant="acme", actor="member:1", correlation_id="story", causation_id="click")


class WorkflowEngine(Protocol):
    """The port under test, and a look behind it. `waiting` names a workflow that waits for verdicts until `end`."""

    port: WorkflowPort
    waiting: str

    def new_id(self) -> str:
        """A workflow id that nobody has used."""

    async def starts(self, workflow_id: str) -> int:
        """How often this workflow was really started."""

    async def given(self, workflow_id: str) -> tuple[dict[str, Any], Origin]:
        """With what it was started."""

    async def told(self, workflow_id: str) -> list[Verdict]:
        """What it has been told so far, in order, once what is on its way has arrived."""

    async def end(self, workflow_id: str) -> None:
        """Let it come to its end."""

    async def stop(self) -> None:
        """Take the engine away."""

    async def resume(self) -> None:
        """Bring it back as it was."""


class WorkflowSuite:
    """Subclass it and provide a fixture `engine`."""

    async def test_a_workflow_gets_its_input_and_whom_it_runs_for(self, engine: WorkflowEngine) -> None:
        id = engine.new_id()
        await engine.port.start(id, engine.waiting, {"title": "Über uns", "hours": 1.5, "tags": ["a"]}, ORIGIN)
        assert await engine.given(id) == ({"title": "Über uns", "hours": 1.5, "tags": ["a"]}, ORIGIN)

    async def test_a_second_start_under_the_same_id_starts_nothing(self, engine: WorkflowEngine) -> None:
        id = engine.new_id()
        for n in range(2):
            await engine.port.start(id, engine.waiting, {"n": n}, ORIGIN)
        assert await engine.starts(id) == 1
        assert await engine.given(id) == ({"n": 0}, ORIGIN)

    async def test_a_workflow_that_has_ended_is_not_started_again(self, engine: WorkflowEngine) -> None:
        id = engine.new_id()
        await engine.port.start(id, engine.waiting, {}, ORIGIN)
        await engine.end(id)
        await engine.port.start(id, engine.waiting, {}, ORIGIN)
        assert await engine.starts(id) == 1

    async def test_a_waiting_workflow_is_told_the_verdicts_in_their_order(self, engine: WorkflowEngine) -> None:
        id = engine.new_id()
        await engine.port.start(id, engine.waiting, {}, ORIGIN)
        verdicts = [Verdict(approval_id="a", verdict="approved"), Verdict(approval_id="b", verdict="rejected")]
        for verdict in verdicts:
            await engine.port.decide(id, verdict)
        assert await engine.told(id) == verdicts

    async def test_a_verdict_for_a_workflow_that_has_ended_or_never_was_changes_nothing(
        self, engine: WorkflowEngine
    ) -> None:
        id = engine.new_id()
        verdict = Verdict(approval_id="a", verdict="approved")
        await engine.port.start(id, engine.waiting, {}, ORIGIN)
        await engine.end(id)
        await engine.port.decide(id, verdict)
        await engine.port.decide(engine.new_id(), verdict)
        assert await engine.starts(id) == 1

    async def test_an_engine_that_is_away_says_so_and_goes_on_when_it_is_back(self, engine: WorkflowEngine) -> None:
        id, late = engine.new_id(), engine.new_id()
        await engine.port.start(id, engine.waiting, {}, ORIGIN)
        await engine.stop()
        with pytest.raises(WorkflowUnavailableError):
            await engine.port.start(late, engine.waiting, {}, ORIGIN)
        with pytest.raises(WorkflowUnavailableError):
            await engine.port.decide(id, Verdict(approval_id="a", verdict="approved"))
        await engine.resume()
        await engine.port.start(late, engine.waiting, {}, ORIGIN)
        await engine.port.decide(id, Verdict(approval_id="a", verdict="approved"))
        assert await engine.starts(late) == 1
        assert [verdict.approval_id for verdict in await engine.told(id)][-1] == "a"
