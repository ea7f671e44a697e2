"""WordPress on its own site: posts through the REST API, with an application password (WordPress 5.6 or newer).

Two traps shape this file. A wrong password reads as anonymous (GET /posts
answers 200), so every read asks for `context=edit`, which anonymous callers
may not. And the API takes no idempotency key, so a draft carries a digest of
ours at the end of its slug, where a second try finds it: drafts keep the slug
they were given, are found by it, and in the trash it ends in `__trashed`
(seen on 7.1.1).
"""

import hashlib
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

import msgspec

from bizosaas_ports.cms import (
    Content,
    ContentPage,
    ContentStatus,
    CreateDraft,
    GetContent,
    ListContent,
    Publish,
    Unpublish,
    UpdateDraft,
)
from bizosaas_ports.connector import (
    Account,
    CallResult,
    CredentialRevokedError,
    MisconfiguredError,
    RateLimitedError,
    RequestRefusedError,
    ResourceNotFoundError,
    ScopeMissingError,
)

from ._api import Api, NonsenseError, path_of
from ._declaration import Action, Basic, Connector, ErrorRule, Errors, Field, PageNumbers

PAGES = PageNumbers(page="page", size="per_page", max_size=100, total_header="X-WP-Total")
LIST_FIELDS = "id,title,status,link,modified_gmt,excerpt"
FIELDS = f"{LIST_FIELDS},content"
LONGEST_TITLE_SLUG = 60
"""WordPress cuts slugs at 200 characters: the marker at the end must survive."""

_STATUS: dict[str, ContentStatus] = {
    "publish": "published", "future": "scheduled", "draft": "draft", "pending": "draft", "auto-draft": "draft",
    "private": "private", "trash": "trashed",
}  # fmt: skip
_ASKED = {"published": "publish", "scheduled": "future", "draft": "draft", "private": "private", "trashed": "trash"}


class _Text(msgspec.Struct):
    raw: str = ""
    rendered: str = ""


class _Post(msgspec.Struct):
    id: int
    status: str
    link: str
    title: _Text
    modified_gmt: str = ""
    excerpt: _Text = msgspec.field(default_factory=_Text)
    content: _Text = msgspec.field(default_factory=_Text)


class _User(msgspec.Struct):
    name: str
    username: str = ""
    capabilities: dict[str, Any] | None = None


async def check(api: Api) -> Account:
    """Who we are; with a wrong password nobody (401), and without `edit_posts` not enough."""
    asked = {"context": "edit", "_fields": "name,username,capabilities"}
    try:
        user, _ = await api.get("/users/me", asked, into=_User)
    except (NonsenseError, ResourceNotFoundError) as error:
        raise MisconfiguredError(
            "At this address answers no REST API of WordPress.", status=error.status, vendor_says=error.vendor_says
        ) from error
    if user.capabilities is not None and not user.capabilities.get("edit_posts"):
        raise ScopeMissingError("This WordPress user may not write posts; it needs the role Author or Editor.")
    return Account(name=user.username or user.name)


async def list_content(api: Api, request: ListContent, key: str) -> CallResult:
    page = PAGES.parameters(request.limit, request.cursor)
    asked = {
        "context": "edit", "orderby": "date", "order": "desc", "_fields": LIST_FIELDS,
        "status": _ASKED[request.status] if request.status else "any", **page,
    }  # fmt: skip
    if request.search:
        asked["search"] = request.search
    try:
        posts, answer = await api.get("/posts", asked, into=list[_Post])
    except _PastTheEndError:
        return CallResult(data=ContentPage(items=[], total=0), resource_type="post", count=0)
    total = int(answer.headers.get(PAGES.total_header, len(posts)))
    content = ContentPage(items=[_content(post) for post in posts], total=total, next=PAGES.next(page, total))
    return CallResult(data=content, resource_type="post", count=len(posts))


async def get_content(api: Api, request: GetContent, key: str) -> CallResult:
    return _one(await _read(api, request.id))


async def create_draft(api: Api, request: CreateDraft, key: str) -> CallResult:
    draft = {"title": request.title, "content": request.body, "excerpt": request.excerpt, "status": "draft"}
    slug = slug_of(request.title, key)
    post, _ = await api.post("/posts", draft | {"slug": slug}, params={"_fields": FIELDS}, into=_Post)
    return _one(post)


async def find_draft(api: Api, request: CreateDraft, key: str) -> CallResult | None:
    """The draft of an earlier try, whatever has become of it since."""
    slug = slug_of(request.title, key)
    asked = {"slug": f"{slug},{slug}__trashed", "status": "any,trash", "context": "edit", "_fields": FIELDS}
    posts, _ = await api.get("/posts", asked, into=list[_Post])
    return _one(posts[0]) if posts else None


async def update_draft(api: Api, request: UpdateDraft, key: str) -> CallResult:
    if _STATUS.get((await _read(api, request.id)).status) != "draft":
        raise RequestRefusedError("This post is not a draft any more; unpublish it first.")
    change = {"title": request.title, "content": request.body, "excerpt": request.excerpt}
    return _one(await _write(api, request.id, {name: value for name, value in change.items() if value is not None}))


