"""Runs of agents, on memory adapters."""

import asyncio
from typing import Any

import msgspec
import pytest

from agent_svc.adapters.memory import MemoryConnections
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
from bizosaas_events import Problem, Reply, UnavailableError, new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.agent import (
    ReadRunOutput,
    RunCompleted,
    RunFailed,
    RunOutput,
    RunStarted,
    ToolCallDecided,
    ToolCallFinished,
)
from bizosaas_events.messages.connector import CallOperation
from bizosaas_ports.model import Completion, ModelUnavailableError


def draft_of(reply: Reply) -> Draft:
    output = decode_result(reply, RunOutput)
    assert (output.output_type, output.simulated) == ("Draft", True)
    return Draft.model_validate_json(bytes(output.output))


async def test_a_run_lists_drafts_and_delivers_a_typed_draft() -> None:
    service = MemoryAgentService()

    draft = draft_of(await service.ask(a_start(tone="friendly")))

    assert draft.title == "Green tea"
    assert "Simulated text" in draft.body
    assert (draft.content_id, draft.url) == ("100", "https://acme.test/?p=100")
    assert [type(e) for e in await service.events("run-r1")] == [
        RunStarted, ToolCallDecided, ToolCallFinished, ToolCallDecided, ToolCallFinished, RunCompleted,
    ]  # fmt: skip


async def test_calls_carry_tenant_and_run_from_the_context_and_act_as_a_service() -> None:
    service = MemoryAgentService()
    context = a_context()

    await service.ask(a_start(), context)

    assert [command.operation for command, _ in service.bus.sent if isinstance(command, CallOperation)] == [
        "cms.list_content", "cms.create_draft",
    ]  # fmt: skip
    for _, sent in service.bus.sent:
        assert (sent.tenant, sent.actor, sent.role) == ("acme", "agent:r1", "service")
        assert sent.correlation_id == context.correlation_id


async def test_no_event_holds_what_a_tool_gave() -> None:
    service = MemoryAgentService(connector=StandInConnector(titles=["A very private title"]))

    await service.ask(a_start())

    assert not any(b"very private" in e.data for e in await service.store.load("run-r1"))


async def test_tool_results_are_forgotten_when_the_run_ends_and_the_output_is_kept() -> None:
    service = MemoryAgentService(connector=StandInConnector(titles=["A very private title"]))

    await service.ask(a_start())

    steps = await service.ledger.steps("r1")
    assert [(s.kind, bool(s.payload), bool(s.digest)) for s in steps] == [
        ("model", True, True), ("tool", False, True), ("model", True, True), ("tool", False, True), ("model", True, True),
    ]  # fmt: skip
    assert draft_of(await service.ask(ReadRunOutput(run_id="r1"))).content_id == "100"


async def test_a_run_delivered_again_answers_the_same_and_repeats_nothing() -> None:
    service, id = MemoryAgentService(), new_id()

    first, second = await service.ask(a_start(), id=id), await service.ask(a_start(), id=id)

    assert draft_of(first) == draft_of(second)
    assert first.position == second.position
    assert len(service.bus.sent) == 2
    assert len(await service.events("run-r1")) == 6


async def test_another_command_for_the_same_run_is_refused() -> None:
    service = MemoryAgentService()
    await service.ask(a_start())

    problem = (await service.ask(a_start())).problem

    assert problem is not None
    assert (problem.slug, problem.field) == ("run-exists", "run_id")


async def test_an_unknown_agent_is_refused_with_those_there_are() -> None:
    problem = (await MemoryAgentService().ask(a_start(agent_id="poet"))).problem

    assert problem is not None
    assert (problem.kind, problem.slug, problem.field) == ("not-found", "agent-unknown", "agent_id")
    assert "writer" in problem.remedy


@pytest.mark.parametrize(
    ("brief", "slug", "field"),
    [
        ({"text": "x" * 70_000}, "brief-too-large", "brief"),
        ({"connection_id": 7}, "brief-invalid", "brief.connection_id"),
    ],
)
async def test_a_bad_brief_is_refused_and_nothing_is_recorded(brief: dict[str, Any], slug: str, field: str) -> None:
    service = MemoryAgentService()

    problem = (await service.ask(a_start(**brief))).problem

    assert problem is not None
    assert (problem.slug, problem.field) == (slug, field)
    assert await service.events("run-r1") == []


