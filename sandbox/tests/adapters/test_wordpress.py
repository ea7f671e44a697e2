"""One suite for the real WordPress and its stand-in, so that the stand-in cannot drift."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bizosaas_sandbox.servers import UnavailableError
from bizosaas_sandbox.servers.wordpress import WordPress, WordPressStandIn, start_wordpress

Site = WordPress | WordPressStandIn
POSTS = "/wp-json/wp/v2/posts"
ME = "/wp-json/wp/v2/users/me"


@pytest.fixture(params=["wordpress_server", "wordpress_stand_in"])
def site(request: pytest.FixtureRequest) -> Site:
    server: Site = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def admin(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, auth=site.auth("admin"), timeout=30) as client:
        yield client


@pytest.fixture
def author(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, auth=site.auth("author"), timeout=30) as client:
        yield client


@pytest.fixture
def visitor(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, timeout=30) as client:
        yield client


@pytest.fixture
def word() -> str:
    """A word in no other test's posts, to search for."""
    return f"w{secrets.token_hex(6)}"


def _refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, having checked that it has WordPress' shape."""
    body = answer.json()
    assert isinstance(body["message"], str)
    assert body["data"]["status"] == answer.status_code
    return answer.status_code, body["code"]


def _made(client: httpx.Client, **fields: object) -> dict[str, object]:
    answer = client.post(POSTS, json=fields)
    assert answer.status_code == 201, answer.text
    post: dict[str, object] = answer.json()
    return post


def test_the_index_says_how_to_sign_in(visitor: httpx.Client) -> None:
    index = visitor.get("/wp-json/").json()
    assert "wp/v2" in index["namespaces"]
    assert index["url"] == str(visitor.base_url).rstrip("/")
    assert "authorization" in index["authentication"]["application-passwords"]["endpoints"]


@pytest.mark.parametrize(("login", "role"), [("admin", "administrator"), ("editor", "editor"), ("author", "author")])
def test_an_application_password_signs_in(site: Site, login: str, role: str) -> None:
    me = httpx.get(site.url + ME, params={"context": "edit"}, auth=site.auth(login)).json()
    assert (me["slug"], me["username"], me["roles"]) == (login, login, [role])


def test_spaces_in_an_application_password_do_not_matter(site: Site) -> None:
    login, password = site.auth("editor")
    spaced = " ".join(password[start : start + 4] for start in range(0, len(password), 4))
    assert httpx.get(site.url + ME, auth=(login, spaced)).status_code == 200


@pytest.mark.parametrize("auth", [None, ("admin", "wrong"), ("nobody", "wrong")])
def test_a_wrong_password_reads_as_a_visitor(site: Site, auth: tuple[str, str] | None) -> None:
    with httpx.Client(base_url=site.url, auth=auth, timeout=30) as client:
        assert client.get(POSTS).status_code == 200
        assert _refusal(client.get(ME)) == (401, "rest_not_logged_in")
        assert _refusal(client.post(POSTS, json={"title": "x"})) == (401, "rest_cannot_create")


def test_a_draft_is_hidden_until_it_is_published(admin: httpx.Client, visitor: httpx.Client, word: str) -> None:
    answer = admin.post(POSTS, json={"title": f"Tea & {word}", "content": "<p>Hot.</p>", "excerpt": "Short."})
    draft = answer.json()
    address = f"{POSTS}/{draft['id']}"

    assert answer.status_code == 201
    assert answer.headers["location"] == f"{admin.base_url}{address}"
    assert (draft["status"], draft["slug"], draft["type"]) == ("draft", "", "post")
    assert draft["title"] == {"raw": f"Tea & {word}", "rendered": f"Tea &#038; {word}"}
    assert draft["content"]["rendered"] == "<p>Hot.</p>\n"
    assert draft["link"].endswith(f"/?p={draft['id']}")
    assert _refusal(visitor.get(address)) == (401, "rest_forbidden")

    published = admin.post(address, json={"status": "publish"}).json()

    assert (published["status"], published["slug"]) == ("publish", f"tea-{word}")
    assert published["link"] == f"{admin.base_url}/tea-{word}/"
    shown = visitor.get(address).json()
    assert shown["title"] == {"rendered": f"Tea &#038; {word}"}
    assert shown["excerpt"]["rendered"] == "<p>Short.</p>\n"
    assert visitor.get(published["link"]).status_code == 200
    assert "<p>Hot.</p>" in visitor.get(published["link"]).text


