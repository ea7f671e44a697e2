"""Whether a message is still understood after a change to its type.

Two directions can break. *New code reads old bytes*: events are stored for
ever, commands and replies are under way during a deployment. *Old code reads
new bytes*: an event reaches consumers that are not deployed yet, a result a
caller that is not; both decode strictly, so a value they do not know stops
them. A command is read by one service alone, and that one is deployed first.

    change                                            event   result  command
    type removed without an upcaster                  breaks  breaks  breaks
    field removed, renamed or retyped                 breaks  breaks  breaks
    field newly required, new field without default   breaks  breaks  breaks
    default changed: old bytes get another meaning    breaks  breaks  breaks
    fewer values: enum narrowed, null not taken       breaks  breaks  breaks
    more values: enum widened, null taken             breaks  breaks  fine
    new type, new field with default, a default given fine    fine    fine

A default given to a required field is fine because defaults are written out.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import zip_longest
from typing import Any, NamedTuple

Schema = dict[str, Any]

_ABSENT = object()
_UNDERSTOOD = {
    "type", "format", "contentEncoding", "enum", "anyOf", "discriminator", "$ref", "$defs", "$schema", "items",
    "prefixItems", "properties", "additionalProperties", "required", "default", "title", "description",
}  # fmt: skip
"""Every other keyword is a constraint on values, such as `maxLength`."""


class Change(NamedTuple):
    """How the code differs from what is written down; `breaks` when somebody would not understand it any more."""

    type: str
    field: str
    """The path in the message, such as `connectors[].kind`; empty: the message itself."""
    what: str
    remedy: str
    breaks: bool

    def __str__(self) -> str:
        field = f" field {self.field}:" if self.field else ""
        return f"{self.type}:{field} {self.what}. {self.remedy}"


class Risk(Enum):
    """Whom a change can hurt."""

    NONE = "nobody"
    OLD_READERS = "who is not deployed yet"
    ALL_READERS = "everybody"


class _Found(NamedTuple):
    field: str
    what: str
    risk: Risk
    remedy: str = ""


def compare(type_name: str, old: Schema, new: Schema) -> list[Change]:
    """What changed from one schema of a message type to another, as `schemas.schema_of` makes them."""
    found = [*_roles(old, new), *_Walk(old.get("$defs", {}), new.get("$defs", {})).struct("", old, new)]
    return [_judge(type_name, new.get("x-kind"), each) for each in found]


def next_version(type_name: str) -> str:
    """`secret.rotated.v2` of `secret.rotated.v1`."""
    stem, _, version = type_name.rpartition(".v")
    return f"{stem}.v{int(version) + 1}" if version.isdigit() else f"{type_name}.v2"


def _judge(type_name: str, kind: str | None, found: _Found) -> Change:
    harmless = {Risk.NONE, Risk.OLD_READERS} if kind == "command" else {Risk.NONE}
    breaks = found.risk not in harmless
    remedy = "Record it: bizos schemas export."
    if breaks:
        new_type = f"Leave it as it was; publish the new meaning as {next_version(type_name)} with an upcaster."
        remedy = found.remedy or new_type
    return Change(type_name, found.field, found.what, remedy, breaks)


def _roles(old: Schema, new: Schema) -> Iterator[_Found]:
    for keyword in ("x-kind", "x-service"):
        before, after = old.get(keyword), new.get(keyword)
        if before != after:
            yield _Found("", f"its {keyword[2:]} changed from {before} to {after}", Risk.ALL_READERS)


class _Walk:
    """Follows two schemas side by side; `$ref` of each leads into its own definitions."""

    def __init__(self, old_defs: Mapping[str, Schema], new_defs: Mapping[str, Schema]) -> None:
        self._old_defs = old_defs
        self._new_defs = new_defs
        self._visited: set[tuple[int, int]] = set()

    def struct(self, path: str, old: Schema, new: Schema) -> Iterator[_Found]:
        if (id(old), id(new)) in self._visited:
            return
        self._visited.add((id(old), id(new)))
        before, after = old.get("properties", {}), new.get("properties", {})
        added = [name for name in after if name not in before]
        for name in before:
            field = f"{path}.{name}" if path else name
            if name in after:
                yield from self._required(field, name, old, new)
                yield from self.value(field, before[name], after[name])
                continue
            alike = next((other for other in added if _shape(after[other]) == _shape(before[name])), None)
            if alike is not None:
                added.remove(alike)
            what = "was removed" if alike is None else f"was removed, or renamed to {alike}"
            yield _Found(field, what, Risk.ALL_READERS)
        for name in added:
            field = f"{path}.{name}" if path else name
            if name in new.get("required", ()):
                yield _Found(field, "is new and has no default", Risk.ALL_READERS, "Give it a default.")
            else:
                yield _Found(field, "is new", Risk.NONE)

    def _required(self, field: str, name: str, old: Schema, new: Schema) -> Iterator[_Found]:
        was, is_now = (name in schema.get("required", ()) for schema in (old, new))
        before, after = (schema["properties"][name].get("default", _ABSENT) for schema in (old, new))
        if is_now and not was:
            yield _Found(field, "is newly required", Risk.ALL_READERS, "Give it its default back.")
        elif was and not is_now:
            yield _Found(field, "has a default now", Risk.NONE)
        elif before != after:
            what = f"has another default, {_words(after)} instead of {_words(before)}"
            yield _Found(field, what, Risk.ALL_READERS, "Keep the default: what was written without it relies on it.")

    def value(self, field: str, old: Schema, new: Schema) -> Iterator[_Found]:
        before, after = dict(_kinds(old, self._old_defs)), dict(_kinds(new, self._new_defs))
        if not (before.keys() & after.keys()) - {"null"} and before != after:
            what = f"was retyped from {' or '.join(before)} to {' or '.join(after)}"
            yield _Found(field, what, Risk.ALL_READERS)
            return
        for kind in before.keys() - after.keys():
            yield _Found(field, f"takes {kind} no longer", Risk.ALL_READERS)
        for kind in after.keys() - before.keys():
            yield _Found(field, f"takes {kind} as well", Risk.OLD_READERS)
        for kind in before.keys() & after.keys():
            yield from self._same_kind(field, before[kind], after[kind])

    def _same_kind(self, field: str, old: Schema, new: Schema) -> Iterator[_Found]:
        yield from _values(field, old.get("enum"), new.get("enum"))
        for keyword in sorted((old.keys() | new.keys()) - _UNDERSTOOD):
            if keyword in new and old.get(keyword) != new[keyword]:
                yield _Found(field, f"has {keyword} {_words(new[keyword])}, which it had not", Risk.ALL_READERS)
            elif keyword not in new:
                yield _Found(field, f"has {keyword} no longer", Risk.OLD_READERS)
        if "properties" in old:
            yield from self.struct(field, old, new)
        elif old.get("type") == "object":
            before, after = old.get("additionalProperties", {}), new.get("additionalProperties", {})
            yield from self.value(f"{field}{{}}", before, after)
        elif old.get("type") == "array":
            yield from self.value(f"{field}[]", old.get("items") or {}, new.get("items") or {})
            for n, place in enumerate(zip_longest(old.get("prefixItems", ()), new.get("prefixItems", ()))):
                yield from self.value(f"{field}[{n}]", place[0] or {}, place[1] or {})


def _values(field: str, old: list[Any] | None, new: list[Any] | None) -> Iterator[_Found]:
    if old is not None and new is not None:
        if gone := [value for value in old if value not in new]:
            yield _Found(field, f"takes {', '.join(map(_words, gone))} no longer", Risk.ALL_READERS)
        if come := [value for value in new if value not in old]:
            yield _Found(field, f"takes {', '.join(map(_words, come))} as well", Risk.OLD_READERS)
    elif new is not None:
        yield _Found(field, f"takes {', '.join(map(_words, new))} only", Risk.ALL_READERS)
    elif old is not None:
        yield _Found(field, "takes any value instead of a list of them", Risk.OLD_READERS)


def _kinds(node: Schema, defs: Mapping[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """The kinds of JSON value that a schema takes, each with what more is said of it."""
    if "$ref" in node:
        yield from _kinds(defs[node["$ref"].rpartition("/")[2]], defs)
    elif "anyOf" in node:
        for choice in node["anyOf"]:
            yield from _kinds(choice, defs)
    elif "enum" in node:
        for python, kind in ((str, "string"), (int, "integer"), (type(None), "null")):
            if values := [value for value in node["enum"] if type(value) is python]:
                yield kind, {**node, "enum": values} if python is not type(None) else {}
    elif "properties" in node:
        tag = node["properties"].get("type", {}).get("enum")
        yield f"object {tag[0]}" if tag else "object", node
    elif node.get("type") == "object":
        yield "map", node
    else:
        detail = node.get("format") or node.get("contentEncoding")
        yield f"{node.get('type', 'any value')}{f' ({detail})' if detail else ''}", node


def _shape(node: Schema) -> Schema:
    return {keyword: value for keyword, value in node.items() if keyword not in {"description", "title"}}


def _words(value: object) -> str:
    return "none" if value is _ABSENT else repr(value) if isinstance(value, str) else str(value)