async def test_a_role_without_view_agents_cannot_start_runs() -> None:
    problem = (await MemoryAgentService().ask(a_start(), a_context(role="nobody"))).problem

    assert problem is not None
    assert problem.slug == "permission-missing"


async def test_another_tenants_run_does_not_exist() -> None:
    service = MemoryAgentService()
    await service.ask(a_start())

    seen = (await service.ask(ReadRunOutput(run_id="r1"), a_context("other"))).problem
    unknown = (await service.ask(ReadRunOutput(run_id="r2"), a_context("other"))).problem

    assert seen is not None
    assert unknown is not None
    assert (seen.kind, seen.slug) == (unknown.kind, unknown.slug) == ("not-found", "not-found")
    assert (await service.ask(a_start(), a_context("other"))).problem == seen


async def test_a_run_at_work_has_no_output_yet() -> None:
    class Waiting(StandInConnector):
        """Answers nothing until it is allowed to."""

        go = asyncio.Event()
        asked = asyncio.Event()

        async def answer(self, envelope: Any, command: Any) -> Reply:
            self.asked.set()
            await self.go.wait()
            return await super().answer(envelope, command)

    service = MemoryAgentService(connector=Waiting())
    running = asyncio.create_task(service.ask(a_start()))
    await Waiting.asked.wait()

    problem = (await service.ask(ReadRunOutput(run_id="r1"))).problem
    Waiting.go.set()

    assert problem is not None
    assert problem.slug == "run-unfinished"
    assert (await running).problem is None


async def test_a_denied_tool_is_told_to_the_model_and_has_no_effect() -> None:
    model = Script(ask_for("cms_publish", id="7"), A_DRAFT)
    service = MemoryAgentService(model=model)

    draft = draft_of(await service.ask(a_start()))

    assert service.bus.sent == []
    assert '"problem":"denied"' in model.asked[1][-1].content
    assert "not-offered" in model.asked[1][-1].content
    assert draft.content_id == ""
    events = await service.events("run-r1")
    assert [e.rule for e in events if isinstance(e, ToolCallDecided)] == ["not-offered"]
    assert not any(isinstance(e, ToolCallFinished) for e in events)


async def test_wrong_arguments_are_explained_to_the_model_and_not_written_into_an_event() -> None:
    model = Script(ask_for("cms_create_draft", title="Tea", body="b", status="hush-hush"), A_DRAFT)
    service = MemoryAgentService(model=model)

    await service.ask(a_start())

    assert "unknown field `status`" in model.asked[1][-1].content
    assert not any(b"status" in e.data for e in await service.store.load("run-r1"))


async def test_a_tool_that_fails_is_told_to_the_model_and_the_run_goes_on() -> None:
    connector = StandInConnector(
        refuse={"cms.create_draft": Problem(kind="unavailable", slug="provider-down", detail="The site is down.")}
    )
    service = MemoryAgentService(connector=connector)

    draft = draft_of(await service.ask(a_start()))

    assert draft.content_id == ""
    finished = [e for e in await service.events("run-r1") if isinstance(e, ToolCallFinished)]
    assert [e.outcome for e in finished] == ["succeeded", "failed"]


async def test_a_call_that_makes_sense_again_soon_is_made_again_with_the_same_key_and_another_id() -> None:
    class Busy(StandInConnector):
        ids: list[str]

        async def answer(self, envelope: Any, command: Any) -> Reply:
            self.ids.append(envelope.id)
            if len(self.ids) < 3:
                busy = Problem(kind="unavailable", slug="call-in-progress", detail="Busy.", retry_after=0.01)
                return Reply(command_id=envelope.id, problem=busy)
            return await super().answer(envelope, command)

    connector = Busy()
    connector.ids = []
    model = Script(ask_for("cms_create_draft", title="Tea", body="b"), A_DRAFT)
    service = MemoryAgentService(model=model, connector=connector)

    assert draft_of(await service.ask(a_start())).content_id == "100"

    assert len(set(connector.ids)) == 3
    assert len({command.idempotency_key for command, _ in service.bus.sent if isinstance(command, CallOperation)}) == 1