def test_a_post_taken_back_is_hidden_again(admin: httpx.Client, visitor: httpx.Client, word: str) -> None:
    post = _made(admin, title=word, status="publish")

    taken_back = admin.post(f"{POSTS}/{post['id']}", json={"status": "draft"}).json()

    assert taken_back["status"] == "draft"
    assert _refusal(visitor.get(f"{POSTS}/{post['id']}")) == (401, "rest_forbidden")
    assert visitor.get(f"/{word}/").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_change_keeps_what_it_does_not_name(admin: httpx.Client, word: str, method: str) -> None:
    post = _made(admin, title="Old", content=f"<p>{word}</p>", status="publish")

    changed = admin.request(method, f"{POSTS}/{post['id']}", json={"title": "New"}).json()

    assert changed["title"]["raw"] == "New"
    assert changed["content"]["raw"] == f"<p>{word}</p>"
    assert (changed["status"], changed["slug"], changed["date"]) == ("publish", post["slug"], post["date"])


def test_fields_come_as_a_form_and_as_objects_too(admin: httpx.Client, word: str) -> None:
    form = admin.post(POSTS, data={"title": word})
    nested = admin.post(POSTS, json={"title": {"raw": word}, "content": {"raw": "c"}})
    assert (form.status_code, form.json()["title"]["raw"]) == (201, word)
    assert (nested.status_code, nested.json()["title"]["raw"]) == (201, word)


def test_a_slug_is_cleaned_and_given_once(admin: httpx.Client, word: str) -> None:
    first = _made(admin, title="x", slug=f"My {word}!", status="publish")
    second = _made(admin, title="x", slug=f"my-{word}", status="publish")

    assert (first["slug"], second["slug"]) == (f"my-{word}", f"my-{word}-2")
    found = admin.get(POSTS, params={"slug": f"my-{word}"}).json()
    assert [post["id"] for post in found] == [first["id"]]


def test_pages_are_counted_and_linked(admin: httpx.Client, visitor: httpx.Client, word: str) -> None:
    made = [_made(admin, title=f"{word} {n}", status="publish", date=f"2026-01-0{n}T10:00:00")["id"] for n in (1, 2, 3)]

    first = visitor.get(POSTS, params={"search": word, "per_page": 2})
    second = visitor.get(POSTS, params={"search": word, "per_page": 2, "page": 2})

    assert (first.headers["x-wp-total"], first.headers["x-wp-totalpages"]) == ("3", "2")
    assert [post["id"] for post in first.json() + second.json()] == made[::-1]
    assert first.links["next"]["url"].startswith(f"{visitor.base_url}/wp-json/wp/v2/posts?")
    assert visitor.get(first.links["next"]["url"]).json() == second.json()
    assert "prev" in second.links
    assert "next" not in second.links
    too_far = visitor.get(POSTS, params={"search": word, "page": 9})
    assert _refusal(too_far) == (400, "rest_post_invalid_page_number")


def test_nothing_found_is_an_empty_page(visitor: httpx.Client, word: str) -> None:
    answer = visitor.get(POSTS, params={"search": word})
    assert (answer.json(), answer.headers["x-wp-total"], answer.headers["x-wp-totalpages"]) == ([], "0", "0")


