"""A message type as JSON Schema, with what msgspec leaves out: times, and the notes under fields."""

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from .codec import type_of
from .compatibility import Schema
from .envelope import Command, Event, Message, Result

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ANSWERS = re.compile(r"\b[Aa]nswers ([A-Z]\w+)")


def schema_of(cls: type[Message]) -> Schema:
    """The JSON Schema of one message type, complete in itself.

    Says as `x-` keywords what JSON Schema has no words for: kind, service,
    permission and, of an event, its sentence.
    """
    ((reference,), definitions) = components([cls], "#/$defs/{name}")
    root = definitions.pop(reference["$ref"].rpartition("/")[2])
    schema: Schema = {"$schema": DIALECT, "x-kind": kind_of(cls), "x-service": service_of(cls)}
    if issubclass(cls, Command):
        schema["x-permission"] = cls.permission
    if issubclass(cls, Event):
        schema["x-says"] = cls.says
    return schema | root | ({"$defs": dict(sorted(definitions.items()))} if definitions else {})


def components(types: Sequence[type[msgspec.Struct]], ref_template: str) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of several types and of everything in them, by name."""
    references, definitions = msgspec.json.schema_components(types, ref_template=ref_template)
    for info in structs_in(msgspec.inspect.multi_type_info(types)):
        # Two classes of one name are told apart by msgspec with their module.
        long_name = f"{info.cls.__module__}.{info.cls.__qualname__}"
        schema = definitions.get(long_name) or definitions[info.cls.__name__]
        for field in info.fields:
            node = schema["properties"][field.encode_name]
            _mark_times(field.type, node)
            if note := _note(info.cls, field.name):
                node["description"] = note
    return list(references), definitions


def kind_of(cls: type[Message]) -> str:
    """`command`, `event` or `result`."""
    return "command" if issubclass(cls, Command) else "event" if issubclass(cls, Event) else "result"


def service_of(cls: type[Message]) -> str:
    """Who accepts a command, records an event, answers with a result; of a command for any service, its family."""
    if issubclass(cls, Command) and not is_for_any(cls):
        return cls.service
    return type_of(cls).partition(".")[0]


def is_for_any(cls: type[Message]) -> bool:
    """Whether it is a command that every service accepts: then each instance says which one it is for."""
    return issubclass(cls, Command) and not isinstance(cls.service, str)


def sentence_of(cls: type[Message]) -> str:
    """What a message means: an event's sentence for the audit log, else the first paragraph of its docstring."""
    return cls.says if issubclass(cls, Event) else doc_of(cls).partition("\n\n")[0]


def doc_of(cls: type[Message]) -> str:
    """The docstring of its own, paragraphs in one line each; empty when it has none."""
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def answer_to(command: type[Message], types: Iterable[type[Message]]) -> type[Result] | None:
    """The result that a command's docstring promises (`answers History`), or None: it is only done or refused."""
    named = _ANSWERS.search(command.__doc__ or "")
    results = (cls for cls in types if issubclass(cls, Result))
    return next((cls for cls in results if named and cls.__name__ == named[1]), None)


def example(schema: Schema) -> dict[str, Any]:
    """A payload of this schema with every field filled in, always the same one."""
    value: dict[str, Any] = _example(schema, schema.get("$defs", {}), "")
    return value


def structs_in(info: object) -> Iterator[msgspec.inspect.StructType]:
    """Every Struct type inside a type, each class once."""
    found: dict[type, msgspec.inspect.StructType] = {}
    waiting: list[object] = [info]
    while waiting:
        match waiting.pop():
            case msgspec.inspect.StructType(cls=cls, fields=fields) as struct if cls not in found:
                found[cls] = struct
                waiting.extend(field.type for field in fields)
            case msgspec.inspect.StructType():
                continue
            case list() | tuple() as several:
                waiting.extend(several)
            case msgspec.inspect.Type() as other:
                waiting.extend(getattr(other, name) for name in other.__struct_fields__)
    yield from found.values()


def _mark_times(info: msgspec.inspect.Type, node: Schema) -> None:
    """msgspec describes a time as any string: a change from one to the other would go unseen."""
    match info:
        case msgspec.inspect.DateTimeType():
            node["format"] = "date-time"
        case msgspec.inspect.UnionType(types=types) if any(isinstance(t, msgspec.inspect.DateTimeType) for t in types):
            # A union has at most one type that is a string in JSON.
            next(choice for choice in node["anyOf"] if choice.get("type") == "string")["format"] = "date-time"
        case msgspec.inspect.CollectionType(item_type=item):
            _mark_times(item, node["items"])
        case msgspec.inspect.TupleType(item_types=items):
            for item, place in zip(items, node["prefixItems"], strict=True):
                _mark_times(item, place)
        case msgspec.inspect.DictType(value_type=value) if "additionalProperties" in node:
            _mark_times(value, node["additionalProperties"])


def _note(cls: type, field: str) -> str:
    """The string that stands under a field in the source."""
    notes = (_notes(base.__module__).get(base.__name__, {}).get(field) for base in cls.__mro__)
    return next((note for note in notes if note), "")


@cache
def _notes(module: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # made without a source file
        return {}
    return {node.name: dict(_notes_in(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _notes_in(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(note))):
                yield name, inspect.cleandoc(note)


def _example(node: Schema, defs: Mapping[str, Schema], name: str) -> Any:
    if "$ref" in node:
        return _example(defs[node["$ref"].rpartition("/")[2]], defs, name)
    if "enum" in node:
        return node["enum"][0]
    if "anyOf" in node:
        return _example(next(choice for choice in node["anyOf"] if choice.get("type") != "null"), defs, name)
    match node:
        case {"properties": properties}:
            return {field: _example(each, defs, field) for field, each in properties.items()}
        case {"type": "object"}:
            return {"key": _example(node.get("additionalProperties") or {}, defs, name)}
        case {"type": "array"}:
            places = node.get("prefixItems") or [node.get("items") or {}]
            return [_example(each, defs, name) for each in places]
        case {"type": "string", "format": format} if format in _EXAMPLES:
            return _EXAMPLES[format]
        case {"type": "string", "contentEncoding": _}:
            return "Ynl0ZXM="
        case {"type": "string"} if name.endswith("_id"):
            return _EXAMPLES["uuid"]
        case {"type": kind} if kind in _EXAMPLES:
            return _EXAMPLES[kind]
    return f"{name} é"


_EXAMPLES = {
    "integer": 7, "number": 7.5, "boolean": True, "date-time": "2026-01-02T03:04:05.678901Z", "date": "2026-01-02",
    "uuid": "01920000-0000-7000-8000-000000000001", "duration": "PT7S", "decimal": "7.5",
}  # fmt: skip