async def test_trying_a_failed_call_again_uses_the_same_idempotency_key_and_another_command() -> None:
    arguments = {"title": "Tea", "body": "b"}
    connector = StandInConnector(refuse={"cms.create_draft": Problem(kind="unavailable", slug="down", detail="Down.")})
    model = Script(ask_for("cms_create_draft", 1, **arguments), ask_for("cms_create_draft", 2, **arguments), A_DRAFT)
    service = MemoryAgentService(model=model, connector=connector)

    await service.ask(a_start())

    keys = [command.idempotency_key for command, _ in service.bus.sent if isinstance(command, CallOperation)]
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_an_agent_that_wants_two_equal_drafts_gets_two() -> None:
    arguments = {"title": "Tea", "body": "b"}
    model = Script(ask_for("cms_create_draft", 1, **arguments), ask_for("cms_create_draft", 2, **arguments), A_DRAFT)
    service = MemoryAgentService(model=model)

    await service.ask(a_start())

    assert len(service.connector.drafts) == 2


async def test_a_bad_answer_is_repaired_once() -> None:
    model = Script(say("Here you are!"), A_DRAFT)

    draft = draft_of(await MemoryAgentService(model=model).ask(a_start()))

    assert draft.title == "Tea"
    assert "does not fit" in model.asked[1][-1].content


async def test_two_bad_answers_fail_the_run_without_repeating_their_words() -> None:
    service = MemoryAgentService(model=Script(say('{"title": 7, "body": "private"}'), say('{"secret": "private"}')))

    problem = (await service.ask(a_start())).problem

    assert problem is not None
    assert problem.slug == "run-failed"
    assert "bad-output" in problem.detail
    failed = (await service.events("run-r1"))[-1]
    assert isinstance(failed, RunFailed)
    assert failed.reason == "bad-output"
    assert "private" not in failed.detail
    assert (await service.ask(ReadRunOutput(run_id="r1"))).problem == problem


async def test_a_failed_run_delivered_again_stays_failed() -> None:
    service, id = MemoryAgentService(model=Script(say("?"), say("?"))), new_id()

    first, second = await service.ask(a_start(), id=id), await service.ask(a_start(), id=id)

    assert first.problem == second.problem
    assert len(await service.events("run-r1")) == 2


async def test_a_model_that_never_ends_meets_its_budget_of_tool_calls_and_of_steps() -> None:
    model = Script(*(ask_for("cms_list_content", n, search=str(n)) for n in range(100)))
    service = MemoryAgentService(model=model, catalogue={"writer": an_agent(version=0, max_steps=2)})

    problem = (await service.ask(a_start())).problem

    assert problem is not None
    assert "budget" in problem.detail
    decided = [e.rule for e in await service.events("run-r1") if isinstance(e, ToolCallDecided)]
    assert decided[:2] == ["granted", "granted"]
    assert set(decided[2:]) == {"budget"}
    assert len(service.bus.sent) == 2


async def test_a_run_that_takes_too_long_fails() -> None:
    class Slow(Script):
        async def complete(self, *_: Any, **__: Any) -> Completion:
            await asyncio.sleep(60)
            return A_DRAFT

    service = MemoryAgentService(model=Slow(), catalogue={"writer": an_agent(version=0, timeout_s=1)})

    problem = (await service.ask(a_start())).problem

    assert problem is not None
    assert "timeout" in problem.detail


async def test_a_model_that_is_away_is_asked_again_and_then_fails_the_run() -> None:
    away = [ModelUnavailableError("429", retry_after=0) for _ in range(3)]
    assert draft_of(await MemoryAgentService(model=Script(*away, A_DRAFT)).ask(a_start())).title == "Tea"

    problem = (await MemoryAgentService(model=Script(*away, *away)).ask(a_start())).problem

    assert problem is not None
    assert "model-unavailable" in problem.detail