def test_a_list_is_sorted_filtered_and_shortened_as_asked(
    admin: httpx.Client, visitor: httpx.Client, word: str
) -> None:
    b, a = (_made(admin, title=f"{title} {word}", status="publish")["id"] for title in ("B", "A"))
    asked = {"search": word, "orderby": "title", "order": "asc", "_fields": "id"}

    assert visitor.get(POSTS, params=asked).json() == [{"id": a}, {"id": b}]
    assert visitor.get(POSTS, params=asked | {"include": str(b)}).json() == [{"id": b}]
    assert visitor.get(POSTS, params=asked | {"exclude": str(b)}).json() == [{"id": a}]


def test_drafts_are_listed_to_who_may_see_them(admin: httpx.Client, visitor: httpx.Client, word: str) -> None:
    draft = _made(admin, title=word)

    assert visitor.get(POSTS, params={"search": word}).json() == []
    listed = admin.get(POSTS, params={"search": word, "status": "draft,publish"})
    assert [post["id"] for post in listed.json()] == [draft["id"]]
    assert admin.get(POSTS, params={"search": word, "status": "any"}).headers["x-wp-total"] == "1"
    assert _refusal(visitor.get(POSTS, params={"status": "draft"})) == (400, "rest_invalid_param")


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"per_page": "1000"}, "per_page"),
        ({"per_page": "0"}, "per_page"),
        ({"page": "0"}, "page"),
        ({"status": "nope"}, "status"),
        ({"orderby": "nope"}, "orderby"),
    ],
)
def test_a_wrong_parameter_is_named(admin: httpx.Client, asked: dict[str, str], named: str) -> None:
    answer = admin.get(POSTS, params=asked)
    assert _refusal(answer) == (400, "rest_invalid_param")
    assert list(answer.json()["data"]["params"]) == [named]


@pytest.mark.parametrize(
    ("fields", "code"),
    [({}, "empty_content"), ({"title": "x", "status": "nope"}, "rest_invalid_param"),
     ({"title": "x", "date": "nope"}, "rest_invalid_param")],
)  # fmt: skip
def test_a_post_that_cannot_be_is_refused(admin: httpx.Client, fields: dict[str, str], code: str) -> None:
    assert _refusal(admin.post(POSTS, json=fields)) == (400, code)


def test_a_body_that_is_not_json_is_refused(admin: httpx.Client) -> None:
    answer = admin.post(POSTS, content="{", headers={"Content-Type": "application/json"})
    assert _refusal(answer) == (400, "rest_invalid_json")


def test_a_post_of_the_future_waits(admin: httpx.Client, visitor: httpx.Client, word: str) -> None:
    post = _made(admin, title=word, status="publish", date="2099-01-01T00:00:00")
    assert (post["status"], post["date"]) == ("future", "2099-01-01T00:00:00")
    assert visitor.get(POSTS, params={"search": word}).json() == []


def test_deleting_goes_by_the_trash_unless_forced(admin: httpx.Client, visitor: httpx.Client, word: str) -> None:
    post = _made(admin, title=word, status="publish")
    address = f"{POSTS}/{post['id']}"

    trashed = admin.delete(address)
    assert (trashed.status_code, trashed.json()["status"], trashed.json()["slug"]) == (200, "trash", f"{word}__trashed")
    assert _refusal(admin.delete(address)) == (410, "rest_already_trashed")
    assert _refusal(visitor.get(address)) == (401, "rest_forbidden")

    gone = admin.delete(address, params={"force": "true"}).json()
    assert (gone["deleted"], gone["previous"]["id"]) == (True, post["id"])
    assert _refusal(admin.get(address)) == (404, "rest_post_invalid_id")


