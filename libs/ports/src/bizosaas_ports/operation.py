"""What every capability port is made of: operations, each a typed request and result with an effect class."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_type_hints

import msgspec

Effect = Literal["read", "write", "send", "money", "destroy"]
Idempotency = Literal["safe", "key", "lookup", "none"]
"""How a repeat is kept harmless: `safe` (a read), `key` (the vendor takes one), `lookup` (found again before a
second try), `none` (after a broken call nobody knows: the call ends as uncertain)."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """One operation of a port, as the tool gate, the connectors and the documentation see it."""

    name: str
    """`<port>.<operation>`."""
    effect: Effect
    request: type[msgspec.Struct]
    result: type[Any]
    scope: str
    summary: str


def operation(effect: Effect) -> Callable[[F], F]:
    """Mark a method of a port Protocol as an operation with this effect class."""

    def mark(method: F) -> F:
        method.__dict__["effect"] = effect
        return method

    return mark


def operations_of(port: type, name: str) -> dict[str, Operation]:
    """The operations of a port Protocol, by `<port>.<operation>`.

    Each is `async def name(self, request: SomeStruct) -> SomeResult`.
    """
    found = {}
    for method_name, method in inspect.getmembers(port, inspect.isfunction):
        effect = method.__dict__.get("effect")
        if effect is None:
            continue
        hints = get_type_hints(method)
        full = f"{name}.{method_name}"
        found[full] = Operation(
            name=full, effect=effect, request=hints["request"], result=hints["return"], scope=full,
            summary=(inspect.getdoc(method) or "").split("\n")[0],
        )  # fmt: skip
    return found
