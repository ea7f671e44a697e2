"""WordPress' REST API for posts and pages, kept true by the suite that also runs against the real WordPress."""

import base64
import binascii
import html
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from litestar import Litestar, Request, Response, get, route

APP_PASSWORDS = {
    "admin": "sandboxAdmin000000000001",
    "editor": "sandboxEditor00000000001",
    "author": "sandboxAuthor00000000001",
}
CREDENTIALS: Mapping[str, Any] = {"app_passwords": APP_PASSWORDS}

WRITABLE = ("publish", "future", "draft", "pending", "private")
LISTABLE = (*WRITABLE, "trash", "any")
SORTS = ("author", "date", "id", "include", "modified", "parent", "relevance", "slug", "include_slugs", "title")
ROLES = {"admin": "administrator", "editor": "editor", "author": "author"}
KINDS = {"posts": "post", "pages": "page"}
STAMP = "%Y-%m-%dT%H:%M:%S"


class RefusedError(Exception):
    """An answer in WordPress' error shape."""

    def __init__(self, status: int, code: str, message: str, **data: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "data": {"status": status, **data}}


@dataclass(frozen=True, kw_only=True)
class User:
    id: int
    login: str

    @property
    def role(self) -> str:
        return ROLES[self.login]

    def may_create(self, kind: str) -> bool:
        return kind == "post" or self.role != "author"

    def may_edit(self, post: "Post") -> bool:
        return self.role != "author" or (post.type == "post" and post.author == self.id)


@dataclass(frozen=True, kw_only=True)
class Post:
    id: int
    type: str
    author: int
    date: str
    modified: str
    slug: str = ""
    status: str = "draft"
    title: str = ""
    content: str = ""
    excerpt: str = ""

    @property
    def public(self) -> bool:
        return self.status == "publish"

    def link(self, site: str) -> str:
        shown = self.slug and self.status in ("publish", "private")
        query = "p" if self.type == "post" else "page_id"
        return f"{site}/{self.slug}/" if shown else f"{site}/?{query}={self.id}"


@dataclass(kw_only=True)
class Site:
    """The posts, and the rules for changing them. With a file it remembers them over a restart."""

    now: Callable[[], datetime]
    file: Path | None = None
    posts: dict[int, Post] = field(default_factory=dict)
    last_id: int = 0

    def load(self) -> None:
        if self.file is not None and self.file.exists():
            kept = json.loads(self.file.read_text())
            self.posts = {post["id"]: Post(**post) for post in kept["posts"]}
            self.last_id = kept["last_id"]
        else:
            first = {"title": "Hello world!", "content": "Welcome to WordPress.", "status": "publish"}
            self.create("post", User(id=1, login="admin"), first)

    def find(self, kind: str, number: int) -> Post:
        post = self.posts.get(number)
        if post is None or post.type != kind:
            raise RefusedError(404, "rest_post_invalid_id", "Invalid post ID.")
        return post

    def create(self, kind: str, user: User, given: Mapping[str, Any]) -> Post:
        if given.get("author") not in (None, user.id) and user.role == "author":
            words = "Sorry, you are not allowed to create posts as this user."
            raise RefusedError(403, "rest_cannot_edit_others", words)
        now = self.now().strftime(STAMP)
        post = self._changed(Post(id=self.last_id + 1, type=kind, author=user.id, date=now, modified=now), given)
        if not (post.title or post.content or post.excerpt):
            raise RefusedError(400, "empty_content", "Content, title, and excerpt are empty.")
        self.last_id = post.id
        return self._keep(post)

    def update(self, post: Post, given: Mapping[str, Any]) -> Post:
        return self._keep(self._changed(replace(post, modified=self.now().strftime(STAMP)), given))

    def trash(self, post: Post) -> Post:
        if post.status == "trash":
            raise RefusedError(410, "rest_already_trashed", "The post has already been deleted.")
        slug = f"{post.slug or _slug(post.title)}__trashed"
        return self._keep(replace(post, status="trash", slug=slug, modified=self.now().strftime(STAMP)))

    def delete(self, post: Post) -> None:
        del self.posts[post.id]
        self._save()

    def _changed(self, post: Post, given: Mapping[str, Any]) -> Post:
        change: dict[str, Any] = {
            name: _raw(given[name]) for name in ("title", "content", "excerpt") if given.get(name) is not None
        }
        change |= {name: given[name] for name in ("status", "date", "author") if given.get(name) is not None}
        post = replace(post, **change)
        if post.status in ("publish", "future"):
            post = replace(post, status="future" if post.date > self.now().strftime(STAMP) else "publish")
        if given.get("slug") is not None:
            post = replace(post, slug=self._free_slug(_slug(str(given["slug"])), post.id))
        elif not post.slug and post.status in ("publish", "future", "private"):
            post = replace(post, slug=self._free_slug(_slug(post.title) or str(post.id), post.id))
        return post

    def _free_slug(self, wanted: str, own: int) -> str:
        taken = {post.slug for post in self.posts.values() if post.id != own}
        slug, number = wanted, 2
        while slug and slug in taken:
            slug, number = f"{wanted}-{number}", number + 1
        return slug

    def _keep(self, post: Post) -> Post:
        self.posts[post.id] = post
        self._save()
        return post

    def _save(self) -> None:
        if self.file is not None:
            half = self.file.with_suffix(".half")
            kept = {"last_id": self.last_id, "posts": [asdict(post) for post in self.posts.values()]}
            half.write_text(json.dumps(kept))
            half.replace(self.file)


