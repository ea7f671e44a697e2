"""Events in words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bizosaas_events import Envelope, Event, messages
from bizosaas_events.messages.agent import ToolCallDecided
from bizosaas_events.messages.connector import AuthorizationStarted, CallSucceeded, ConnectionRequested
from bizosaas_events.messages.tenant import MemberAdded
from bizosaas_events.messages.workflow import ApprovalDecided, ApprovalRequested
from bizosaas_events.words import LONGEST, actors_in, name_of, words_of

BEGIN = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)

NAMES = {"member:ann": "Ann Admin", "agent:run-1": "the agent Content creator"}


def told(event: Event | None, actor: str = "member:ann") -> str:
    envelope = Envelope(
        id="018f0000-0000-7000-8000-000000000000", source="x-svc", type="x.y.z.v1", subject="y-1", time=BEGIN,
        tenantid="acme", actorid=actor, actorrole="tenant_admin", correlationid="c", causationid="c",
    )  # fmt: skip
    return words_of(event, envelope, NAMES)


def requested(arguments: dict[str, Any]) -> ApprovalRequested:
    return ApprovalRequested(
        approval_id="a", workflow_id="w", operation="cms.publish", connection_id="c", arguments=arguments,
        arguments_digest="d", requested_by="agent:run-1", deadline=datetime(2026, 11, 25, tzinfo=UTC),
    )  # fmt: skip


def test_people_are_called_by_their_names() -> None:
    event = ConnectionRequested(
        connection_id="c", connector="wordpress", label="Our blog", settings={}, method="credentials"
    )
    assert told(event) == "Ann Admin asked to connect wordpress as “Our blog”"


def test_names_stand_for_references_in_the_event_too() -> None:
    assert told(requested({"id": "12", "notify": True})) == (
        "the agent Content creator asked for approval of cms.publish with id “12”, notify yes"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "none"),
        ({"tags": ["a", "b"]}, "tags a, b"),
        ({"tags": []}, "tags none"),
        ({"n": 1.50, "none": None}, "n 1.5, none nothing"),
        ({"post": {"id": 3}}, "post (id 3)"),
        ({"text": "two\nlines\tand  spaces"}, "text “two lines and spaces”"),
        ({"{actor}": "{braces}"}, "{actor} “{braces}”"),
    ],
)
def test_values_are_told_readably(value: dict[str, Any], words: str) -> None:
    assert told(requested(value)).endswith(f" with {words}")


def test_a_long_value_is_cut() -> None:
    said = told(requested({"body": "x" * 5000}))
    assert said.endswith("…")
    assert len(said) < LONGEST + 100


def test_what_is_empty_leaves_no_trace() -> None:
    decided = ToolCallDecided(
        run_id="r", step=1, operation="cms.list_content", effect="read", verdict="allowed", arguments_digest="d"
    )
    assert told(decided) == "the tool gate allowed cms.list_content"
    succeeded = CallSucceeded(
        call_id="c", connection_id="c", operation="cms.list_content", resource_type="post", count=3, status=200,
        duration_ms=41, bytes=1, digest="d",
    )  # fmt: skip
    assert told(succeeded) == "cms.list_content succeeded (200, 41 ms): 3 × post"


def test_services_and_strangers_are_told_in_words() -> None:
    assert name_of("service:connector-svc", NAMES) == "the connector service"
    assert name_of("member:bob", NAMES) == "member bob"
    assert name_of("", NAMES) == ""


def test_a_message_from_a_newer_version_is_told_by_its_type() -> None:
    assert told(None) == "Ann Admin caused x.y.z.v1"


def test_a_field_that_a_sentence_names_and_the_event_lacks_is_told_as_unknown() -> None:
    class Odd(Event, frozen=True, kw_only=True, tag="x.y.odd.v1"):
        says = "{actor} did {something} odd"

    assert told(Odd()) == "Ann Admin did (unknown) odd"


def test_everybody_who_may_be_named_is_found() -> None:
    envelope_actor = "member:ann"
    event = requested({"by": "member:not-this-deep"})
    envelope = Envelope(
        id="018f0000-0000-7000-8000-000000000000", source="x-svc", type="x", subject="y", time=BEGIN, tenantid="acme",
        actorid=envelope_actor, actorrole="", correlationid="", causationid="",
    )  # fmt: skip
    assert actors_in(event, envelope) == {"member:ann", "agent:run-1"}
    assert actors_in(None, envelope) == {"member:ann"}


@pytest.mark.parametrize("event", [
    MemberAdded(member_id="m", tenant_id="acme", email="bob@acme.test", name="Bob", role="tenant_user"),
    AuthorizationStarted(connection_id="c", scopes=["read", "write"], expires_at=BEGIN),
    ApprovalDecided(approval_id="a", workflow_id="w", operation="cms.publish", verdict="approved"),
])  # fmt: skip
def test_the_words_of_the_story_hold_no_leftovers(event: Event) -> None:
    said = told(event)
    assert said.startswith("Ann Admin ")
    assert "{" not in said
    assert "  " not in said


def test_every_event_of_the_platform_has_words() -> None:
    for found in messages.codec().types.values():
        if issubclass(found, Event):
            assert found.says
