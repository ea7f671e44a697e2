"""The tenant's history in words, from real events."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from audit_svc.testing import MemoryAuditService, a_context, a_log, happened
from bizosaas_events import Envelope, Problem, Reply, new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.agent import AgentPublished, RunCompleted, RunStarted, ToolCallDecided
from bizosaas_events.messages.audit import History, ReadHistory
from bizosaas_events.messages.connector import (
    CallStarted,
    CallSucceeded,
    ConnectionEstablished,
    ConnectionRequested,
)
from bizosaas_events.messages.secret import SecretLeased, SecretStored
from bizosaas_events.messages.tenant import MemberAdded, MemberErased, MemberSignedIn, TenantCreated
from bizosaas_events.messages.workflow import ApprovalDecided, ApprovalRequested
from bizosaas_events.store.memory import MemoryEventStore

STORY = [
    "Root created the tenant Acme (acme)",
    "Root added Ann Admin <ann@acme.test> as tenant_admin",
    "Ann Admin signed in with password",
    "Ann Admin asked to connect wordpress as “Blog”",
    "the connector service stored version 1 of a credential (password, fingerprint 0a1b2c) for Blog",
    "the connection works as editor, with the credential 0a1b2c",
    "Ann Admin started the agent content-creator (version 3, model scripted)",
    "the tool gate allowed cms.create_draft",
    "the agent Content creator was lent the credential 0a1b2c for cms.create_draft",
    "the agent Content creator began cms.create_draft with the credential 0a1b2c",
    "cms.create_draft succeeded (201, 40 ms): 1 × post 7",
    "the agent delivered a Draft after 2 steps",
    "the agent Content creator asked for approval of cms.publish with content_id “7”",
    "Ann Admin approved cms.publish",
]


@pytest.fixture
async def service() -> MemoryAuditService:
    """The journal after the story, told by five services."""
    service = MemoryAuditService()
    logs = {name: a_log(name) for name in ("tenant", "connector", "secret", "agent", "workflow")}
    later = datetime(2026, 11, 25, tzinfo=UTC)
    minute = iter(range(100))

    async def note(log: str, stream: str, event: object, actor: str, tenant: str = "acme") -> None:
        context = a_context(tenant, actor, minute=next(minute))
        await happened(logs[log], stream, event, context=context)  # type: ignore[arg-type]  # only events are given

    await note("tenant", "member-root", MemberAdded(member_id="root", tenant_id="platform", email="r@x.test",
               name="Root", role="super_admin"), "service:tenant-svc", "platform")  # fmt: skip
    await note("agent", "agent-content-creator", AgentPublished(agent_id="content-creator", version=3,
               name="Content creator", category="content", goal="g", tier="small", tools=[], output="Draft",
               digest="d"), "service:agent-svc", "platform")  # fmt: skip
    root, ann, run = "member:root", "member:ann", "agent:run-1"
    await note("tenant", "tenant-acme", TenantCreated(tenant_id="acme", slug="acme", name="Acme"), root)
    await note("tenant", "member-ann", MemberAdded(member_id="ann", tenant_id="acme", email="ann@acme.test",
               name="Ann Admin", role="tenant_admin"), root)  # fmt: skip
    await note("tenant", "member-ann", MemberSignedIn(member_id="ann"), ann)
    await note("connector", "connection-c", ConnectionRequested(connection_id="c", connector="wordpress", label="Blog",
               settings={}, method="credentials"), ann)  # fmt: skip
    await note("secret", "secret-s", SecretStored(secret_id="s", kind="password", version=1, fingerprint="0a1b2c",
               purpose="Blog"), "service:connector-svc")  # fmt: skip
    await note("connector", "connection-c", ConnectionEstablished(connection_id="c", secret_id="s", secret_version=1,
               fingerprint="0a1b2c", account="editor"), ann)  # fmt: skip
    await note("agent", "run-run-1", RunStarted(run_id="run-1", agent_id="content-creator", agent_version=3,
               model="scripted", simulated=True), ann)  # fmt: skip
    await note("agent", "run-run-1", ToolCallDecided(run_id="run-1", step=1, operation="cms.create_draft",
               effect="write", verdict="allowed", arguments_digest="d"), run)  # fmt: skip
    await note("secret", "secret-s", SecretLeased(secret_id="s", lease_id="l", version=1, fingerprint="0a1b2c",
               purpose="cms.create_draft", expires_at=later), run)  # fmt: skip
    await note("connector", "call-1", CallStarted(call_id="1", connection_id="c", connector="wordpress",
               operation="cms.create_draft", effect="write", idempotency_key="k", arguments_digest="d",
               fingerprint="0a1b2c"), run)  # fmt: skip
    await note("connector", "call-1", CallSucceeded(call_id="1", connection_id="c", operation="cms.create_draft",
               resource_type="post", resource_id="7", count=1, status=201, duration_ms=40, bytes=9, digest="d"), run)  # fmt: skip
    await note("agent", "run-run-1", RunCompleted(run_id="run-1", output_type="Draft", output_digest="d", steps=2,
               tokens_in=1, tokens_out=1, simulated=True), run)  # fmt: skip
    await note("workflow", "approval-p", ApprovalRequested(approval_id="p", workflow_id="w", operation="cms.publish",
               connection_id="c", arguments={"content_id": "7"}, arguments_digest="d", requested_by=run,
               deadline=later), "service:workflow-svc")  # fmt: skip
    await note("workflow", "approval-p", ApprovalDecided(approval_id="p", workflow_id="w", operation="cms.publish",
               verdict="approved"), ann)  # fmt: skip
    await service.journal_log(*logs.values())
    return service


async def history(service: MemoryAuditService, tenant: str = "acme", **asked: object) -> History:
    command = ReadHistory(**asked)  # type: ignore[arg-type]  # the tests' own keywords
    reply = await service.ask(command, a_context(tenant, role="tenant_admin"))
    shown = msgspec.Raw(await service.shown(bytes(reply.result)))
    return decode_result(msgspec.structs.replace(reply, result=shown), History)


def refusal(reply: Reply) -> Problem:
    assert reply.problem is not None
    return reply.problem


async def test_the_whole_story_is_told_in_words(service: MemoryAuditService) -> None:
    told = await history(service)
    assert [entry.words for entry in reversed(told.entries)] == STORY
    assert told.next == ""


async def test_an_entry_names_who_what_and_where(service: MemoryAuditService) -> None:
    entry = (await history(service, subject="approval-p")).entries[0]
    assert (entry.actor, entry.actor_name, entry.type) == ("member:ann", "Ann Admin", "workflow.approval.decided.v1")
    assert (entry.subject, entry.version) == ("approval-p", 2)
    log, _, rest = entry.position.partition("/")
    assert log == "workflow"
    assert rest.endswith("@2")


async def test_the_journal_itself_tells_nobodys_name(service: MemoryAuditService) -> None:
    reply = await service.ask(ReadHistory(), a_context(role="tenant_admin"))
    assert b"closed(v1:ann:" in bytes(reply.result)
    assert b"Ann" not in bytes(reply.result)


async def test_who_was_erased_is_told_as_erased_from_the_first_event_on(service: MemoryAuditService) -> None:
    (tenant,) = [log for log in service.logs if log.category == "tenant"]
    await happened(
        tenant, "member-ann", MemberErased(member_id="ann"), context=a_context(actor="member:root", minute=99)
    )
    await service.journal_log(tenant)

    told = [entry.words for entry in reversed((await history(service)).entries)]

    as_erased = [sentence.replace("Ann Admin", "(erased)").replace("ann@acme.test", "(erased)") for sentence in STORY]
    assert told == [*as_erased, "Root erased the member ann"]


async def test_pages_follow_each_other_without_gap_or_repeat(service: MemoryAuditService) -> None:
    for size in (1, 3, 7, len(STORY)):
        told, cursor = [], ""
        while True:
            page = await history(service, limit=size, before=cursor)
            told += [entry.words for entry in page.entries]
            cursor = page.next
            if not cursor:
                break
        assert told == STORY[::-1]


async def test_events_of_one_moment_are_told_in_the_order_they_were_recorded() -> None:
    service, log = MemoryAuditService(), a_log("tenant")
    context = a_context()
    for n in range(9):
        await happened(log, f"member-{n}", MemberSignedIn(member_id=str(n)), context=context)
    await service.journal_log(log)
    first = await history(service, limit=4)
    rest = await history(service, limit=9, before=first.next)
    assert [e.subject for e in first.entries + rest.entries] == [f"member-{n}" for n in reversed(range(9))]


async def test_filters_are_combined(service: MemoryAuditService) -> None:
    assert len((await history(service, subject="connection-c")).entries) == 2
    assert len((await history(service, actor="agent:run-1")).entries) == 5
    both = await history(service, subject="secret-s", actor="agent:run-1")
    assert [e.words for e in both.entries] == [STORY[8]]
    one = both.entries[0]
    assert [e.id for e in (await history(service, correlation_id=one.correlation_id)).entries] == [one.id]
    assert (await history(service, subject="connection-none")).entries == []


async def test_a_tenant_sees_its_own_and_nothing_else(service: MemoryAuditService) -> None:
    assert (await history(service, "other")).entries == []
    for filters in ({"subject": "connection-c"}, {"actor": "member:ann"}):
        assert (await history(service, "other", **filters)).entries == []


async def test_the_platform_sees_its_own_events_only(service: MemoryAuditService) -> None:
    told = [entry.words for entry in (await history(service, "platform")).entries]
    assert told == [
        "version 3 of the agent content-creator was published",
        "the tenant service added Root <r@x.test> as super_admin",
    ]


@pytest.mark.parametrize("role", ["tenant_user", ""])
async def test_the_history_is_for_administrators(service: MemoryAuditService, role: str) -> None:
    assert refusal(await service.ask(ReadHistory(), a_context(role=role))).slug == "permission-missing"


@pytest.mark.parametrize(
    "cursor", ["x", "%%%", "bm90IGEgY3Vyc29y", "MjAyNi0xMS0yNFQwODowMDowMA", "é", "MjAyNi0xMS0yNFQwODowMDowMHxub25l"]
)
async def test_a_cursor_that_is_none_is_refused(service: MemoryAuditService, cursor: str) -> None:
    problem = refusal(await service.ask(ReadHistory(before=cursor)))
    assert (problem.slug, problem.field) == ("cursor-invalid", "before")


@pytest.mark.parametrize("limit", [0, -1, 201])
async def test_a_page_of_a_senseless_size_is_refused(service: MemoryAuditService, limit: int) -> None:
    assert refusal(await service.ask(ReadHistory(limit=limit))).slug == "limit-invalid"


async def test_an_event_that_this_version_does_not_know_is_journalled_and_told(service: MemoryAuditService) -> None:
    log: MemoryEventStore = a_log("tenant", partitions=1)
    known = (await happened(log, "member-new", MemberSignedIn(member_id="new"), context=a_context(minute=99)))[0]
    newer = Envelope(**{f: getattr(known, f) for f in known.__struct_fields__} | {
        "type": "tenant.member.promoted.v1", "id": new_id(), "partition": 3, "actorid": "member:ann",
    })  # fmt: skip
    fresh = MemoryAuditService()
    await fresh.journal(newer)
    told = (await history(fresh)).entries[0]
    assert told.words == "member ann caused tenant.member.promoted.v1"


async def test_journalling_again_changes_nothing(service: MemoryAuditService) -> None:
    log = a_log("tenant")
    events = await happened(log, "member-x", MemberSignedIn(member_id="x"), context=a_context("other"))
    fresh = MemoryAuditService()
    for _ in range(3):
        await fresh.journal(*events)
    assert len((await history(fresh, "other")).entries) == 1
    assert events[0].time + timedelta() == (await history(fresh, "other")).entries[0].time