async def test_a_platform_that_is_away_leaves_the_run_open_and_a_redelivery_finishes_it() -> None:
    class Away(StandInConnector):
        away = True

        async def answer(self, envelope: Any, command: Any) -> Reply:
            if self.away and command.operation == "cms.create_draft":
                raise UnavailableError("Redis is away.")
            return await super().answer(envelope, command)

    model = Script(
        ask_for("cms_list_content", 1), ask_for("cms_create_draft", 2, title="Tea", body="b"), A_DRAFT,
    )  # fmt: skip
    service, id = MemoryAgentService(connector=Away(), model=model), new_id()
    with pytest.raises(ConnectionError):
        await service.ask(a_start(), id=id)
    assert len(model.says) == 1
    Away.away = False

    draft = draft_of(await service.ask(a_start(), id=id))

    assert draft.content_id == "100"
    assert len(model.asked) == 3
    events = await service.events("run-r1")
    assert [type(e) for e in events].count(ToolCallDecided) == 2
    assert isinstance(events[-1], RunCompleted)


async def test_a_resumed_call_whose_answer_got_lost_is_looked_up_and_not_repeated() -> None:
    class LosesOne(StandInConnector):
        """Has the effect, and dies with us before its answer is on the tape."""

        lost = False

        async def answer(self, envelope: Any, command: Any) -> Reply:
            reply = await super().answer(envelope, command)
            if command.operation == "cms.create_draft" and not self.lost:
                self.lost = True
                raise UnavailableError("the process dies here")
            return reply

    service, id = MemoryAgentService(connector=LosesOne()), new_id()
    with pytest.raises(ConnectionError):
        await service.ask(a_start(), id=id)

    draft = draft_of(await service.ask(a_start(), id=id))

    assert len(service.connector.drafts) == 1
    assert draft.content_id == "100"


async def test_a_run_stays_with_the_version_it_began_with() -> None:
    class Away(StandInConnector):
        away = True

        async def answer(self, envelope: Any, command: Any) -> Reply:
            if self.away:
                raise UnavailableError("away")
            return await super().answer(envelope, command)

    connector = Away()
    service, id = MemoryAgentService(connector=connector), new_id()
    with pytest.raises(ConnectionError):
        await service.ask(a_start(), id=id)
    connector.away = False
    service.catalogue = {"writer": an_agent(version=0, goal="Another goal.", tools=["cms.list_content"])}

    draft = draft_of(await service.ask(a_start(), id=id))

    assert draft.content_id == "100"
    assert len(await service.events("agent-writer")) == 2


async def test_twenty_runs_at_once_stay_with_their_tenants() -> None:
    tenants = [f"t{n}" for n in range(20)]
    service = MemoryAgentService(
        connections=MemoryConnections({tenant: [a_connection(f"wp-{tenant}")] for tenant in tenants})
    )

    replies = await asyncio.gather(
        *(service.ask(a_start(run_id=f"run-of-{t}", topic=f"Topic of {t}"), a_context(t)) for t in tenants)
    )

    for tenant, reply in zip(tenants, replies, strict=True):
        draft = draft_of(reply)
        assert draft.title == f"Topic of {tenant}"
        assert draft.url.startswith(f"https://{tenant}.test/")
    made = {(tenant, arguments["title"]) for tenant, arguments in service.connector.drafts.values()}
    assert made == {(tenant, f"Topic of {tenant}") for tenant in tenants}
    for command, context in service.bus.sent:
        assert isinstance(command, CallOperation)
        assert command.connection_id == f"wp-{context.tenant}"
        assert context.actor == f"agent:run-of-{context.tenant}"


async def test_a_tape_of_other_prompts_fails_the_run_rather_than_repeat_an_effect() -> None:
    class Away(StandInConnector):
        async def answer(self, envelope: Any, command: Any) -> Reply:
            raise UnavailableError("away")

    service, id = MemoryAgentService(connector=Away()), new_id()
    with pytest.raises(ConnectionError):
        await service.ask(a_start(), id=id)
    kept = service.ledger._steps["r1"]
    kept[0] = msgspec.structs.replace(kept[0], digest="of other prompts")

    problem = (await service.ask(a_start(), id=id)).problem

    assert problem is not None
    assert "diverged" in problem.detail
