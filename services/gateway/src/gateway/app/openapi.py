"""The OpenAPI 3.1 document, from the routes, the Structs of the bodies and the views of the published language."""

import inspect
import re
from typing import Any, get_origin

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from bizosaas_events import messages

from .reading import filters_of
from .writing import Accepted, Outcome

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457: `type` is stable, `field` says where, `remedy` what to do.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"}, "title": {"type": "string"},
        "status": {"type": "integer"}, "detail": {"type": "string"}, "instance": {"type": "string"},
        "field": {"type": "string"}, "remedy": {"type": "string"},
    },
}  # fmt: skip
_REFUSALS = {
    400: "Something about the request does not fit.", 401: "Nobody is signed in.", 403: "The role lacks a permission.",
    404: "There is no such object for this tenant.", 409: "The object's state does not allow this.",
    412: "The object has changed since.", 413: "The body is too large.", 415: "The body is not JSON.",
    422: "The Idempotency-Key was used for another request.", 428: "If-Match is missing.",
    429: "Too many attempts; Retry-After says when to go on.", 503: "Something needed is away; nothing was changed.",
    504: "The answer did not come in time.",
}  # fmt: skip
_TEXT = {"type": "string"}


def document(app: Litestar, *, server: str) -> dict[str, Any]:
    """The whole document as JSON's own types."""
    found = list(_operations(app))
    types = {t for _, _, handler in found for t in _types_of(handler)} | {v.state for v in messages.views().values()}
    ordered = sorted(types, key=lambda t: t.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    refs = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler in found:
        paths.setdefault(path, {})[method] = _operation(path, handler, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "BizOSaaS", "version": "1",
            "description": "Sign in with `POST /v1/sessions` and send the token as `Authorization: Bearer`. "
            "Writes are accepted with 202; `Prefer: wait=5` waits for the outcome. "
            "Send an answer's Position as Read-After and the read shows what was written.",
        },
        "servers": [{"url": server}],
        "paths": dict(sorted(paths.items())),
        "security": [{"session": []}, {"cookie": []}],
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {
                "session": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-bizos_session"},
            },
        },
    }  # fmt: skip


def _operations(app: Litestar) -> Any:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in sorted(handler.http_methods):
                    if method != "OPTIONS" and "hidden" not in handler.opt:
                        yield route.path_format, method.lower(), handler


def _types_of(handler: HTTPRouteHandler) -> list[type]:
    wanted = [handler.opt.get("answers"), handler.opt.get("result"), Accepted, Outcome]
    if handler.parsed_data_field is not None:
        wanted.append(handler.parsed_data_field.annotation)
    return [t for t in wanted if t is not None and get_origin(t) is None]


def _operation(path: str, handler: HTTPRouteHandler, refs: dict[type, Any]) -> dict[str, Any]:
    opt = handler.opt
    name = handler.handler_name.rpartition(".")[2]
    described = inspect.getdoc(handler.fn) or ""
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": described.split("\n")[0],
        "tags": _tags(handler),
        "parameters": _parameters(path, opt),
        "responses": _responses(opt, refs),
    }
    if handler.parsed_data_field is not None:
        body = {"schema": refs[handler.parsed_data_field.annotation]}
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    elif "raw" in opt:
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    if "public" in opt:
        operation["security"] = []
    elif opt["needs"]:
        operation["description"] = f"Needs the permission `{opt['needs']}`."
    return operation


def _tags(handler: HTTPRouteHandler) -> list[str]:
    return sorted({tag for layer in handler.ownership_layers for tag in layer.tags or ()})


def _parameters(path: str, opt: dict[str, Any]) -> list[dict[str, Any]]:
    found = [_parameter("path", name, _TEXT, required=True) for name in re.findall(r"{(\w+)}", path)]
    if "page" in opt:
        found.append(_parameter("query", "limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}))
        found.append(_parameter("query", "cursor", _TEXT, "The `next` of the page before."))
        fixed = {"connection_id"} if opt["page"] == "call" else set()
        found += [_parameter("query", name, _TEXT) for name in sorted(set(filters_of(opt["page"])) - fixed)]
    found += [_parameter("query", name, _TEXT, required=name in ("state", "at")) for name in opt.get("query", ())]
    if "page" in opt or "one" in opt:
        found.append(_parameter("header", "Read-After", _TEXT, "A Position: wait until the read shows that write."))
    if "one" in opt:
        found.append(_parameter("header", "If-None-Match", _TEXT, "An ETag: 304 while the object has not changed."))
    if "writes" in opt:
        found.append(_parameter("header", "Prefer", _TEXT, "`wait=5` waits for the outcome, at most 30 seconds."))
        found.append(_parameter("header", "Idempotency-Key", _TEXT, "A repeat with the same key has no second effect."))
    if "guarded" in opt:
        found.append(_parameter("header", "If-Match", _TEXT, "The object's ETag.", required=True))
    if "stream" in opt:
        found.append(_parameter("header", "Last-Event-ID", _TEXT, "Resume behind this event; 0: from the first one."))
    if "public" not in opt:
        found.append(_parameter("header", "Bizos-Tenant", _TEXT, "For platform administrators: the tenant to act for."))
    return found


def _parameter(
    where: str, name: str, schema: dict[str, Any], description: str = "", *, required: bool = False
) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": where, "required": required, "schema": schema}
    return parameter | {"description": description} if description else parameter


def _responses(opt: dict[str, Any], refs: dict[type, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "page" in opt:
        items = {"type": "array", "items": refs[messages.views()[opt["page"]].state]}
        page = {"type": "object", "required": ["items", "next"], "properties": {"items": items, "next": _TEXT}}
        found["200"] = _response("A page, newest first.", page)
    elif "one" in opt:
        found["200"] = _response("The object.", refs[messages.views()[opt["one"]].state]) | {
            "headers": {"ETag": {"schema": _TEXT}}
        }
        found["304"] = {"description": "The object has not changed."}
    elif "writes" in opt:
        where = {"Location": {"schema": _TEXT}}
        found["202"] = _response("The command is accepted.", refs[Accepted]) | {"headers": where}
        outcome = refs[Outcome]
        if "result" in opt:
            outcome = {"allOf": [outcome, {"type": "object", "properties": {"result": refs[opt["result"]]}}]}
        found["200"] = _response("The outcome, where the caller waited.", outcome)
        found["201"] = _response("Likewise, where something was made.", outcome)
    elif "stream" in opt:
        found["200"] = {"description": "Server-Sent Events.", "content": {"text/event-stream": {"schema": _TEXT}}}
    elif "answers" in opt:
        found[str(opt.get("status", 200))] = _response("The answer.", refs[opt["answers"]])
    else:
        found[str(opt.get("status", 200))] = {"description": "Done."}
    found["default"] = {
        "description": "A refusal: " + " ".join(f"{status}: {text}" for status, text in _REFUSALS.items()),
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return found


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