def test_an_author_changes_their_own_posts_only(author: httpx.Client, admin: httpx.Client, word: str) -> None:
    theirs = _made(author, title=word)
    other = _made(admin, title=word, status="publish")

    assert author.post(f"{POSTS}/{theirs['id']}", json={"title": "x"}).status_code == 200
    assert _refusal(author.post(f"{POSTS}/{other['id']}", json={"title": "x"})) == (403, "rest_cannot_edit")
    assert _refusal(author.delete(f"{POSTS}/{other['id']}")) == (403, "rest_cannot_delete")
    assert _refusal(author.post(POSTS, json={"title": "x", "author": 1})) == (403, "rest_cannot_edit_others")
    assert _refusal(author.post("/wp-json/wp/v2/pages", json={"title": "x"})) == (403, "rest_cannot_create")


def test_a_visitor_changes_nothing(admin: httpx.Client, visitor: httpx.Client, word: str) -> None:
    address = f"{POSTS}/{_made(admin, title=word, status='publish')['id']}"
    assert _refusal(visitor.post(address, json={"title": "x"})) == (401, "rest_cannot_edit")
    assert _refusal(visitor.delete(address)) == (401, "rest_cannot_delete")
    assert _refusal(visitor.get(POSTS, params={"context": "edit"})) == (401, "rest_forbidden_context")


def test_pages_are_not_posts(admin: httpx.Client, visitor: httpx.Client, word: str) -> None:
    answer = admin.post("/wp-json/wp/v2/pages", json={"title": word, "status": "publish"})
    page = answer.json()

    assert (answer.status_code, page["type"]) == (201, "page")
    assert [found["id"] for found in visitor.get("/wp-json/wp/v2/pages", params={"search": word}).json()] == [
        page["id"]
    ]
    assert visitor.get(POSTS, params={"search": word}).json() == []
    assert _refusal(admin.get(f"{POSTS}/{page['id']}")) == (404, "rest_post_invalid_id")


@pytest.mark.parametrize("path", ["/wp-json/wp/v2/nothing", "/wp-json/nothing", f"{POSTS}/abc"])
def test_an_unknown_route_is_said_to_be_one(visitor: httpx.Client, path: str) -> None:
    assert _refusal(visitor.get(path)) == (404, "rest_no_route")


def test_an_unknown_post_is_not_found(admin: httpx.Client, visitor: httpx.Client) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert _refusal(admin.request(method, f"{POSTS}/999999")) == (404, "rest_post_invalid_id")
    missing = visitor.get("/no-such-post/")
    assert (missing.status_code, missing.headers["content-type"].split(";")[0]) == (404, "text/html")


def test_asking_for_the_head_counts_without_a_body(visitor: httpx.Client) -> None:
    answer = visitor.head(POSTS)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["x-wp-total"]) >= 1


@pytest.mark.parametrize("kind", ["real", "stand-in"])
def test_posts_and_passwords_survive_a_stop_and_a_kill(kind: str, run_folder: Path, npm_cache: Path) -> None:
    name = f"kept-{secrets.token_hex(4)}"

    def site() -> Site:
        data = run_folder / name
        return WordPress(data, cache=npm_cache) if kind == "real" else WordPressStandIn(data)

    server = site()
    try:
        server.start()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        auth = server.auth("editor")
        post = httpx.post(server.url + POSTS, json={"title": name, "status": "publish"}, auth=auth, timeout=30).json()
        server.kill()
        server.start()
        server.stop()
        with site() as again:  # on another port, as after everything was started anew
            found = httpx.get(f"{again.url}{POSTS}/{post['id']}", params={"context": "edit"}, auth=auth, timeout=30)
        assert found.json()["title"]["raw"] == name
        assert found.json()["link"] == f"{again.url}/{name}/"
    finally:
        server.stop()


def test_the_stand_in_takes_the_place_of_a_wordpress_that_cannot_be_had(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # nothing listens there: as without a network
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "empty"))
    said: list[str] = []

    with start_wordpress(run_folder / "anew", say=said.append, cache=tmp_path / "cache") as server:
        assert isinstance(server, WordPressStandIn)
        assert httpx.get(server.url + ME, auth=server.auth()).status_code == 200
    assert any("no real WordPress (npm could not fetch it" in text for text in said)
