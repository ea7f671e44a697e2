"""What every engine for agents does alike: the plain loop, and CrewAI for real."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent_svc.adapters.crew import crew_agents
from agent_svc.adapters.memory import LoopAgents, MemoryConnections
from agent_svc.adapters.models.scripted import ScriptedModel
from agent_svc.domain.outputs import Draft
from agent_svc.testing import (
    A_DRAFT,
    MemoryAgentService,
    Script,
    StandInConnector,
    a_connection,
    a_context,
    a_start,
    an_agent,
    ask_for,
    say,
)
from bizosaas_events import Reply, UnavailableError, new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.agent import RunCompleted, RunOutput, RunStarted, ToolCallDecided, ToolCallFinished
from bizosaas_events.messages.connector import CallOperation
from bizosaas_ports.agent import AgentFailedError, AgentPort
from bizosaas_ports.model import Completion

# CrewAI deprecates fields of its own classes, and reads them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:crewai", "ignore::DeprecationWarning:pydantic")


@pytest.fixture(params=["loop", "crew"])
async def agents(request: pytest.FixtureRequest) -> AsyncIterator[AgentPort]:
    if request.param == "loop":
        yield LoopAgents()
        return
    async with crew_agents(32) as crew:
        yield crew


def draft_of(reply: Reply) -> Draft:
    return Draft.model_validate_json(bytes(decode_result(reply, RunOutput).output))


async def test_a_run_uses_its_tools_and_delivers_a_typed_draft(agents: AgentPort) -> None:
    service = MemoryAgentService(agents=agents)

    draft = draft_of(await service.ask(a_start(topic="Tea {tools} for {role}")))

    assert draft.title == "Tea {tools} for {role}"
    assert draft.content_id == "100"
    assert [type(e) for e in await service.events("run-r1")] == [
        RunStarted, ToolCallDecided, ToolCallFinished, ToolCallDecided, ToolCallFinished, RunCompleted,
    ]  # fmt: skip


async def test_several_tools_in_one_answer_are_used_one_after_another(agents: AgentPort) -> None:
    both = Completion(
        text="Both, please.",
        tool_requests=[
            *ask_for("cms_list_content", 1).tool_requests,
            *ask_for("cms_create_draft", 2, title="Tea", body="b").tool_requests,
        ],
    )
    model = Script(both, A_DRAFT)
    service = MemoryAgentService(agents=agents, model=model)

    await service.ask(a_start())

    sent = [command.operation for command, _ in service.bus.sent if isinstance(command, CallOperation)]
    assert sent == ["cms.list_content", "cms.create_draft"]
    assert len(model.asked) == 2
    assert "Both, please." in [message.content for message in model.asked[1]]
    assert [m.tool_call_id for m in model.asked[1] if m.role == "tool"] == ["t1", "t2"]


async def test_a_tool_that_is_not_offered_reaches_the_gate_and_is_denied(agents: AgentPort) -> None:
    model = Script(ask_for("delete_everything", really=True), A_DRAFT)
    service = MemoryAgentService(agents=agents, model=model)

    assert (await service.ask(a_start())).problem is None

    decided = [e for e in await service.events("run-r1") if isinstance(e, ToolCallDecided)]
    assert [(e.operation, e.verdict, e.rule) for e in decided] == [("unknown", "denied", "not-offered")]
    assert "not-offered" in model.asked[1][-1].content


async def test_a_bad_answer_goes_back_to_the_model_once(agents: AgentPort) -> None:
    model = Script(say(""), A_DRAFT)

    draft = draft_of(await MemoryAgentService(agents=agents, model=model).ask(a_start()))

    assert draft.title == "Tea"
    assert "does not fit" in model.asked[1][-1].content


async def test_a_large_result_reaches_the_model_whole(agents: AgentPort) -> None:
    titles = [f"A rather long title of an article that was published, number {n}" for n in range(5000)]
    model = Script(ask_for("cms_list_content"), A_DRAFT)

    await MemoryAgentService(agents=agents, model=model, connector=StandInConnector(titles=titles)).ask(a_start())

    assert len(model.asked[1][-1].content) > 300_000
    assert titles[-1] in model.asked[1][-1].content


async def test_an_outage_in_a_tool_ends_the_run_and_is_not_told_to_the_model(agents: AgentPort) -> None:
    class Away(StandInConnector):
        away = True

        async def answer(self, envelope: Any, command: Any) -> Reply:
            if self.away:
                raise UnavailableError("Redis is away.")
            return await super().answer(envelope, command)

    connector = Away()
    model = Script(ask_for("cms_create_draft", title="Tea", body="b"), A_DRAFT)
    service, id = MemoryAgentService(agents=agents, model=model, connector=connector), new_id()
    with pytest.raises(ConnectionError):
        await service.ask(a_start(), id=id)
    assert len(model.asked) == 1

    connector.away = False
    draft = draft_of(await service.ask(a_start(), id=id))

    assert draft.content_id == "100"
    assert len(model.asked) == 2


async def test_what_fails_in_the_model_fails_the_run_once(agents: AgentPort) -> None:
    model = Script(AgentFailedError("model-unavailable", "too many requests, rate limit"))

    problem = (await MemoryAgentService(agents=agents, model=model).ask(a_start())).problem

    assert problem is not None
    assert "model-unavailable" in problem.detail
    assert len(model.asked) == 1


async def test_a_cancelled_run_uses_no_further_tool(agents: AgentPort) -> None:
    class Waiting(StandInConnector):
        asked: asyncio.Event

        async def answer(self, envelope: Any, command: Any) -> Reply:
            self.asked.set()
            await asyncio.sleep(30)
            return await super().answer(envelope, command)

    connector = Waiting()
    connector.asked = asyncio.Event()
    service = MemoryAgentService(agents=agents, connector=connector)
    running = asyncio.create_task(service.ask(a_start()))
    await connector.asked.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0.3)

    assert len(service.bus.sent) == 1
    assert len(await service.events("run-r1")) == 2


async def test_a_run_that_takes_too_long_ends_at_its_limit(agents: AgentPort) -> None:
    class Slow(ScriptedModel):
        async def complete(self, *_: Any, **__: Any) -> Completion:
            await asyncio.sleep(30)
            return A_DRAFT

    service = MemoryAgentService(agents=agents, model=Slow(), catalogue={"writer": an_agent(version=0, timeout_s=1)})

    async with asyncio.timeout(5):
        problem = (await service.ask(a_start())).problem

    assert problem is not None
    assert "timeout" in problem.detail


async def test_twenty_runs_at_once_take_hardly_longer_than_one_and_stay_with_their_tenants(agents: AgentPort) -> None:
    class Thinking(ScriptedModel):
        async def complete(self, *arguments: Any, **named: Any) -> Completion:
            await asyncio.sleep(0.3)
            return await super().complete(*arguments, **named)

    tenants = [f"t{n}" for n in range(20)]
    connections = MemoryConnections({tenant: [a_connection(f"wp-{tenant}")] for tenant in tenants})
    service = MemoryAgentService(agents=agents, model=Thinking(), connections=connections)

    async with asyncio.timeout(10):  # one after another would be 18 s
        replies = await asyncio.gather(
            *(service.ask(a_start(run_id=f"run-of-{t}", topic=f"Topic of {t}"), a_context(t)) for t in tenants)
        )

    for tenant, reply in zip(tenants, replies, strict=True):
        draft = draft_of(reply)
        assert (draft.title, draft.url.split("/")[2]) == (f"Topic of {tenant}", f"{tenant}.test")
    assert {context.actor for _, context in service.bus.sent} == {f"agent:run-of-{t}" for t in tenants}
    assert all(c.connection_id == f"wp-{x.tenant}" for c, x in service.bus.sent if isinstance(c, CallOperation))


async def test_crewai_ends_what_goes_round_in_circles() -> None:
    same = [ask_for("cms_list_content", n) for n in range(20)]
    async with crew_agents(8) as crew:
        problem = (await MemoryAgentService(agents=crew, model=Script(*same)).ask(a_start())).problem

    assert problem is not None
    assert "ToolExecutionFailedError" in problem.detail


async def test_crewai_takes_no_signal_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    async with crew_agents(8) as crew:
        assert (await MemoryAgentService(agents=crew).ask(a_start())).problem is None
    assert before == {n: signal.getsignal(n) for n in before}
    assert capfd.readouterr().out == ""
