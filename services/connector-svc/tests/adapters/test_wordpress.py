"""The connector `wordpress` against a real WordPress and its stand-in, also through a proxy that fails."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from bizosaas_events import new_id
from bizosaas_ports.cms import Content, ContentPage
from bizosaas_ports.connector import (
    ConnectorPort,
    CredentialRevokedError,
    MaybeAppliedError,
    MisconfiguredError,
    ProviderDownError,
    RateLimitedError,
    RequestRefusedError,
    ResourceNotFoundError,
    ScopeMissingError,
)
from bizosaas_runtime.discovery import discover
from bizosaas_sandbox.servers.wordpress import WordPress, WordPressStandIn
from connector_svc.adapters import connectors as package
from connector_svc.adapters.catalogue import Catalogue
from connector_svc.adapters.connectors._declaration import Connector, Limits
from connector_svc.adapters.connectors.wordpress import WORDPRESS, slug_of
from connector_svc.adapters.http import Http
from connector_svc.adapters.oauth import OAuthClient
from connector_svc.domain.errors import CredentialsInvalidError, SettingInvalidError
from connector_svc.testing.faults import FaultyProxy, answers, cuts, drips, holds, spoils

Open = Callable[..., ConnectorPort]
Site = WordPress | WordPressStandIn


@pytest.fixture(params=["wordpress_server", "wordpress_stand_in"])
def site(request: pytest.FixtureRequest) -> Site:
    """The real one, and the stand-in: it is what the demo has where the real one cannot be had."""
    server: Site = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    client = Http(allow_private=True, user_agent="BizOSaaS/test")
    yield client
    await client.close()


def catalogue_of(http: Http, *, allow_private: bool = True, **change: Any) -> Catalogue:
    declared = discover(package, Connector, key="key")
    if change:
        limits = Limits(**change)
        whole = {name: getattr(WORDPRESS, name) for name in WORDPRESS.__dataclass_fields__}
        declared["wordpress"] = Connector(**whole | {"limits": limits})
    oauth = OAuthClient(declared, {}, http, lambda: datetime.now(UTC))
    return Catalogue(declared, http, oauth, allow_private=allow_private)


@pytest.fixture
def open_as(http: Http, site: Site) -> Open:
    """A connection as one of the site's users, straight to it or to another address."""

    def opened(login: str = "editor", url: str = "", password: str = "", **limits: Any) -> ConnectorPort:
        given = {"username": login, "application_password": password or site.app_passwords[login]}
        return catalogue_of(http, **limits).open("wordpress", {"site_url": url or site.url}, msgspec.json.encode(given))

    return opened


@pytest.fixture
async def proxy(site: Site) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(site.url) as running:
        yield running


async def draft(port: ConnectorPort, title: str = "", key: str = "") -> Content:
    title = title or f"Draft {new_id()}"
    result = await port.call("cms.create_draft", {"title": title, "body": "<p>Hello</p>"}, key or new_id())
    assert isinstance(result.data, Content)
    return result.data


async def with_slug(server: Site, slug: str) -> list[dict[str, Any]]:
    """What the site itself says it has, of any status."""
    asked = {"status": "any,trash", "context": "edit", "search": "", "slug": slug}
    async with httpx.AsyncClient(trust_env=False, auth=server.auth("admin")) as client:
        answer = await client.get(f"{server.url}/wp-json/wp/v2/posts", params=asked)
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_the_check_says_as_whom(open_as: Open) -> None:
    assert (await open_as("author").check()).name == "author"


@pytest.mark.parametrize("login", ["editor", "nobody"])
async def test_a_wrong_password_is_found_by_the_check_although_it_reads_as_anonymous(open_as: Open, login: str) -> None:
    with pytest.raises(CredentialRevokedError):
        await open_as(login, password="wrong wrong wrong").check()


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("cms.list_content", {}),
        ("cms.list_content", {"status": "published"}),
        ("cms.get_content", {"id": "1"}),
        ("cms.create_draft", {"title": "x", "body": "x"}),
        ("cms.update_draft", {"id": "1", "title": "x"}),
        ("cms.publish", {"id": "1"}),
        ("cms.unpublish", {"id": "1"}),
    ],
)
async def test_a_password_that_was_revoked_is_told_by_every_operation(
    open_as: Open, operation: str, arguments: dict[str, Any]
) -> None:
    port = open_as(password="revoked since")

    with pytest.raises(CredentialRevokedError):
        await port.call(operation, arguments, "k")
    if operation != "cms.list_content" and operation != "cms.get_content":
        with pytest.raises(CredentialRevokedError):
            await port.find(operation, arguments, "k")


