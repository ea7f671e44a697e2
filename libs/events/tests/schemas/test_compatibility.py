"""Which changes to a message somebody would not understand: one line a rule, and the rules tried on random changes."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bizosaas_events import Command, Event, Message, Result
from bizosaas_events.compatibility import compare, next_version
from bizosaas_events.schemas import example, schema_of

KINDS: dict[str, type[Message]] = {"event": Event, "result": Result, "command": Command}
Fields = dict[str, Any]
"""Name to type, or to a pair of type and default."""


class Line(msgspec.Struct):
    text: str
    count: int = 0


class LongerLine(msgspec.Struct):
    text: str
    count: int = 0
    unit: str = "piece"


class ShorterLine(msgspec.Struct):
    text: str


def a_message(kind: str, fields: Fields) -> type[Message]:
    listed = [(name, *said) if isinstance(said, tuple) else (name, said) for name, said in fields.items()]
    namespace = {"service": "shop"} if kind == "command" else {}
    made = msgspec.defstruct(
        "Ordered", listed, bases=(KINDS[kind],), namespace=namespace, tag="shop.order.v1", frozen=True, kw_only=True
    )
    assert issubclass(made, Message)
    return made


def breaking(kind: str, old: Fields, new: Fields) -> list[tuple[str, str]]:
    changes = compare("shop.order.v1", schema_of(a_message(kind, old)), schema_of(a_message(kind, new)))
    return [(change.field, change.what) for change in changes if change.breaks]


EVERYBODY: list[tuple[str, Fields, Fields, tuple[str, str]]] = [
    ("removed", {"a": int, "b": str}, {"b": str}, ("a", "was removed")),
    ("renamed", {"a": int, "b": str}, {"b": str, "c": int}, ("a", "was removed, or renamed to c")),
    ("retyped", {"a": int}, {"a": str}, ("a", "was retyped from integer to string")),
    ("a number retyped", {"a": int}, {"a": float}, ("a", "was retyped from integer to number")),
    ("a time retyped", {"a": datetime}, {"a": str}, ("a", "was retyped from string (date-time) to string")),
    (
        "an optional time retyped",
        {"a": datetime | None},
        {"a": str | None},
        ("a", "was retyped from string (date-time) or null to string or null"),
    ),
    ("bytes retyped", {"a": bytes}, {"a": str}, ("a", "was retyped from string (base64) to string")),
    ("items retyped", {"a": list[int]}, {"a": list[str]}, ("a[]", "was retyped from integer to string")),
    ("map values retyped", {"a": dict[str, int]}, {"a": dict[str, str]}, ("a{}", "was retyped from integer to string")),
    ("one became many", {"a": str}, {"a": list[str]}, ("a", "was retyped from string to array")),
    ("anything became something", {"a": Any}, {"a": int}, ("a", "was retyped from any value to integer")),
    ("newly required", {"a": (int, 0)}, {"a": int}, ("a", "is newly required")),
    ("new and required", {}, {"a": int}, ("a", "is new and has no default")),
    ("another default", {"a": (int, 0)}, {"a": (int, 1)}, ("a", "has another default, 1 instead of 0")),
    ("enum narrowed", {"a": Literal["x", "y"]}, {"a": Literal["x"]}, ("a", "takes 'y' no longer")),
    ("text became an enum", {"a": str}, {"a": Literal["x", "y"]}, ("a", "takes 'x', 'y' only")),
    ("null not taken", {"a": int | None}, {"a": int}, ("a", "takes null no longer")),
    ("fewer types", {"a": int | str}, {"a": int}, ("a", "takes string no longer")),
    ("removed inside", {"a": list[Line]}, {"a": list[ShorterLine]}, ("a[].count", "was removed")),
    ("place retyped", {"a": tuple[int, int]}, {"a": tuple[int, str]}, ("a[1]", "was retyped from integer to string")),
    (
        "a limit",
        {"a": str},
        {"a": Annotated[str, msgspec.Meta(max_length=3)]},
        ("a", "has maxLength 3, which it had not"),
    ),
]
OLD_READERS: list[tuple[str, Fields, Fields, tuple[str, str]]] = [
    ("enum widened", {"a": Literal["x"]}, {"a": Literal["x", "y"]}, ("a", "takes 'y' as well")),
    ("an enum became text", {"a": Literal["x"]}, {"a": str}, ("a", "takes any value instead of a list of them")),
    ("null taken", {"a": int}, {"a": int | None}, ("a", "takes null as well")),
    ("more types", {"a": int}, {"a": int | str}, ("a", "takes string as well")),
]
NOBODY: list[tuple[str, Fields, Fields]] = [
    ("nothing", {"a": int, "b": (str, "")}, {"a": int, "b": (str, "")}),
    ("another order", {"a": int, "b": str}, {"b": str, "a": int}),
    ("new with a default", {"a": int}, {"a": int, "b": (str, "")}),
    ("a default given", {"a": int}, {"a": (int, 0)}),
    ("new with a default inside", {"a": list[Line]}, {"a": list[LongerLine]}),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "new", "found"), [row[1:] for row in EVERYBODY], ids=[row[0] for row in EVERYBODY])
def test_what_nobody_would_understand_breaks(kind: str, old: Fields, new: Fields, found: tuple[str, str]) -> None:
    assert breaking(kind, old, new) == [found]


@pytest.mark.parametrize(("old", "new", "found"), [row[1:] for row in OLD_READERS], ids=[row[0] for row in OLD_READERS])
def test_more_values_break_whoever_is_not_deployed_yet_but_not_the_one_service_that_reads_a_command(
    old: Fields, new: Fields, found: tuple[str, str]
) -> None:
    assert breaking("event", old, new) == breaking("result", old, new) == [found]
    assert breaking("command", old, new) == []
    assert breaking("command", new, old) != []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "new"), [row[1:] for row in NOBODY], ids=[row[0] for row in NOBODY])
def test_what_only_adds_breaks_nobody(kind: str, old: Fields, new: Fields) -> None:
    assert breaking(kind, old, new) == []


def test_a_command_cannot_move_and_a_kind_cannot_change() -> None:
    order = schema_of(a_message("command", {}))
    moved = {**order, "x-service": "warehouse"}
    event = schema_of(a_message("event", {}))

    assert "its service changed from shop to warehouse" in str(compare("shop.order.v1", order, moved)[0])
    assert any("its kind changed from command to event" in str(c) for c in compare("shop.order.v1", order, event))


def test_a_change_names_message_field_and_remedy() -> None:
    (change,) = compare(
        "shop.order.v1", schema_of(a_message("event", {"a": int})), schema_of(a_message("event", {"a": str}))
    )

    assert str(change) == (
        "shop.order.v1: field a: was retyped from integer to string. "
        "Leave it as it was; publish the new meaning as shop.order.v2 with an upcaster."
    )
    assert next_version("shop.order.v9") == "shop.order.v10"


def test_a_type_that_holds_itself_is_compared_to_its_end() -> None:
    tree = {"$ref": "#/$defs/Tree"}
    holds = {"properties": {"leaf": {"type": "string"}, "branches": {"type": "array", "items": tree}}}
    changed = {"properties": {**holds["properties"], "leaf": {"type": "integer"}}}

    def a_forest(of: dict[str, Any]) -> dict[str, Any]:
        return {"properties": {"trees": tree}, "$defs": {"Tree": of}}

    assert [change.field for change in compare("t.v1", a_forest(holds), a_forest(changed))] == ["trees.leaf"]


VALUES = st.sampled_from(
    [
        int, float, str, bytes, bool, datetime, list[int], list[str], dict[str, int], Line, LongerLine, ShorterLine,
        Literal["x"], Literal["x", "y"], int | None, str | None, int | str, Literal["x", "y"] | None,
    ]
)  # fmt: skip
DEFAULTS: dict[Any, Any] = {int: [0, 1], str: ["", "x"], int | None: [None, 0], Literal["x", "y"]: ["x", "y"]}


@st.composite
def some_fields(draw: st.DrawFn) -> Fields:
    fields: Fields = {}
    for name in draw(st.sets(st.sampled_from("abcd"))):
        kind = draw(VALUES)
        defaults = DEFAULTS.get(kind, [])
        fields[name] = (kind, draw(st.sampled_from(defaults))) if defaults and draw(st.booleans()) else kind
    return fields


@st.composite
def some_change(draw: st.DrawFn) -> tuple[Fields, Fields]:
    """Two sets of fields that have most of them in common."""
    old, other = draw(some_fields()), draw(some_fields())
    touched = draw(st.sets(st.sampled_from("abcd"), max_size=2))
    new = {name: said for name, said in old.items() if name not in touched}
    return old, new | {name: said for name, said in other.items() if name in touched}


def payloads(fields: Fields) -> list[bytes]:
    """What the type writes: every value of an enum and null are among them."""
    made = []
    schema = schema_of(a_message("event", fields))
    for variant in range(3):
        payload = example(schema)
        for name, node in schema["properties"].items():
            choices = [value for choice in node.get("anyOf", [node]) for value in variants(choice)]
            if choices and name != "type":
                payload[name] = choices[variant % len(choices)]
        made.append(msgspec.json.encode(payload))
    return made


def variants(node: dict[str, Any]) -> list[Any]:
    match node:
        case {"enum": list(values)}:
            return values
        case {"format": _} | {"contentEncoding": _}:
            return []
        case {"type": "null"}:
            return [None]
        case {"type": "string"}:
            return ["other"]
        case {"type": "integer"}:
            return [5]
    return []


@settings(deadline=None)
@given(some_change())
def test_whatever_is_let_through_is_understood_in_both_directions(change: tuple[Fields, Fields]) -> None:
    old, new = change
    if not breaking("event", old, new):
        for data in payloads(old):
            msgspec.json.decode(data, type=a_message("event", new))
        for data in payloads(new):
            msgspec.json.decode(data, type=a_message("event", old))
    if not breaking("command", old, new):
        for data in payloads(old):
            msgspec.json.decode(data, type=a_message("command", new))


@settings(deadline=None)
@given(some_fields())
def test_a_message_is_compatible_with_itself_and_its_example_is_one_of_it(fields: Fields) -> None:
    message = a_message("event", fields)
    assert compare("shop.order.v1", schema_of(message), schema_of(message)) == []
    msgspec.json.decode(msgspec.json.encode(example(schema_of(message))), type=message)
