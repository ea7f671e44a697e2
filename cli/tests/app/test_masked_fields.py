"""Whoever gives an event a new text field has to say whether it is a person's."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bizosaas_cli.recordings import KEPT
from bizosaas_events import Event, messages
from bizosaas_events.codec import type_of
from bizosaas_events.schemas import components
from bizosaas_events.testing.masking import PERSONAL_DATA
from bizosaas_ports.capabilities import operations

NOBODYS = frozenset({
    "agent_id", "arguments_digest", "category", "connector", "consumer", "cursor", "decided_by", "definition", "detail",
    "digest", "failure", "fields", "fingerprint", "goal", "idempotency_key", "letter_ids", "message_type", "model",
    "operation", "operations", "output", "output_digest", "output_type", "projection", "purpose", "reason", "requested_by",
    "resource_type", "rule", "scopes", "subject", "tier", "tools",
})  # fmt: skip
"""Words and digests of ours, and who acted, by id. Names and addresses that a `detail` or `reason` repeats are found
and masked there, too."""
LOOKED_INTO = frozenset({"arguments", "input"})
"""Filled by others; their fields are masked by their names."""

NO_PERSONS = frozenset({
    "agent.agent.published.v1:name", "connector.connection.established.v1:account",
    "connector.connection.renamed.v1:label", "connector.connection.requested.v1:label",
    "connector.connection.requested.v1:settings", "tenant.tenant.created.v1:name", "tenant.tenant.created.v1:slug",
    "workflow.approval.decided.v1:comment", "workflow.workflow.started.v1:name",
})  # fmt: skip
"""What a business is and calls its things, and what its people write for it: the tenant's, not a member's own."""

EVENTS = [cls for cls in messages.codec().types.values() if issubclass(cls, Event)]
REQUESTS = [operation.request for operation in operations().values()]


def text_fields(cls: type[msgspec.Struct]) -> Iterator[str]:
    schema = components([cls], "{name}")[1][cls.__name__]
    yield from (name for name, field in schema["properties"].items() if name != "type" and holds_text(field))


def holds_text(schema: dict[str, Any]) -> bool:
    """Text that is no word of a closed list, or anything at all."""
    if "enum" in schema:
        return False
    inner = [*schema.get("anyOf", ()), *(schema[key] for key in ("items", "additionalProperties") if key in schema)]
    return (schema.get("type") == "string" and "format" not in schema) or any(
        each is True or each == {} or (isinstance(each, dict) and holds_text(each)) for each in inner
    )


@pytest.mark.parametrize("cls", [*EVENTS, *REQUESTS], ids=lambda cls: cls.__name__)
def test_every_text_field_is_known_to_be_personal_or_not(cls: type[msgspec.Struct]) -> None:
    unknown = [
        name
        for name in text_fields(cls)
        if not (PERSONAL_DATA.names(name) or name in NOBODYS | LOOKED_INTO or name == "id" or name.endswith("_id"))
    ]
    assert unknown == [], "add it to PERSONAL of bizosaas_events.testing.masking, or to NOBODYS here"


def test_what_is_kept_is_there_and_would_be_masked() -> None:
    fields = {f"{type_of(cls)}:{name}" for cls in EVENTS for name in text_fields(cls) if PERSONAL_DATA.names(name)}
    assert fields >= KEPT


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_every_field_that_may_be_personal_is_closed_or_known_to_be_no_persons(cls: type[Event]) -> None:
    named = [name for name in text_fields(cls) if PERSONAL_DATA.names(name) and name not in NOBODYS]
    maybe = {f"{type_of(cls)}:{name}" for name in named}
    judged = {name for name in NO_PERSONS if name.startswith(f"{type_of(cls)}:")}
    closed = {f"{type_of(cls)}:{name}" for name in cls.personal}
    assert maybe - closed == judged, "name it in the event's `personal`, so that it can be erased, or in NO_PERSONS"