async def test_an_address_that_is_no_wordpress_is_misconfigured(open_as: Open, site: Site) -> None:
    with pytest.raises(MisconfiguredError):
        await open_as(url=f"{site.url}/wrong/folder").check()


async def test_a_page_of_another_program_is_misconfigured(open_as: Open, proxy: FaultyProxy) -> None:
    proxy.faults.append(answers(200, b"<html>Hello</html>", "text/html"))

    with pytest.raises(MisconfiguredError):
        await open_as(url=proxy.url).check()


async def test_a_site_that_moved_says_where(open_as: Open, proxy: FaultyProxy) -> None:
    proxy.faults.append(answers(301, Location="https://www.moved.test/wp-json/wp/v2/users/me"))

    with pytest.raises(MisconfiguredError) as moved:
        await open_as(url=proxy.url).check()

    assert "https://www.moved.test" in moved.value.vendor_says


async def test_a_draft_is_created_read_changed_published_and_taken_back(open_as: Open, site: Site) -> None:
    port, title = open_as(), f"Life of a post {new_id()}"

    made = await draft(port, title)
    changed = await port.call("cms.update_draft", {"id": made.id, "excerpt": "In short"}, "k2")
    read = await port.call("cms.get_content", {"id": made.id}, "")
    published = await port.call("cms.publish", {"id": made.id}, "k3")
    again = await port.call("cms.publish", {"id": made.id}, "k3")
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as reader:
        page = await reader.get(published.data.url)
    back = await port.call("cms.unpublish", {"id": made.id}, "k4")
    back_again = await port.call("cms.unpublish", {"id": made.id}, "k4")

    assert (made.title, made.status, made.body) == (title, "draft", "<p>Hello</p>")
    assert (changed.data.excerpt, changed.data.body) == ("In short", "<p>Hello</p>")
    assert read.data == changed.data
    assert (read.resource_type, read.resource_id, read.status) == ("post", made.id, 200)
    assert read.bytes > 100
    assert published.data.status == again.data.status == "published"
    assert title in page.text
    assert back.data.status == back_again.data.status == "draft"
    now = datetime.now(UTC)
    assert read.data.updated_at is not None
    assert now - timedelta(minutes=5) < read.data.updated_at < now + timedelta(minutes=5)


async def test_published_content_is_not_changed_as_if_it_were_a_draft(open_as: Open) -> None:
    port = open_as()
    made = await draft(port)
    await port.call("cms.publish", {"id": made.id}, "k")

    with pytest.raises(RequestRefusedError, match="unpublish"):
        await port.call("cms.update_draft", {"id": made.id, "title": "Sneaky"}, "k2")


async def test_a_list_comes_in_pages_newest_first_and_without_bodies(open_as: Open) -> None:
    port, word = open_as(), f"w{new_id().replace('-', '')}"
    made = [await draft(port, f"{word} {n}") for n in range(3)]

    first = (await port.call("cms.list_content", {"search": word, "limit": 2}, "")).data
    second = (await port.call("cms.list_content", {"search": word, "limit": 2, "cursor": first.next}, "")).data
    behind = (await port.call("cms.list_content", {"search": word, "limit": 2, "cursor": "9"}, "")).data
    drafts = (await port.call("cms.list_content", {"search": word, "status": "published"}, "")).data

    assert isinstance(first, ContentPage)
    assert (first.total, len(first.items), bool(first.next)) == (3, 2, True)
    assert (len(second.items), second.next) == (1, "")
    assert {item.id for item in [*first.items, *second.items]} == {item.id for item in made}
    assert all(item.body == "" for item in first.items)
    assert (behind.items, behind.next) == ([], "")
    assert drafts.items == []


