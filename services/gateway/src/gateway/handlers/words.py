"""An event in words, for people who follow what happens."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bizosaas_events import Event

LONGEST = 500


class _Fields(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


def words_of(event: Event, actor: str, names: Mapping[str, str]) -> str:
    """The event's own sentence, filled in; `names` are the names of members by their actor string."""
    fields = _Fields(msgspec.structs.asdict(event))
    fields["actor"] = actor_name(actor, names)
    if isinstance(said := fields.get("requested_by"), str) and said:
        fields["requested_by"] = actor_name(said, names)
    return event.says.format_map(fields)[:LONGEST]


def actor_name(actor: str, names: Mapping[str, str]) -> str:
    """Who that is in words; the actor string itself where nothing better is known."""
    kind, _, id = actor.partition(":")
    if kind == "agent":
        return "an agent"
    if kind == "service":
        return id
    return names.get(actor, actor)
