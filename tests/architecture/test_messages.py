"""What holds for every message of the published language."""

import string
from collections.abc import Iterator

import pytest

from bizosaas_events import Command, Event, Message, messages
from bizosaas_events.codec import type_of
from bizosaas_events.schemas import is_for_any
from bizosaas_ports.access import Feature

TYPES = list(messages.codec().types.values())
EVENTS = [t for t in TYPES if issubclass(t, Event)]
COMMANDS = [t for t in TYPES if issubclass(t, Command)]


def fields_in(template: str) -> Iterator[str]:
    return (name for _, name, _, _ in string.Formatter().parse(template) if name)


@pytest.mark.parametrize("event", EVENTS, ids=type_of)
def test_every_event_says_a_sentence_of_fields_it_has(event: type[Event]) -> None:
    assert event.says
    assert set(fields_in(event.says)) <= {*event.__struct_fields__, "actor"}


@pytest.mark.parametrize("event", EVENTS, ids=type_of)
def test_every_event_is_named_service_aggregate_event_version(event: type[Event]) -> None:
    service, aggregate, name, version = type_of(event).split(".")

    assert service in (*messages.categories(), "operations")
    assert aggregate
    assert name
    assert version.startswith("v")


@pytest.mark.parametrize("command", COMMANDS, ids=type_of)
def test_every_command_names_a_service_and_a_permission_of_the_table(command: type[Command]) -> None:
    assert is_for_any(command) or command.service in messages.categories()
    assert command.permission in {*Feature, "service", None}


@pytest.mark.parametrize("message", TYPES, ids=type_of)
def test_no_message_has_a_field_for_a_credential_in_clear(message: type[Message]) -> None:
    clear = {"password", "token", "access_token", "refresh_token", "secret", "api_key", "code", "client_secret"}

    assert not clear & set(message.__struct_fields__)
