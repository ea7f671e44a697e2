"""Where two runs of events differ, field by field."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from ..codec import Codec, type_of
from ..envelope import Envelope
from .folding import decoded
from .masking import PSEUDONYM

COMPARED = ("id", "type", "time", "tenantid", "actorid", "actorrole", "correlationid", "causationid")
"""The attributes that `differences` compares beside the data: where an event is stored is no difference."""


class Difference(NamedTuple):
    """Where two recordings differ: at one version of one stream, in one field (`""`: only one of them has it)."""

    stream: str
    version: int
    field: str
    one: Any
    other: Any
    names: tuple[str, str] = ("one", "other")

    def __str__(self) -> str:
        where = f"{self.stream} version {self.version}"
        if not self.field:
            has = 0 if self.other is None else 1
            return f"{where}: only {self.names[has]} has {self.one or self.other}"
        return f"{where}: {self.field}: {self.names[0]} {self.one!r}, {self.names[1]} {self.other!r}"


def differences(
    one: Iterable[Envelope], other: Iterable[Envelope], codec: Codec, *, ignoring: Iterable[str] = (),
    names: tuple[str, str] = ("one", "other"),
) -> list[Difference]:  # fmt: skip
    """Where two runs differ, event by event and field by field; `ignoring` names attributes and paths in the data.

    Events are compared as today's code reads them. Pseudonyms are equal when
    each always meets the same other one: two recordings of the same events
    have different ones.
    """
    ignored, known = set(ignoring), _Pseudonyms()
    ours, theirs = ({(e.subject, e.streamversion): e for e in side} for side in (one, other))
    found: list[Difference] = []
    for stream, version in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get((stream, version)), theirs.get((stream, version))
        if a is None or b is None:
            found.append(Difference(stream, version, "", a and a.type, b and b.type, names))
            continue
        a, b = _today(a, codec), _today(b, codec)
        pairs = [(name, getattr(a, name), getattr(b, name)) for name in COMPARED]
        pairs += _pairs(msgspec.json.decode(a.data), msgspec.json.decode(b.data), "")
        found += [
            Difference(stream, version, field, mine, yours, names)
            for field, mine, yours in pairs
            if field not in ignored and not known.alike(mine, yours)
        ]
    return found


class _Pseudonyms:
    """Which pseudonym of one side is which on the other."""

    def __init__(self) -> None:
        self._met: tuple[dict[str, str], dict[str, str]] = ({}, {})

    def alike(self, a: Any, b: Any) -> bool:
        if not (isinstance(a, str) and isinstance(b, str)):
            return bool(a == b)
        if PSEUDONYM.fullmatch(a) or PSEUDONYM.fullmatch(b):
            return self._same(a, b)
        return PSEUDONYM.split(a) == PSEUDONYM.split(b) and all(
            self._same(x, y) for x, y in zip(PSEUDONYM.findall(a), PSEUDONYM.findall(b), strict=True)
        )

    def _same(self, a: str, b: str) -> bool:
        return self._met[0].setdefault(a, b) == b and self._met[1].setdefault(b, a) == a


def _today(envelope: Envelope, codec: Codec) -> Envelope:
    """With fields that came later and in place of a retired type the new one."""
    event = decoded(envelope, codec)
    if event is None:
        return envelope
    return msgspec.structs.replace(envelope, type=type_of(event), data=codec.encode(event))


def _pairs(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The leaves of two payloads side by side; None where one has nothing."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            if path or key != "type":
                yield from _pairs(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for n, (mine, yours) in enumerate(zip(a, b, strict=True)):
            yield from _pairs(mine, yours, f"{path}[{n}]")
    else:
        yield path, a, b
