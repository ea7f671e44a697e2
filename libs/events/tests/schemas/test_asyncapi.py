"""The AsyncAPI document and its page say what the types say.

`asyncapi-3.0.0.json` is the specification's own JSON Schema, unchanged from
the npm package @asyncapi/specs 6.11.1 (Apache-2.0).
"""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest

from bizosaas_events import Codec, Command, Envelope, Event, Result, asyncapi, messages, new_id
from bizosaas_events.bus.base import Names
from bizosaas_events.codec import type_of
from bizosaas_events.envelope import now, to_fields
from bizosaas_events.schemas import service_of
from bizosaas_events.testing.account import CODEC, Deposit

DOCUMENT = asyncapi.document(messages.codec(), "1.2.3")
TYPES = messages.codec().types
SPECIFICATION = json.loads((Path(__file__).parent / "asyncapi-3.0.0.json").read_text())


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def follow(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


@pytest.mark.parametrize("codec", [messages.codec(), CODEC, Codec([])], ids=["platform", "account", "none"])
def test_the_document_is_valid_by_the_specifications_own_schema(codec: Codec) -> None:
    validator = jsonschema.Draft7Validator(SPECIFICATION)
    errors = validator.iter_errors(asyncapi.document(codec, "1.2.3"))
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_the_specifications_schema_would_notice_a_mistake() -> None:
    wrong = json.loads(json.dumps(DOCUMENT))
    wrong["operations"]["connector.record"]["action"] = "publish"
    assert not jsonschema.Draft7Validator(SPECIFICATION).is_valid(wrong)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        assert follow(reference)


def test_every_message_is_in_a_channel_of_its_service_and_in_an_operation() -> None:
    channels, operations = DOCUMENT["channels"], DOCUMENT["operations"]
    for name, cls in TYPES.items():
        if issubclass(cls, Command):
            assert name in channels[f"{service_of(cls)}.commands"]["messages"]
            assert operations[f"{service_of(cls)}.{cls.__name__}"]["action"] == "receive"
        elif issubclass(cls, Event):
            log = f"{name.partition('.')[0]}.events"
            assert name in channels[log]["messages"]
            operation = operations[f"{name.partition('.')[0]}.record"]
            assert {"$ref": f"#/channels/{log}/messages/{name}"} in operation["messages"]
        else:
            assert issubclass(cls, Result)
            assert name in channels["replies"]["messages"]


def test_what_every_service_accepts_and_records_is_said_so() -> None:
    channels = DOCUMENT["channels"]
    assert channels["operations.commands"]["x-redis-stream"] == "{<env>:cmd:<service>}"
    assert channels["operations.events"]["x-redis-stream"].startswith("{<env>:00}:<service>")


def test_an_operation_speaks_of_messages_of_its_own_channel_only() -> None:
    for operation in DOCUMENT["operations"].values():
        for said in (operation, operation.get("reply", operation)):
            for message in said["messages"]:
                assert message["$ref"].startswith(said["channel"]["$ref"] + "/messages/")


def test_a_command_is_answered_with_its_result_or_refused() -> None:
    reply = DOCUMENT["operations"]["connector.CallOperation"]["reply"]
    answers = [message["$ref"].rpartition("/")[2] for message in reply["messages"]]
    assert answers == ["connector.operation-result.v1", "refused"]
    done = DOCUMENT["operations"]["connector.Disconnect"]["reply"]["messages"][0]["$ref"]
    assert done.endswith("/done")


def test_the_headers_are_the_fields_that_travel() -> None:
    headers = DOCUMENT["components"]["messageTraits"]["envelope"]["headers"]
    command = Envelope(
        id=new_id(), source="test", type=type_of(Deposit), subject="account", time=now(), tenantid="acme",
        actorid="member:1", actorrole="tenant_user", correlationid=new_id(), causationid=new_id(), replyto="a",
    )  # fmt: skip
    assert {*headers["properties"], "data"} == {str(name) for name in to_fields(command)}
    assert set(headers["properties"]) - set(headers["required"]) == {"replyto"}
    jsonschema.validate({str(name): str(value) for name, value in to_fields(command).items()}, headers)


def test_the_streams_are_named_as_they_are_in_redis() -> None:
    channels = DOCUMENT["channels"]
    assert channels["connector.commands"]["x-redis-stream"] == Names("<env>").commands("connector")
    assert channels["connector.events"]["x-redis-stream"] == "{<env>:00}:connector … {<env>:63}:connector"
    assert channels["replies"]["address"] == "{env}:reply:{instance}"
    assert set(channels["replies"]["parameters"]) == {"env", "instance"}


def test_every_example_fits_its_payload() -> None:
    for message in DOCUMENT["components"]["messages"].values():
        for example in message.get("examples", ()):
            schema = {**message["payload"], "components": DOCUMENT["components"]}
            jsonschema.validate(example["payload"], schema)


def test_the_same_types_make_the_same_document() -> None:
    shuffled = Codec(list(reversed(TYPES.values())))
    assert json.dumps(asyncapi.document(shuffled, "1.2.3")) == json.dumps(DOCUMENT)


class Page(HTMLParser):
    """What matters of a page: is every element closed, what does it link to, what does it load."""

    EMPTY: ClassVar = {"meta", "link", "img", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loads: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.ids.add(said.get("id") or "")
        self.links.add(said.get("href") or "")
        if tag in {"script", "link", "img", "iframe"}:
            self.loads.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_every_message_with_its_fields_and_loads_nothing() -> None:
    text = asyncapi.page(messages.codec(), title="Messages")
    page = Page(text)

    assert page.open == []
    assert page.loads == []
    assert set(TYPES) <= page.ids
    assert {link.removeprefix("#") for link in page.links if link} <= page.ids
    assert "the connection works as {account}, with the credential {fingerprint}" in text
    assert "Needs <code>manage_integrations</code>" in text
    assert "&quot;destroy&quot; | &quot;money&quot;" in text
    for cls in TYPES.values():
        for field in cls.__struct_fields__:
            assert f"<code>{field}</code>" in text


def test_what_is_written_in_a_type_cannot_break_the_page() -> None:
    class Odd(Event, frozen=True, kw_only=True, tag="odd.odd.odd.v1"):
        says = "<script>alert(1)</script>"

        a: str = "</code><script>"

    text = asyncapi.page(Codec([Odd]), title="<b>")
    assert "<script>" not in text
    assert "<b>" not in text
    assert Page(text).open == []
