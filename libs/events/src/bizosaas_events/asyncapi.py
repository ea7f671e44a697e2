"""The AsyncAPI 3.0 document of the messages, generated from their types.

It is told from the services' side: a service receives the commands on its
stream, replies to who waits, and sends events to its log, which everybody reads.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from .asyncapi_page import page as page
from .bus.base import OUTCOME_SECONDS, Names
from .codec import Codec, type_of
from .compatibility import Schema
from .envelope import FIELDS, Command, Event, Message, Reply, Result
from .schemas import answer_to, components, doc_of, example, is_for_any, kind_of, schema_of, sentence_of, service_of

_OPTIONAL = "replyto"
_HEADERS = {
    "specversion": "1.0: the attributes are those of CloudEvents",
    "id": "UUIDv7; a repeat under the same id has its effect once",
    "source": "who sent it: a service or the gateway",
    "type": "which message `data` holds",
    "subject": "the stream of the object, such as `connection-<id>`; of a command, the service",
    "time": "RFC 3339, in UTC",
    "datacontenttype": "application/json",
    "partitionkey": "`<tenant>/<subject>`: decides about the partition",
    "sequence": "the gapless position in the partition; 0 for a command",
    "streamversion": "the gapless version in the stream; 0 for a command",
    "tenantid": "whose it is",
    "actorid": "`member:<id>`, `agent:<run id>` or `service:<name>`",
    "actorrole": "the actor's role at that moment",
    "correlationid": "the same for everything that follows from one request",
    "causationid": "the message that caused this one",
    "traceparent": "W3C trace context, or empty",
    "replyto": "the stream where the sender of a command waits for the answer; absent: nobody waits",
}


def document(codec: Codec, version: str, *, title: str = "Messages", partitions: int = 64) -> dict[str, Any]:
    """The document as plain data, the same for the same types."""
    types = [cls for _, cls in sorted(codec.types.items())]
    references, schemas = components([*types, _reply_as_sent()], "#/components/schemas/{name}")
    channels: dict[str, Any] = {"replies": _reply_channel(types)}
    operations: dict[str, Any] = {}
    for service in sorted({service_of(cls) for cls in types}):
        own = [cls for cls in types if service_of(cls) == service]
        name = "<service>" if any(map(is_for_any, own)) else service
        if commands := [cls for cls in own if issubclass(cls, Command)]:
            channels[f"{service}.commands"] = _command_channel(name, commands)
            operations |= {f"{service}.{cls.__name__}": _handle(service, cls, types) for cls in commands}
        if events := [cls for cls in own if issubclass(cls, Event)]:
            channels[f"{service}.events"] = _event_channel(name, events, partitions)
            operations[f"{service}.record"] = _record(service, name, events)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version, "description": (__doc__ or "").replace("\n", " ").strip()},
        "defaultContentType": "application/json",
        "servers": {"redis": {"host": "127.0.0.1:6379", "protocol": "redis", "description": "Redis Streams, 7.2+"}},
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "messages": _messages(dict(zip(types, references, strict=False)), references[-1]),
            "messageTraits": {"envelope": _envelope()},
        },
    }


def _command_channel(service: str, commands: Sequence[type[Message]]) -> Schema:
    return {
        # Braces in an address mean a parameter; ours are part of the key. So it is told beside it.
        "address": None,
        "x-redis-stream": Names("<env>").commands(service),
        "title": f"Commands for {service}",
        "description": "One consumer group; a command stays until it is handled. The braces are part of the key.",
        "messages": _message_references(map(type_of, commands)),
    }


def _event_channel(service: str, events: Sequence[type[Message]], partitions: int) -> Schema:
    first, last = (Names("<env>").partition(service, part) for part in (0, partitions - 1))
    return {
        "address": None,
        "x-redis-stream": f"{first} … {last}",
        "title": f"Events of {service}",
        "description": (
            f"The log of {service} in {partitions} partitions; all events of one object are in one, in order. "
            "The id of an entry is `<position>-0`. The braces are part of the key."
        ),
        "messages": _message_references(map(type_of, events)),
    }


def _reply_channel(types: Sequence[type[Message]]) -> Schema:
    results = [type_of(cls) for cls in types if issubclass(cls, Result)]
    return {
        "address": Names("{env}").replies("{instance}"),
        "title": "Answers to one waiting process",
        "description": f"Kept for {OUTCOME_SECONDS} seconds. An entry has the one field `data`.",
        "parameters": {
            "env": {"description": "The deployment's name, BIZOS_ENV."},
            "instance": {"description": "The process that waits."},
        },
        "messages": _message_references(["done", "refused", *results]),
    }


def _handle(service: str, command: type[Message], types: Sequence[type[Message]]) -> Schema:
    result = answer_to(command, types)
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{service}.commands"},
        "summary": sentence_of(command),
        "messages": [{"$ref": f"#/channels/{service}.commands/messages/{type_of(command)}"}],
        "reply": {
            "address": {"location": "$message.header#/replyto"},
            "channel": {"$ref": "#/channels/replies"},
            "messages": [
                {"$ref": f"#/channels/replies/messages/{type_of(result) if result else 'done'}"},
                {"$ref": "#/channels/replies/messages/refused"},
            ],
        },
    }


def _record(service: str, name: str, events: Sequence[type[Message]]) -> Schema:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{service}.events"},
        "summary": f"What happened in {name}, in order, for ever.",
        "messages": [{"$ref": f"#/channels/{service}.events/messages/{type_of(cls)}"} for cls in events],
    }


def _messages(payloads: dict[type[Message], Schema], reply: Schema) -> dict[str, Schema]:
    def answer(title: str, summary: str, narrowed: Schema) -> Schema:
        payload = {"allOf": [reply, narrowed]}
        return {"title": title, "summary": summary, "payload": payload, "tags": [{"name": "reply"}]}

    done = {"properties": {"result": {"type": "null"}}}
    messages = {
        "done": answer("Done", "The command was handled; no more is said than what was recorded.", done),
        "refused": answer("Refused", "The command was refused, and nothing was changed.", {"required": ["problem"]}),
    }
    for cls, payload in payloads.items():
        if issubclass(cls, Result):
            messages[type_of(cls)] = answer(cls.__name__, sentence_of(cls), {"properties": {"result": payload}})
        else:
            messages[type_of(cls)] = _message(cls, payload)
    return messages


def _message(cls: type[Message], payload: Schema) -> Schema:
    message: Schema = {
        "name": type_of(cls),
        "title": cls.__name__,
        "summary": sentence_of(cls),
        "traits": [{"$ref": "#/components/messageTraits/envelope"}],
        "payload": payload,
        "examples": [{"payload": example(schema_of(cls))}],
        "tags": [{"name": kind_of(cls)}, {"name": service_of(cls)}],
    }
    if (more := doc_of(cls)) != message["summary"]:
        message["description"] = more
    if issubclass(cls, Command):
        message["x-permission"] = cls.permission
    return message


def _reply_as_sent() -> type[msgspec.Struct]:
    """`Reply` without the default of its raw result, which msgspec cannot describe."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        (field.name, field.type) if field.required else (field.name, field.type, None)
        if field.type is msgspec.Raw else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Reply)
    ]  # fmt: skip
    return msgspec.defstruct(Reply.__name__, fields, module=Reply.__module__, namespace={"__doc__": Reply.__doc__})


def _envelope() -> Schema:
    names = [*(field for field in FIELDS if field != "data"), _OPTIONAL]
    return {
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/correlationid"},
        "description": "CloudEvents 1.0 attributes as fields of the stream entry; the payload is its field `data`.",
        "headers": {
            "type": "object",
            "properties": {name: {"type": "string", "description": _HEADERS[name]} for name in names},
            "required": [name for name in names if name != _OPTIONAL],
        },
    }


def _message_references(names: Iterable[str]) -> dict[str, Schema]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}
