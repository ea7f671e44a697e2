"""An event in words: the sentence of its message, with the names of people, agents and services."""

import re
import string
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from .envelope import Envelope, Event
from .personal import CLOSED

LONGEST = 160
"""Of one value: the history is for reading, the whole is in the event."""

_ACTOR = re.compile(r"(member|agent|service):\S+")
_SERVICE = re.compile(r"service:([a-z]+)(-svc)?")
_DANGLING = re.compile(r"[\s:;,(–-]+$")


def words_of(event: Event | None, envelope: Envelope, names: Mapping[str, str]) -> str:
    """What happened, in one line. `event` None: a message that this version does not know.

    Closed values and closed names stand in it as they are: see `personal.opened`.
    """
    if event is None or not event.says:
        return f"{name_of(envelope.actorid, names)} caused {envelope.type}"
    values = {**msgspec.structs.asdict(event), "actor": envelope.actorid}
    said = "".join(
        literal + (_value(values[field], names) if field in values else "(unknown)" if field else "")
        for literal, field, _, _ in string.Formatter().parse(event.says)
    )
    return _DANGLING.sub("", " ".join(said.split()))


def actors_in(event: Event | None, envelope: Envelope) -> set[str]:
    """Everybody whom the words of this event may name."""
    values = msgspec.structs.asdict(event).values() if event is not None else ()
    return {envelope.actorid, *(v for v in values if isinstance(v, str) and _ACTOR.fullmatch(v))}


def name_of(actor: str, names: Mapping[str, str]) -> str:
    """A person's name, or what an agent or a service is called; the bare reference where nobody is known by it."""
    if actor in names:
        return names[actor]
    service = _SERVICE.fullmatch(actor)
    return f"the {service[1]} service" if service else actor.replace(":", " ", 1)


def _value(value: Any, names: Mapping[str, str]) -> str:
    said = _plain(value, names)
    whole = len(said) <= LONGEST or CLOSED.search(said)  # what is cut could not be opened
    return said if whole else said[: LONGEST - 1] + "…"


def _plain(value: Any, names: Mapping[str, str]) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case str():
            return name_of(value, names) if _ACTOR.fullmatch(value) else value
        case datetime():
            return f"{value:%Y-%m-%d %H:%M} UTC"
        case float():
            return f"{value:g}"
        case bytes():
            return f"{len(value)} bytes"
        case Mapping():
            return _listed(f"{key} {_quoted(each, names)}" for key, each in value.items())
        case list() | tuple() | set() | frozenset():
            return _listed(_plain(each, names) for each in value)
        case msgspec.Struct():
            return _plain(msgspec.structs.asdict(value), names)
        case _:
            return str(value)


def _quoted(value: Any, names: Mapping[str, str]) -> str:
    said = _plain(value, names)
    return f"“{said}”" if isinstance(value, str) else f"({said})" if isinstance(value, Mapping) else said


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values) or "none"