@pytest.mark.parametrize("id", ["999999999", "0", "../users/1", "1?force=true", "x", "", "1/2", "１"])
async def test_an_id_that_there_is_not_is_not_found_and_leads_nowhere_else(open_as: Open, id: str) -> None:
    for operation in ("cms.get_content", "cms.publish"):
        with pytest.raises(ResourceNotFoundError):
            await open_as().call(operation, {"id": id}, "k")


async def test_what_a_user_may_not_do_is_told_as_that(open_as: Open) -> None:
    made = await draft(open_as("admin"))

    with pytest.raises(ScopeMissingError):
        await open_as("author").call("cms.publish", {"id": made.id}, "k")


@pytest.mark.parametrize("title", ["Plain", "Über ünïcode — 日本", "!!!", "x" * 500, "a/b?c=d&e#f", "<b>Bold</b>"])
async def test_a_draft_is_found_again_by_its_key_whatever_its_title(open_as: Open, title: str, site: Site) -> None:
    port, key = open_as(), new_id()
    asked = {"title": title, "body": "x"}

    before = await port.find("cms.create_draft", asked, key)
    made = await draft(port, title, key)
    found = await port.find("cms.create_draft", asked, key)
    other = await port.find("cms.create_draft", asked, new_id())

    assert before is None
    assert other is None
    assert found is not None
    assert found.data.id == made.id
    assert [post["slug"] for post in await with_slug(site, slug_of(title, key))] == [slug_of(title, key)]


async def test_a_draft_is_found_again_whatever_has_become_of_it(open_as: Open, site: Site) -> None:
    port, key, title = open_as(), new_id(), f"Fate {new_id()}"
    made = await draft(port, title, key)
    asked = {"title": title, "body": "x"}

    await port.call("cms.publish", {"id": made.id}, "k")
    published = await port.find("cms.create_draft", asked, key)
    async with httpx.AsyncClient(trust_env=False, auth=site.auth("admin")) as client:
        await client.delete(f"{site.url}/wp-json/wp/v2/posts/{made.id}")
    trashed = await port.find("cms.create_draft", asked, key)

    assert published is not None
    assert published.data.status == "published"
    assert trashed is not None
    assert (trashed.data.id, trashed.data.status) == (made.id, "trashed")


async def test_whether_a_change_was_made_can_be_found_out(open_as: Open) -> None:
    port = open_as()
    made = await draft(port)

    not_yet = [
        await port.find("cms.publish", {"id": made.id}, "k"),
        await port.find("cms.update_draft", {"id": made.id, "title": "New"}, "k"),
    ]
    await port.call("cms.update_draft", {"id": made.id, "title": "New"}, "k")
    updated = await port.find("cms.update_draft", {"id": made.id, "title": "New"}, "k")
    unpublished = await port.find("cms.unpublish", {"id": made.id}, "k")
    await port.call("cms.publish", {"id": made.id}, "k")
    published = await port.find("cms.publish", {"id": made.id}, "k")

    assert not_yet == [None, None]
    assert None not in (updated, unpublished, published)
    with pytest.raises(ResourceNotFoundError):
        await port.find("cms.publish", {"id": "99999999"}, "k")


@pytest.mark.parametrize(
    "fault",
    [
        answers(500, b'{"code":"internal_server_error","message":"x"}'),
        answers(502, b"<html>bad gateway</html>", "text/html"),
        answers(503),
        answers(200, b"<html>maintenance</html>", "text/html"),
        answers(200, b'{"id":"no number"}'),
        answers(200, b"\xff\xfe"),
        drips(5),
        holds(before=3),
    ],
)
async def test_a_read_that_goes_wrong_says_that_the_provider_is_down(
    open_as: Open, proxy: FaultyProxy, fault: Any
) -> None:
    proxy.faults.append(fault)

    with pytest.raises(ProviderDownError):
        await open_as(url=proxy.url, seconds=0.5).call("cms.get_content", {"id": "1"}, "")


async def test_a_read_that_was_cut_is_read_again(open_as: Open, proxy: FaultyProxy) -> None:
    proxy.faults.append(cuts(applied=False))

    result = await open_as(url=proxy.url).call("cms.get_content", {"id": "1"}, "")

    assert result.data.id == "1"
    assert len(proxy.requests) == 2