async def find_update(api: Api, request: UpdateDraft, key: str) -> CallResult | None:
    post = await _read(api, request.id)
    same = (
        request.title in (None, post.title.raw)
        and request.body in (None, post.content.raw)
        and request.excerpt in (None, post.excerpt.raw)
    )
    return _one(post) if same else None


async def publish(api: Api, request: Publish, key: str) -> CallResult:
    post = await _read(api, request.id)
    if post.status == "trash":
        raise RequestRefusedError("This post is in the trash; restore it first.")
    return _one(post if post.status == "publish" else await _write(api, request.id, {"status": "publish"}))


async def find_published(api: Api, request: Publish, key: str) -> CallResult | None:
    post = await _read(api, request.id)
    return _one(post) if post.status == "publish" else None


async def unpublish(api: Api, request: Unpublish, key: str) -> CallResult:
    post = await _read(api, request.id)
    return _one(post if post.status == "draft" else await _write(api, request.id, {"status": "draft"}))


async def find_unpublished(api: Api, request: Unpublish, key: str) -> CallResult | None:
    post = await _read(api, request.id)
    return _one(post) if post.status == "draft" else None


def slug_of(title: str, key: str) -> str:
    """A readable slug that ends in a digest of the idempotency key."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain)[:LONGEST_TITLE_SLUG].strip("-") or "draft"
    return f"{words}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


async def _read(api: Api, id: str) -> _Post:
    post, _ = await api.get(_post(id), {"context": "edit", "_fields": FIELDS}, into=_Post)
    return post


async def _write(api: Api, id: str, change: dict[str, str]) -> _Post:
    post, _ = await api.post(_post(id), change, params={"_fields": FIELDS}, into=_Post)
    return post


def _post(id: str) -> str:
    if not re.fullmatch(r"[0-9]{1,18}", id):
        raise ResourceNotFoundError("WordPress has no post of this id; its ids are numbers.")
    return path_of("posts", id)


def _content(post: _Post) -> Content:
    return Content(
        id=str(post.id), title=post.title.raw or post.title.rendered, status=_STATUS.get(post.status, "private"),
        url=post.link, updated_at=_time(post.modified_gmt), excerpt=post.excerpt.raw, body=post.content.raw,
    )  # fmt: skip


def _one(post: _Post) -> CallResult:
    return CallResult(data=_content(post), resource_type="post", resource_id=str(post.id))


def _time(text: str) -> datetime | None:
    """WordPress writes times without a zone, and none at all as year 0."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


class _PastTheEndError(RequestRefusedError):
    """A page behind the last one: an empty page, no mistake."""


def _code(body: Any) -> str:
    """WordPress' code; of an invalid parameter the inner one where it tells a missing login from a mistake."""
    code = str(body["code"])
    if code == "rest_invalid_param":
        for detail in (body["data"].get("details") or {}).values():
            if detail.get("code") == "rest_forbidden_status":
                return f"rest_forbidden_status_{detail['data']['status']}"
    return code


_REVOKED = "WordPress does not take this user name and application password."

WORDPRESS = Connector(
    key="wordpress",
    name="WordPress",
    auth=Basic(
        username=Field(name="username", label="User name", kind="text", example="editor"),
        password=Field(name="application_password", label="Application password", kind="secret",
                       example="abcd EFGH 1234 ijkl MNOP 5678"),
    ),
    settings=(Field(name="site_url", label="Address of the site", kind="url", example="https://example.com"),),
    base_url="{site_url}/wp-json/wp/v2",
    check=check,
    actions={
        "cms.list_content": Action(list_content),
        "cms.get_content": Action(get_content),
        "cms.create_draft": Action(create_draft, find=find_draft),
        "cms.update_draft": Action(update_draft, find=find_update),
        "cms.publish": Action(publish, find=find_published),
        "cms.unpublish": Action(unpublish, find=find_unpublished),
    },
    pagination=PAGES,
    errors=Errors(
        code=_code,
        message=lambda body: body["message"],
        rules=(
            ErrorRule(CredentialRevokedError, _REVOKED, status=401),
            ErrorRule(CredentialRevokedError, _REVOKED, status=400, code="rest_forbidden_status_401"),
            ErrorRule(ScopeMissingError, "This WordPress user may not do that.", status=403),
            ErrorRule(ScopeMissingError, "This WordPress user may not see such posts.", status=400,
                      code="rest_forbidden_status_403"),
            ErrorRule(_PastTheEndError, "There is no such page.", status=400, code="rest_post_invalid_page_number"),
            ErrorRule(MisconfiguredError, "At this address answers no REST API of WordPress.", status=404,
                      code="rest_no_route"),
            ErrorRule(ResourceNotFoundError, "WordPress has no such post.", status=404, code="rest_post_invalid_id"),
            ErrorRule(RateLimitedError, "The site asks to be called less often.", status=429),
        ),
    ),
)  # fmt: skip