@get("/wp-json")
async def index(request: Request[Any, Any, Any]) -> dict[str, Any]:
    site = _site(request)
    authorize = f"{site}/wp-admin/authorize-application.php"
    return {
        "name": "Sandbox",
        "description": "",
        "url": site,
        "home": site,
        "namespaces": ["wp/v2"],
        "authentication": {"application-passwords": {"endpoints": {"authorization": authorize}}},
        "routes": {"/wp/v2/users/me": {}, "/wp/v2/posts": {}, "/wp/v2/pages": {}},
    }


@get("/wp-json/wp/v2/users/me")
async def who_am_i(request: Request[Any, Any, Any]) -> dict[str, Any]:
    user = _user(request)
    if user is None:
        raise RefusedError(401, "rest_not_logged_in", "You are not currently logged in.")
    site = _site(request)
    told = {
        "id": user.id,
        "name": user.login,
        "url": "",
        "description": "",
        "link": f"{site}/author/{user.login}/",
        "slug": user.login,
    }
    if request.query_params.get("context") == "edit":
        told |= {"username": user.login, "email": f"{user.login}@example.test", "roles": [user.role]}
    return told


@route("/wp-json/wp/v2/{kind:str}", http_method=["GET", "HEAD", "POST"])
async def collection(request: Request[Any, Any, Any], kind: str) -> Response[Any]:
    return await _create(request, _kind(kind)) if request.method == "POST" else _list(request, _kind(kind))


