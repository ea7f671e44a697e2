"""A model that needs no network: it walks through the tools in order and fills every schema from brief and results.

Deterministic, for tests, demonstrations and machines without a provider. Its
answers are marked as simulated, in their text and in `simulated`.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bizosaas_ports.model import ChatMessage, Completion, ModelPort, ToolOffer, ToolRequest

from ._article import write_article
from ._driver import Driver

Schema = dict[str, Any]


class ScriptedModel:
    """See `ModelPort`."""

    name = "scripted"
    simulated = True

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolOffer], output_schema: Schema
    ) -> Completion:
        used = [request.name for message in messages for request in message.tool_calls]
        sources = _sources(messages)
        tokens_in = sum(len(message.content) for message in messages) // 4
        for tool in tools:
            if tool.name not in used:
                request = ToolRequest(
                    id=f"call_{len(used) + 1}", name=tool.name, arguments=fill(tool.schema, sources, tool.schema)
                )
                return Completion(tool_requests=[request], tokens_in=tokens_in, tokens_out=_tokens(request.arguments))
        answer = fill(output_schema, sources, output_schema)
        return Completion(text=json.dumps(answer, ensure_ascii=False), tokens_in=tokens_in, tokens_out=_tokens(answer))


def _tokens(value: object) -> int:
    return len(json.dumps(value)) // 4


def _sources(messages: Sequence[ChatMessage]) -> list[Mapping[str, Any]]:
    """Where values come from, the best first: the article, the brief, then what tools gave, the last one first."""
    brief = next((found for m in messages if m.role == "user" and (found := _first_object(m.content))), {})
    results = [found for m in messages if m.role == "tool" and (found := _first_object(m.content))]
    results = [result for result in results if "problem" not in result]
    items = [item for result in results for item in result.get("items", []) if isinstance(item, dict)]
    published = [str(item["title"]) for item in items if "title" in item]
    return [write_article(brief, published), brief, *reversed(results)]


def _first_object(text: str) -> dict[str, Any]:
    """The first JSON object in a text, {} when there is none."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            start = text.find("{", start + 1)
            continue
        return found if isinstance(found, dict) else {}
    return {}


def fill(schema: Schema, sources: Sequence[Mapping[str, Any]], root: Schema) -> dict[str, Any]:
    """An object that fits a schema: every property some source has, and what is required besides."""
    schema = _resolved(schema, root)
    required = schema.get("required", [])
    filled = {}
    for name, wanted in schema.get("properties", {}).items():
        wanted = _resolved(wanted, root)
        found = next((s[name] for s in sources if name in s and _fits(s[name], wanted, root)), None)
        if found is not None:
            filled[name] = found
        elif name in required:
            filled[name] = _invented(name, wanted, sources, root)
    return filled


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root.get("$defs", {})[schema["$ref"].rpartition("/")[2]]
    if len(schema.get("allOf", [])) == 1:
        return _resolved(schema["allOf"][0], root)
    return schema


def _options(schema: Schema, root: Schema) -> list[Schema]:
    return [_resolved(option, root) for option in schema.get("anyOf", [schema])]


_TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
    "null": type(None),
}  # fmt: skip


def _fits(value: Any, schema: Schema, root: Schema) -> bool:
    for option in _options(schema, root):
        if "enum" in option or "const" in option:
            if value in option.get("enum", [option.get("const")]):
                return True
            continue
        kinds = option.get("type", list(_TYPES))
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if any(isinstance(value, _TYPES[k]) and (k == "boolean") == isinstance(value, bool) for k in kinds):
            return option.get("maxLength", 1 << 30) >= len(value) if isinstance(value, str) else True
    return False


def _invented(name: str, schema: Schema, sources: Sequence[Mapping[str, Any]], root: Schema) -> Any:
    """A value for what nobody said: recognisable, and no more than the schema asks for."""
    option = _options(schema, root)[0]
    if "default" in option or "enum" in option or "const" in option:
        return option.get("default", option.get("enum", [option.get("const")])[0])
    match option.get("type"):
        case "object":
            return fill(option, sources, root)
        case "array":
            item = option.get("items", {})
            return [_invented(name, _resolved(item, root), sources, root) for _ in range(option.get("minItems", 0))]
        case "integer" | "number":
            return option.get("minimum", 0)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return f"Simulated {name.replace('_', ' ')}"


@asynccontextmanager
async def _open(_: Mapping[str, str]) -> AsyncIterator[ModelPort]:
    yield ScriptedModel()


DRIVER = Driver("scripted", _open)
