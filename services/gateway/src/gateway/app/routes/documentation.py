"""The OpenAPI document, its page, and what the types of problems mean. All of it works without the internet."""

import re
from functools import cache

import msgspec
from litestar import Controller, get
from litestar.params import FromPath
from swagger_ui_bundle import swagger_ui_path

from bizosaas_events import asyncapi, messages
from bizosaas_runtime.problems import explain

from .. import openapi
from ..answers import HTML, Answer
from ..auth import PUBLIC
from ..call import ApiRequest
from ..errors import NoSuchPathError
from ..pages import page

_SLUG = re.compile(r"[a-z][a-z0-9-]{1,60}")
_FILES = {
    "swagger-ui.css": b"text/css",
    "swagger-ui-bundle.js": b"text/javascript",
    "favicon-32x32.png": b"image/png",
}
_CSP = (
    b"content-security-policy",
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; frame-ancestors 'none'",
)
_CACHED = (b"cache-control", b"public, max-age=3600")
_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>BizOSaaS API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# The bundled Swagger UI knows OpenAPI 3.0 by name only; what we use of 3.1 it shows all the same. What is tried out goes
# to where the page came from: the public address may be another one than the browser's, and out of the page's reach.
_START = b"""fetch("/openapi.json").then((answer) => answer.json()).then((spec) => {
  spec.openapi = "3.0.3";
  spec.servers = [{ url: "/" }];
  SwaggerUIBundle({ spec, dom_id: "#page", deepLinking: true, displayRequestDuration: true });
});
"""
_FOOT = 'A type of problem, as RFC 9457 describes them · <a href="/docs">the API</a>'


class Documentation(Controller):
    path = "/"

    @get("/openapi.json", opt={**PUBLIC, "hidden": True})
    async def openapi_document(self, request: ApiRequest) -> Answer:
        """The document."""
        server = str(request.call.gateway.settings.public_url).rstrip("/")
        if not (body := _documents.get(server)):
            body = _documents[server] = msgspec.json.encode(openapi.document(request.app, server=server))
        return Answer(200, body, [_CACHED])

    @get("/asyncapi.json", opt={**PUBLIC, "hidden": True})
    async def asyncapi_document(self, request: ApiRequest) -> Answer:
        """The messages behind the API, as an AsyncAPI 3.0 document."""
        document = asyncapi.document(messages.codec(), "1", title="BizOSaaS", partitions=_partitions(request))
        return Answer(200, msgspec.json.encode(document), [_CACHED])

    @get("/docs/messages", opt={**PUBLIC, "hidden": True})
    async def messages_page(self, request: ApiRequest) -> Answer:
        """The page that shows them."""
        page = asyncapi.page(messages.codec(), title="BizOSaaS messages")
        return Answer(200, page.encode(), [_CSP, _CACHED], media_type=HTML)

    @get("/docs", opt={**PUBLIC, "hidden": True})
    async def start(self, request: ApiRequest) -> Answer:
        """The page that shows it."""
        return Answer(200, _PAGE, [_CSP, _CACHED], media_type=HTML)

    @get("/docs/{name:str}", opt={**PUBLIC, "hidden": True})
    async def part(self, request: ApiRequest, name: FromPath[str]) -> Answer:
        """What the page is made of."""
        if name == "start.js":
            return Answer(200, _START, [_CACHED], media_type=b"text/javascript")
        if name not in _FILES:
            raise NoSuchPathError(f"/docs/{name}")
        return Answer(200, _part(name), [_CACHED], media_type=_FILES[name])

    @get("/problems/{slug:str}", opt={**PUBLIC, "hidden": True})
    async def problem(self, request: ApiRequest, slug: FromPath[str]) -> Answer:
        """What a type of problem means."""
        if not _SLUG.fullmatch(slug):
            raise NoSuchPathError(f"/problems/{slug}")
        return page(200, slug, explain(slug), foot=_FOOT, headers=[_CACHED])


def _partitions(request: ApiRequest) -> int:
    return request.call.gateway.settings.partitions


_documents: dict[str, bytes] = {}


@cache
def _part(name: str) -> bytes:
    return bytes((swagger_ui_path / name).read_bytes())