@route("/wp-json/wp/v2/{kind:str}/{number:str}", http_method=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def item(request: Request[Any, Any, Any], kind: str, number: str) -> Response[Any]:
    if not number.isdecimal():
        raise _no_route()
    site, user = _state(request), _user(request)
    post = site.find(_kind(kind), int(number))
    if request.method in ("GET", "HEAD"):
        _check_context(request, user)
        if not post.public and (user is None or not user.may_edit(post)):
            raise RefusedError(_denied(user), "rest_forbidden", "Sorry, you are not allowed to do that.")
        return _answer(request, _shown(request, post))
    if request.method == "DELETE":
        if user is None or not user.may_edit(post):
            words = "Sorry, you are not allowed to delete this post."
            raise RefusedError(_denied(user), "rest_cannot_delete", words)
        if request.query_params.get("force", "").lower() not in ("true", "1"):
            return _answer(request, _shown(request, site.trash(post), raw=True))
        site.delete(post)
        return _answer(request, {"deleted": True, "previous": _shown(request, post, raw=True)})
    given = await _body(request)
    if user is None or not user.may_edit(post):
        raise RefusedError(_denied(user), "rest_cannot_edit", "Sorry, you are not allowed to edit this post.")
    return _answer(request, _shown(request, site.update(post, given), raw=True))


@route(["/", "/{slug:path}"], http_method=["GET", "HEAD"])
async def page(request: Request[Any, Any, Any], slug: str = "") -> Response[str]:
    """What a visitor sees: the page of a published post at its link, and the latest posts at the front."""
    name = slug.strip("/")
    if name.split("/")[0] == "wp-json":
        raise _no_route()
    site = _state(request)
    published = [post for post in site.posts.values() if post.public]
    number = request.query_params.get("p") or request.query_params.get("page_id")
    if number:
        published = [post for post in published if str(post.id) == number]
    elif name:
        published = [post for post in published if post.slug == name]
    body = "".join(
        f'<article id="post-{post.id}"><h1><a href="{post.link(_site(request))}">{_title(post.title)}</a></h1>'
        f"{_paragraphs(post.content)}</article>"
        for post in sorted(published, key=lambda post: (post.date, post.id), reverse=True)
    )
    title = _title(published[0].title) if (number or name) and published else "Sandbox"
    head = f'<head><meta charset="utf-8"><title>{title}</title></head>'
    document = f'<!DOCTYPE html><html lang="en">{head}<body>{body}</body></html>'
    return Response(document, status_code=200 if published or not (number or name) else 404, media_type="text/html")


def create_app(data: Path | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Litestar:
    """The stand-in; `data` is the folder it keeps its posts in."""
    site = Site(now=now, file=data / "posts.json" if data else None)
    site.load()
    app = Litestar(
        [index, who_am_i, collection, item, page],
        openapi_config=None,
        exception_handlers={RefusedError: _refused, 404: _unrouted, 405: _unrouted},
    )
    app.state.site = site
    return app


def _list(request: Request[Any, Any, Any], kind: str) -> Response[Any]:
    user, asked = _user(request), request.query_params
    _check_context(request, user)
    wrong: dict[str, str] = {}
    number = _integer(asked, "page", 1, wrong)
    per_page = _integer(asked, "per_page", 10, wrong)
    statuses = asked.get("status", "publish").split(",")
    if not set(statuses) <= set(LISTABLE):
        wrong["status"] = f"status[0] is not one of {', '.join(LISTABLE)}."
    elif user is None and statuses != ["publish"]:
        wrong["status"] = "Status is forbidden."
    order_by = asked.get("orderby", "date")
    if order_by not in SORTS:
        wrong["orderby"] = f"orderby is not one of {', '.join(SORTS[:-1])}, and {SORTS[-1]}."
    _refuse_invalid(wrong)

    found = [post for post in _state(request).posts.values() if post.type == kind and _matches(post, asked, statuses)]
    key = order_by if order_by in ("id", "author", "modified", "slug", "title") else "date"
    found.sort(key=lambda post: (getattr(post, key), post.id), reverse=asked.get("order", "desc") != "asc")
    pages = -(-len(found) // per_page)
    if number > pages and found:
        words = "The page number requested is larger than the number of pages available."
        raise RefusedError(400, "rest_post_invalid_page_number", words)
    headers = {"X-WP-Total": str(len(found)), "X-WP-TotalPages": str(pages)}
    links = [(number - 1, "prev"), (number + 1, "next")]
    address = f"{_site(request)}{request.url.path}"
    others = {name: value for name, value in asked.items() if name != "page"}
    shown = [f'<{address}?{urlencode(others | {"page": to})}>; rel="{rel}"' for to, rel in links if 1 <= to <= pages]
    if shown:
        headers["Link"] = ", ".join(shown)
    readable = (post for post in found if post.public or (user is not None and user.may_edit(post)))
    part = list(readable)[(number - 1) * per_page : number * per_page]
    return _answer(request, [_shown(request, post) for post in part], headers=headers)


def _matches(post: Post, asked: Mapping[str, str], statuses: Sequence[str]) -> bool:
    wanted = [*WRITABLE, *statuses] if "any" in statuses else statuses
    words = asked.get("search", "").lower().split()
    text = f"{post.title}\n{post.excerpt}\n{post.content}".lower()
    return (
        post.status in wanted
        and all(word in text for word in words)
        and ("slug" not in asked or post.slug in asked["slug"].split(","))
        and ("include" not in asked or str(post.id) in asked["include"].split(","))
        and ("exclude" not in asked or str(post.id) not in asked["exclude"].split(","))
        and ("author" not in asked or str(post.author) in asked["author"].split(","))
        and ("after" not in asked or post.date > asked["after"])
        and ("before" not in asked or post.date < asked["before"])
        and ("modified_after" not in asked or post.modified > asked["modified_after"])
    )


async def _create(request: Request[Any, Any, Any], kind: str) -> Response[Any]:
    user, given = _user(request), await _body(request)
    if user is None or not user.may_create(kind):
        words = "Sorry, you are not allowed to create posts as this user."
        raise RefusedError(_denied(user), "rest_cannot_create", words)
    post = _state(request).create(kind, user, given)
    where = f"{_site(request)}/wp-json/wp/v2/{kind}s/{post.id}"
    return _answer(request, _shown(request, post, raw=True), status=201, headers={"Location": where})


async def _body(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The fields sent as JSON or as a form, refused as WordPress does when one cannot be."""
    sent = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            given = json.loads(sent or b"{}")
        except ValueError as error:
            raise RefusedError(400, "rest_invalid_json", "Invalid JSON body passed.", json_error_code=4) from error
    else:
        given = dict(parse_qsl(sent.decode()))
    wrong: dict[str, str] = {}
    if given.get("status") is not None and given["status"] not in WRITABLE:
        wrong["status"] = f"status is not one of {', '.join(WRITABLE[:-1])}, and {WRITABLE[-1]}."
    if given.get("date") is not None:
        try:
            date = datetime.fromisoformat(str(given["date"]))
            given["date"] = (date.astimezone(UTC) if date.tzinfo else date).strftime(STAMP)
        except ValueError:
            wrong["date"] = "Invalid date."
    _refuse_invalid(wrong)
    fields: dict[str, Any] = given
    return fields


def _shown(request: Request[Any, Any, Any], post: Post, raw: bool = False) -> dict[str, Any]:
    """A post as the API shows it; with `raw`, or asked for context=edit, also what was typed in."""
    site = _site(request)
    raw = raw or request.query_params.get("context") == "edit"
    address = f"{site}/wp-json/wp/v2/{post.type}s"

    def text(typed: str, rendered: str, **more: Any) -> dict[str, Any]:
        return ({"raw": typed} if raw else {}) | {"rendered": rendered} | more

    told = {
        "id": post.id,
        "date": post.date,
        "date_gmt": post.date,
        "guid": {"rendered": f"{site}/?p={post.id}"},
        "modified": post.modified,
        "modified_gmt": post.modified,
        "slug": post.slug,
        "status": post.status,
        "type": post.type,
        "link": post.link(site),
        "title": text(post.title, _title(post.title)),
        "content": text(post.content, _paragraphs(post.content), protected=False),
        "excerpt": text(post.excerpt, _paragraphs(post.excerpt or post.content), protected=False),
        "author": post.author,
        "featured_media": 0,
        "comment_status": "open" if post.type == "post" else "closed",
        "ping_status": "open" if post.type == "post" else "closed",
        "template": "",
        "meta": {"footnotes": ""},
        "_links": {"self": [{"href": f"{address}/{post.id}"}], "collection": [{"href": address}]},
    }
    if post.type == "post":
        told |= {"sticky": False, "format": "standard", "categories": [1], "tags": []}
    if raw:
        told |= {"password": "", "permalink_template": f"{site}/%postname%/", "generated_slug": _slug(post.title)}
    return told


def _answer(
    request: Request[Any, Any, Any], content: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response[Any]:
    if wanted := {name.split(".")[0] for name in request.query_params.get("_fields", "").split(",") if name}:
        many = content if isinstance(content, list) else [content]
        many = [{name: value for name, value in one.items() if name in wanted} for one in many]
        content = many if isinstance(content, list) else many[0]
    return Response(content, status_code=status, headers=headers, media_type="application/json")


def _user(request: Request[Any, Any, Any]) -> User | None:
    """Who signed in. A wrong password is nobody rather than an error, as with the real one."""
    scheme, _, told = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        login, _, password = base64.b64decode(told, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if APP_PASSWORDS.get(login) != re.sub(r"[^A-Za-z0-9]", "", password):  # people type them in groups of four
        return None
    return User(id=[*APP_PASSWORDS].index(login) + 1, login=login)


def _check_context(request: Request[Any, Any, Any], user: User | None) -> None:
    if request.query_params.get("context") == "edit" and user is None:
        words = "Sorry, you are not allowed to edit posts in this post type."
        raise RefusedError(401, "rest_forbidden_context", words)


def _integer(asked: Mapping[str, str], name: str, default: int, wrong: dict[str, str]) -> int:
    told = asked.get(name, str(default))
    if not re.fullmatch(r"-?\d+", told):
        wrong[name] = f"{name} is not of type integer."
    elif name == "per_page" and not 1 <= int(told) <= 100:
        wrong[name] = "per_page must be between 1 (inclusive) and 100 (inclusive)"
    elif int(told) < 1:
        wrong[name] = f"{name} must be greater than or equal to 1"
    else:
        return int(told)
    return default


def _refuse_invalid(wrong: Mapping[str, str]) -> None:
    if wrong:
        raise RefusedError(400, "rest_invalid_param", f"Invalid parameter(s): {', '.join(wrong)}", params=wrong)


def _kind(name: str) -> str:
    if name not in KINDS:
        raise _no_route()
    return KINDS[name]


def _no_route() -> RefusedError:
    return RefusedError(404, "rest_no_route", "No route was found matching the URL and request method.")


def _denied(user: User | None) -> int:
    return 401 if user is None else 403


def _refused(_: Request[Any, Any, Any], error: RefusedError) -> Response[Any]:
    return Response(error.body, status_code=error.status, media_type="application/json")


def _unrouted(request: Request[Any, Any, Any], _: Exception) -> Response[Any]:
    return _refused(request, _no_route())


def _state(request: Request[Any, Any, Any]) -> Site:
    site: Site = request.app.state.site
    return site


def _site(request: Request[Any, Any, Any]) -> str:
    return str(request.base_url).rstrip("/")


def _raw(given: Any) -> str:
    return str(given["raw"] if isinstance(given, dict) else given)


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^a-z0-9\s_-]", "", plain)).strip("-")


def _title(typed: str) -> str:
    return html.escape(html.unescape(typed), quote=False).replace("&amp;", "&#038;")


def _paragraphs(typed: str) -> str:
    parts = [part.strip() for part in re.split(r"\n\s*\n", typed) if part.strip()]
    return "".join(f"{part}\n" if re.match(r"<(p|h\d|ul|ol|div|!--)", part) else f"<p>{part}</p>\n" for part in parts)