async def test_a_limit_says_how_long_to_wait(open_as: Open, proxy: FaultyProxy) -> None:
    proxy.faults.extend([answers(429, Retry_After="17"), answers(429, Retry_After="Fri, 01 Jan 2027 00:00:00 GMT")])

    for seconds in (17.0, WORDPRESS.limits.retry_after):
        with pytest.raises(RateLimitedError) as limited:
            await open_as(url=proxy.url).call("cms.create_draft", {"title": "x", "body": "x"}, "k")
        assert limited.value.retry_after == seconds


@pytest.mark.parametrize(
    ("fault", "applied", "answered"),
    [
        (cuts(applied=False), False, False),
        (cuts(applied=True), True, False),
        (cuts(applied=True, answer=b"HTTP/1.1 201 Created\r\nContent-Length: 999\r\n\r\n{"), True, False),
        (answers(500), False, True),
        (spoils(502), True, True),
        (spoils(200), True, True),
        (holds(after=2), True, False),
    ],
)
async def test_a_write_that_goes_wrong_may_have_been_applied_and_the_site_knows(
    open_as: Open, proxy: FaultyProxy, fault: Any, applied: bool, answered: bool
) -> None:
    port, key, title = open_as(url=proxy.url, seconds=1.0), new_id(), f"Fault {new_id()}"
    proxy.only = "POST"
    proxy.faults.append(fault)

    with pytest.raises(MaybeAppliedError) as broken:
        await draft(port, title, key)
    found = await port.find("cms.create_draft", {"title": title, "body": "<p>Hello</p>"}, key)

    assert broken.value.answered is answered
    assert (found is not None) is applied
    assert sum(request.startswith("POST") for request in proxy.requests) == 1


async def test_a_site_that_cannot_be_reached_was_not_changed(open_as: Open) -> None:
    with pytest.raises(ProviderDownError):
        await draft(open_as(url="http://127.0.0.1:9"))


def test_a_revoked_password_shows_in_no_repr(open_as: Open, site: Site) -> None:
    port = open_as()
    assert site.app_passwords["editor"] not in f"{port!r} {port}"


@pytest.mark.parametrize(
    "value",
    ["", "example.com", "ftp://example.com", "https://", "https://user:pw@example.com", "https://example.com/?a=b",
     "https://example.com/#x", "https://exa mple.com", "javascript:alert(1)", "https://example.com:99999",
     "https://" + "x" * 3000, "http://127.0.0.1", "http://localhost:8080", "http://[::1]/", "http://169.254.169.254/",
     "https://\u202e.com", "https://" + "a" * 64 + ".com", "https://a..b"],
)  # fmt: skip
async def test_an_address_that_will_not_do_is_refused_by_name(http: Http, value: str) -> None:
    with pytest.raises(SettingInvalidError) as refused:
        catalogue_of(http, allow_private=False).settings("wordpress", {"site_url": value})

    assert refused.value.field == "settings.site_url"
    assert refused.value.remedy


async def test_settings_come_in_one_form_and_unknown_ones_are_refused(http: Http) -> None:
    catalogue = catalogue_of(http, allow_private=False)

    assert catalogue.settings("wordpress", {"site_url": " https://example.com/blog/ "}) == {
        "site_url": "https://example.com/blog"
    }
    with pytest.raises(SettingInvalidError) as refused:
        catalogue.settings("wordpress", {"site_url": "https://example.com", "password": "x"})
    assert refused.value.field == "settings.password"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (b"not json", "credentials"),
        (b'"text"', "credentials"),
        (b'{"username":7}', "credentials"),
        (b'{"username":"a","application_password":"b","token":"c"}', "credentials"),
        (b'{"username":"ann"}', "credentials.application_password"),
        (b'{"username":"","application_password":"x"}', "credentials.username"),
        (b'{"username":"a:b","application_password":"x"}', "credentials.username"),
    ],
)
async def test_credentials_that_lack_something_are_refused_by_field(http: Http, given: bytes, field: str) -> None:
    with pytest.raises(CredentialsInvalidError) as refused:
        catalogue_of(http).open("wordpress", {"site_url": "https://example.com"}, given)

    assert refused.value.field == field
