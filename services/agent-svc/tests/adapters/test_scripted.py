"""The scripted model: deterministic, offline, and good for any schema."""

import json
from typing import Any

import msgspec
import pytest

from agent_svc.adapters.models._article import write_article
from agent_svc.adapters.models.scripted import ScriptedModel, fill
from bizosaas_ports.capabilities import operations
from bizosaas_ports.model import ChatMessage, ToolOffer, ToolRequest

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topic": {"type": "string"},
        "kind": {"enum": ["a", "b"]},
        "count": {"type": "integer", "minimum": 3},
        "inner": {"$ref": "#/$defs/Inner"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "left_out": {"type": "string"},
        "rows": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Inner"}},
    },
    "required": ["topic", "kind", "count", "inner", "maybe", "rows"],
    "$defs": {"Inner": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}},
}


def test_a_schema_is_filled_from_the_sources_and_what_is_required_is_invented() -> None:
    assert fill(SCHEMA, [{"topic": "Tea", "kind": "z", "left_out": 5}], SCHEMA) == {
        "topic": "Tea", "kind": "a", "count": 3, "inner": {"ok": False}, "maybe": "Simulated maybe",
        "rows": [{"ok": False}],
    }  # fmt: skip


@pytest.mark.parametrize("name", operations())
def test_it_can_ask_for_every_operation_there_is(name: str) -> None:
    request = operations()[name].request
    schema = msgspec.json.schema(request)

    msgspec.convert(fill(schema, [{"id": 7, "limit": True, "title": ["no"]}], schema), request)


async def test_it_walks_through_the_tools_and_then_answers() -> None:
    tools = [
        ToolOffer(name=f"cms_{n}", description="", schema=msgspec.json.schema(operations()[f"cms.{n}"].request))
        for n in ("list_content", "create_draft")
    ]
    messages = [ChatMessage(role="user", content='Write from {this}: {"topic": "Tea", "audience": "you"} now')]
    model = ScriptedModel()

    first = await model.complete(messages, tools=tools, output_schema=SCHEMA)
    messages += [
        ChatMessage(role="assistant", content="", tool_calls=first.tool_requests),
        ChatMessage(role="tool", content='{"items": [{"title": "Tea"}], "total": 1}', tool_call_id="call_1"),
    ]
    second = await model.complete(messages, tools=tools, output_schema=SCHEMA)
    again = await model.complete(messages, tools=tools, output_schema=SCHEMA)
    messages.append(
        ChatMessage(
            role="assistant", content="", tool_calls=[ToolRequest(id="2", name="cms_create_draft", arguments={})]
        )
    )
    last = await model.complete(messages, tools=tools, output_schema=SCHEMA)

    assert first.tool_requests[0].name == "cms_list_content"
    assert second == again
    assert second.tool_requests[0].arguments["title"] == "Tea: a guide for you"
    assert json.loads(last.text)["topic"] == "Tea"


def test_an_article_takes_the_words_of_the_brief_as_text_and_says_that_it_is_simulated() -> None:
    article = write_article({"topic": "<script>x</script>", "audience": "a & b", "keywords": ["<b>"]}, ["<i>"])

    assert "<script>" not in article["body"]
    assert "<b>" not in article["body"]
    assert "a &amp; b" in article["body"]
    assert "Simulated text" in article["body"]


def test_an_empty_brief_gives_an_article_too() -> None:
    assert write_article({}, [])["title"]
