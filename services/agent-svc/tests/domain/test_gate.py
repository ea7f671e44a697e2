"""The tool gate's decision, rule by rule."""

from typing import Any

import msgspec
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from agent_svc.domain.gate import NEEDED, Call, Policy, digest_of, idempotency_key, judge
from agent_svc.testing import CMS, a_connection, a_grant, an_agent
from bizosaas_ports.capabilities import operations

DRAFT = {"title": "Tea", "body": "<p>Tea</p>"}


def a_call(step: int = 1, **changes: Any) -> Call:
    call = Call(
        step=step, operation="cms.create_draft", arguments_digest=digest_of("cms.create_draft", DRAFT),
        verdict="allowed", rule="granted", reason="",
    )  # fmt: skip
    return msgspec.structs.replace(call, **changes)


def test_what_every_rule_allows_is_allowed_with_the_only_suitable_connection() -> None:
    others = [a_connection("shop", operations=["ecommerce.list_products"]), a_connection("wp")]

    verdict = judge("cms.create_draft", DRAFT, a_grant(), others, [])

    assert (verdict.allowed, verdict.rule, verdict.connection_id) == (True, "granted", "wp")


PUBLISHER = an_agent(tools=CMS)

DENIALS: list[tuple[str, dict[str, Any]]] = [
    ("not-offered", {"operation": "cms.publish", "arguments": {"id": "1"}}),
    ("not-offered", {"operation": "cms.no_such_thing"}),
    ("not-offered", {"operation": ""}),
    ("arguments", {"arguments": {"title": "Tea"}}),
    ("arguments", {"arguments": {**DRAFT, "tenant_id": "other"}}),
    ("arguments", {"arguments": {**DRAFT, "title": 3}}),
    ("policy", {"grant": a_grant(policy=Policy(forbidden=frozenset({"cms.create_draft"})))}),
    ("role", {"grant": a_grant(role="nobody")}),
    ("role", {"operation": "cms.publish", "arguments": {"id": "1"}, "grant": a_grant(definition=PUBLISHER)}),
    (
        "role",
        {"operation": "cms.publish", "arguments": {"id": "1"}, "grant": a_grant(definition=PUBLISHER, role="service")},
    ),
    (
        "approval",
        {
            "operation": "cms.publish",
            "arguments": {"id": "1"},
            "grant": a_grant(definition=PUBLISHER, role="tenant_admin"),
        },
    ),
    ("budget", {"calls": [a_call(n) for n in range(8)]}),
    ("no-connection", {"connections": []}),
    ("no-connection", {"connections": [a_connection(operations=["crm.get_contact"])]}),
    ("no-connection", {"grant": a_grant(connection_id="someone-elses")}),
    ("connection-not-ready", {"connections": [a_connection(status="interrupted")]}),
    ("connection-ambiguous", {"connections": [a_connection("a"), a_connection("b")]}),
]


@pytest.mark.parametrize(("rule", "changes"), DENIALS)
def test_one_missing_condition_denies(rule: str, changes: dict[str, Any]) -> None:
    asked: dict[str, Any] = {
        "operation": "cms.create_draft", "arguments": DRAFT, "grant": a_grant(), "connections": [a_connection()],
        "calls": [],
    }  # fmt: skip

    verdict = judge(**asked | changes)

    assert (verdict.allowed, verdict.rule, verdict.connection_id) == (False, rule, "")
    assert verdict.reason


def test_the_brief_chooses_among_several_connections() -> None:
    verdict = judge("cms.create_draft", DRAFT, a_grant(connection_id="b"), [a_connection("a"), a_connection("b")], [])

    assert (verdict.allowed, verdict.connection_id) == (True, "b")


def test_a_tenant_may_let_its_admins_agents_publish_without_approval() -> None:
    grant = a_grant(definition=PUBLISHER, role="tenant_admin", policy=Policy(send="allowed"))

    assert judge("cms.publish", {"id": "1"}, grant, [a_connection()], []).allowed


def test_every_effect_needs_a_feature_of_the_role_table() -> None:
    assert set(NEEDED) == {"read", "write", "send", "money", "destroy"}
    assert {operation.effect for operation in operations().values()} <= set(NEEDED)


def test_equal_requests_have_equal_digests_however_they_are_written() -> None:
    first = digest_of("cms.create_draft", {"title": "Tea", "body": "b"})

    assert first == digest_of("cms.create_draft", {"body": "b", "excerpt": "", "title": "Tea"})
    assert first != digest_of("cms.create_draft", {"title": "Tea", "body": "c"})
    assert first != digest_of("cms.update_draft", {"title": "Tea", "body": "b"})


def test_a_call_that_failed_keeps_its_key_and_one_that_succeeded_gives_way_to_a_new_one() -> None:
    grant = a_grant()
    first = idempotency_key(grant, a_call(1), [])
    failed = idempotency_key(grant, a_call(3), [a_call(1, outcome="failed")])
    again = idempotency_key(grant, a_call(3), [a_call(1, outcome="succeeded")])

    assert first == failed
    assert again != first
    assert idempotency_key(a_grant(run_id="run-2"), a_call(1), []) != first


def test_a_key_does_not_change_by_what_came_later() -> None:
    later = [a_call(1, outcome="succeeded"), a_call(3, outcome="succeeded")]

    assert idempotency_key(a_grant(), a_call(1), later) == idempotency_key(a_grant(), a_call(1), [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@examples(
    operation=st.sampled_from([*operations(), "cms.", "agent.run", "x"]) | st.text(max_size=30),
    arguments=st.dictionaries(st.sampled_from(["id", "title", "body", "limit", "tenant_id"]), JSON, max_size=4),
    role=st.sampled_from(["tenant_user", "tenant_admin", "super_admin", "service", "nobody", ""]),
)
def test_no_model_output_escapes_the_list_of_the_agent_and_the_types_of_its_operations(
    operation: str, arguments: dict[str, Any], role: str
) -> None:
    verdict = judge(operation, arguments, a_grant(role=role), [a_connection()], [])

    if verdict.allowed:
        assert operation in an_agent().tools
        msgspec.convert(arguments, operations()[operation].request)
        assert role in ("tenant_user", "tenant_admin", "super_admin", "service")
