"""The story that `bizos demo` plays and the end-to-end test asserts: one business, from its first sign-in to its audit."""

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import psutil
from rich.markup import escape

from .client import Client
from .output import console

PASSWORD = "correct horse battery staple"  # of people who exist for one demo


class StoryError(Exception):
    """Something was not as the story promises; the message says what was asked and what came."""


class Blog(Protocol):
    """The CMS of the story: a WordPress, or its stand-in."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def version(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def url(self) -> str: ...
    def auth(self, login: str = "admin") -> tuple[str, str]: ...


class Vendor(Protocol):
    """The OAuth 2.0 vendor of the story."""

    access_token_ttl: int

    def sign_in(self, authorization_url: str, login: str = "alice") -> str: ...


@dataclass(frozen=True)
class World:
    """Where the story takes place."""

    url: str
    keys: Mapping[str, str]
    blog: Blog
    vendor: Vendor
    kill_connector_svc: Callable[[], None]
    """SIGKILL; something else starts it again."""


class Feed:
    """The tenant's events as they come, from `GET /v1/stream`."""

    def __init__(self, client: Client) -> None:
        self.events: list[str] = []
        self._client = client
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        import msgspec

        with (
            suppress(httpx.HTTPError),
            self._client.http.stream("GET", "/v1/stream", headers={"Last-Event-ID": "0"}, timeout=None) as stream,
        ):
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    event = msgspec.json.decode(line[5:])
                    self.events.append(f"{event['type']}  {event['words']}")


@dataclass
class Story:
    """Plays the steps in order; each prints what was asked, the answer, the events that came of it, and its time."""

    world: World
    feed: Feed | None = None
    seen: int = 0
    people: dict[str, Client] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    def play(self) -> None:
        """Raises StoryError or ProblemError at the first thing that does not hold."""
        for number, step in enumerate(
            (self.sign_up, self.connect, self.write, self.publish, self.crash, self.audit), start=1
        ):
            began = time.monotonic()
            console.print(f"\n[bold]{number}. {(step.__doc__ or '').split(chr(10))[0]}[/bold]")
            step()
            self._tell_events()
            console.print(f"   [dim]{time.monotonic() - began:.2f} s[/dim]")
        if self.feed is not None:
            self.feed._client.close()

    # 1 -----------------------------------------------------------------------------------------

    def sign_up(self) -> None:
        """A platform admin creates the tenant acme; a tenant user may not add a connection."""
        keys = self.world.keys
        root = Client(self.world.url).sign_in(keys["BIZOS_ADMIN_EMAIL"], keys["BIZOS_ADMIN_PASSWORD"])
        emails = self.found["emails"] = {"root": keys["BIZOS_ADMIN_EMAIL"]}
        self.people["root"] = root
        name = secrets.token_hex(3)
        platform_admin = f"petra-{name}@bizos.test"
        self._do(
            root, "POST", "/v1/tenants/platform/members", _person("Petra Platform", platform_admin, "platform_admin")
        )
        emails["petra"] = platform_admin
        petra = self.people["petra"] = Client(self.world.url).sign_in(platform_admin, PASSWORD)
        made = self._do(petra, "POST", "/v1/tenants", {"slug": f"acme-{name}", "name": "Acme"})
        tenant = self.found["tenant"] = made["id"]
        for key, person, role in (("ada", "Ada Admin", "tenant_admin"), ("uma", "Uma User", "tenant_user")):
            email = emails[key] = f"{key}-{name}@acme.test"
            self._do(petra, "POST", f"/v1/tenants/{tenant}/members", _person(person, email, role))
            self.people[key] = Client(self.world.url).sign_in(email, PASSWORD)
        self.feed = Feed(Client(self.world.url, self._token("ada")))
        refused = self._refused(self.people["uma"], "POST", "/v1/connections", self._wordpress(), 403)
        self._expect("manage_integrations" in refused["detail"], "the problem names the missing permission", refused)

    # 2 -----------------------------------------------------------------------------------------

    def connect(self) -> None:
        """The tenant admin connects WordPress with an application password, and a vendor with OAuth 2.0 and PKCE."""
        ada, blog = self.people["ada"], self.world.blog
        console.print(f"   [dim]the CMS is {blog.name} {blog.version} ({blog.source})[/dim]")
        connected = self._do(ada, "POST", "/v1/connections", self._wordpress())
        self.found["blog"] = connected["id"]
        view = self._read(ada, f"/v1/connections/{connected['id']}", connected)
        self._expect(view["status"] == "connected", "WordPress is connected", view)

        begun = self._do(ada, "POST", "/v1/oauth/authorize/openid", {"label": "Vendor account"})
        back = self.world.vendor.sign_in(begun["url"])
        self._say("GET", f"{begun['url'].split('?')[0]}?…", "the person signs in and consents at the vendor")
        answered = httpx.get(back, headers={"Accept": "application/json"}, timeout=30)
        self._say("GET", "/v1/oauth/callback?code=…&state=…", f"{answered.status_code}")
        self._expect(answered.status_code == 200, "the callback completes the flow", answered.text)
        replayed = httpx.get(back, headers={"Accept": "application/json"}, timeout=30)
        self._say("GET", "/v1/oauth/callback (replayed)", f"{replayed.status_code} {replayed.json().get('type')}")
        self._expect(replayed.status_code == 409, "a replayed callback is refused", replayed.text)
        vendor = self.found["vendor"] = begun["connection_id"]
        view = self._read(ada, f"/v1/connections/{vendor}", answered.json())
        self._expect(view["status"] == "connected", "the vendor is connected", view)
        first = view["fingerprint"]
        time.sleep(self.world.vendor.access_token_ttl + 0.2)
        called = self._call(ada, vendor, "identity.get_profile", {})
        self._expect(bool(called["result"]["data"]["id"]), "a call after the token expired succeeds", called)
        view = self._read(ada, f"/v1/connections/{vendor}", called)
        self._expect(view["fingerprint"] != first, "with a refreshed credential", view)
        self.found["between"] = time.time()
        self.found["then"] = self._read(ada, f"/v1/connections/{self.found['blog']}", called)

    # 3 -----------------------------------------------------------------------------------------

    def write(self) -> None:
        """The tenant user asks the agent content-creator for an article; the draft is really in WordPress."""
        uma = self.people["uma"]
        brief = {"topic": "Autumn soups from the market", "audience": "home cooks", "tone": "warm"}
        run = self._do(uma, "POST", "/v1/agents/content-creator/runs", {"brief": brief}, wait=30)
        draft = run["result"]["output"]
        self._expect(run["result"]["simulated"] is True, "the answer is marked simulated", run["result"])
        self.found["content"] = draft["content_id"]
        console.print(f"   [dim]a Draft: “{escape(draft['title'])}”, {len(draft['body'])} characters[/dim]")
        post = self._post(draft["content_id"])
        self._expect(post["status"] == "draft", "the draft is in WordPress", post)
        self.found["link"] = post["link"]

    # 4 -----------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Publishing waits for approval: the tenant admin sees the exact arguments, approves, and the post is public."""
        uma, ada = self.people["uma"], self.people["ada"]
        request = {
            "name": "content_approval",
            "input": {"connection_id": self.found["blog"], "content_id": self.found["content"]},
        }
        started = self._do(uma, "POST", "/v1/workflows", request)
        approval = self._until(
            lambda: next(
                (
                    a
                    for a in ada.ask("GET", "/v1/approvals?status=pending")["items"]
                    if a["workflow_id"] == started["id"]
                ),
                None,
            ),
            "the pending approval",
        )
        self._say("GET", "/v1/approvals?status=pending", f"{approval['operation']} {approval['arguments']}")
        self._expect(approval["arguments"] == {"id": self.found["content"]}, "the exact arguments are shown", approval)
        self._expect(self._public() != 200, "nothing is public before", self.found["link"])
        decision = {"verdict": "approved", "arguments_digest": approval["arguments_digest"]}
        self._do(ada, "POST", f"/v1/approvals/{approval['id']}/decision", decision)
        self._until(lambda: self._public() == 200 or None, "the public post")
        self._say("GET", self._permalink(), "200, public")
        again = self._refused(ada, "POST", f"/v1/approvals/{approval['id']}/decision", decision, 409)
        self._expect(again["type"].endswith("already-decided"), "a second decision is refused", again)
        self._until(
            lambda: ada.ask("GET", f"/v1/workflows/{started['id']}")["status"] == "completed" or None,
            "the workflow's end",
        )

    # 5 -----------------------------------------------------------------------------------------

    def crash(self) -> None:
        """connector-svc is killed with SIGKILL in the middle of a command; the command completes once."""
        ada, blog = self.people["ada"], self.found["blog"]
        title = f"Written through a crash {secrets.token_hex(4)}"
        body = {"operation": "cms.create_draft", "arguments": {"title": title, "body": "<p>Once.</p>"}}
        before = {call["id"] for call in ada.ask("GET", f"/v1/connections/{blog}/calls")["items"]}
        with _paused(self.world.blog.pid):
            sent = ada.send("POST", f"/v1/connections/{blog}/calls", body)
            self._say("POST", f"/v1/connections/{blog}/calls", f"{sent.status_code} accepted")
            self._expect(sent.status_code == 202, "the command is accepted", sent.text)
            self._until(
                lambda: next(
                    (
                        c
                        for c in ada.ask("GET", f"/v1/connections/{blog}/calls")["items"]
                        if c["id"] not in before and c["status"] == "started"
                    ),
                    None,
                ),
                "the call in flight",
            )
            self.world.kill_connector_svc()
            self._say("SIGKILL", "connector-svc", "killed while WordPress was being asked")
        listed = self._until(lambda: ada.ask("GET", "/v1/connections")["items"] or None, "an answer while it is away")
        console.print(f"   [dim]the platform carries on: {len(listed)} connections listed[/dim]")
        call = self._until(
            lambda: next(
                (
                    c
                    for c in ada.ask("GET", f"/v1/connections/{blog}/calls")["items"]
                    if c["id"] not in before and c["status"] == "succeeded"
                ),
                None,
            ),
            "the completed call",
            seconds=40,
        )
        posts = self._posts(title)
        self._expect(len(posts) == 1, "the draft exists exactly once", posts)
        self._say("GET", sent.headers["Location"], f"succeeded once: post {call['resource_id']}")

    # 6 -----------------------------------------------------------------------------------------

    def audit(self) -> None:
        """The audit log tells the whole history, rebuilds a past state, and verifies its hash chain."""
        ada, petra, blog = self.people["ada"], self.people["petra"], self.found["blog"]
        self._until(self._audited, "the last event in the journal")
        history = self._do(ada, "GET", "/v1/audit/history?limit=200")
        for entry in reversed(history["entries"][-8:]):
            console.print(f"   [dim]{entry['time'][11:19]}  {escape(entry['words'])}[/dim]")
        self._expect(len(history["entries"]) > 20, "the history is whole", len(history["entries"]))
        at = _iso(self.found["between"])
        then = self._do(ada, "GET", f"/v1/audit/state/connection/{blog}?at={at}")
        shown = {name: value for name, value in self.found["then"].items() if name in then["state"]}
        self._expect(then["state"] == shown, "the state of then is what was shown then", then)
        verified = self._do(petra, "POST", "/v1/audit/verifications", {}, wait=30)["result"]
        self._expect(verified["breaks"] == [] and verified["events"] > 30, "the chain holds", verified)
        console.print(f"   [dim]{verified['events']} events verified, none changed[/dim]")

    # -------------------------------------------------------------------------------------------

    def _audited(self) -> bool | None:
        entries = self.people["ada"].ask("GET", "/v1/audit/history?limit=5")["entries"]
        return any("once" in e["words"].lower() or "succeeded" in e["words"] for e in entries) or None

    def _wordpress(self) -> dict[str, Any]:
        username, password = self.world.blog.auth("admin")
        return {
            "connector": "wordpress",
            "label": "Company blog",
            "settings": {"site_url": self.world.blog.url},
            "credentials": {"username": username, "application_password": password},
        }

    def _call(self, who: Client, connection: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        body = {"operation": operation, "arguments": arguments}
        answer: dict[str, Any] = self._do(who, "POST", f"/v1/connections/{connection}/calls", body)
        return answer

    def _post(self, id: str) -> dict[str, Any]:
        answer = httpx.get(
            f"{self.world.blog.url}/wp-json/wp/v2/posts/{id}?context=edit", auth=self.world.blog.auth(), timeout=20
        )
        self._expect(answer.status_code == 200, f"post {id} is in the CMS", answer.text[:200])
        post: dict[str, Any] = answer.json()
        return post

    def _posts(self, title: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"{self.world.blog.url}/wp-json/wp/v2/posts?search={title.rsplit(' ', 1)[1]}&status=any&context=edit",
            auth=self.world.blog.auth(),
            timeout=20,
        )
        return [post for post in answer.json() if post["title"]["raw"] == title]

    def _permalink(self) -> str:
        return str(self._post(self.found["content"])["link"])

    def _public(self) -> int:
        """What somebody who is not signed in gets at the post's address."""
        return httpx.get(self._permalink(), timeout=20, follow_redirects=False).status_code

    def _token(self, person: str) -> str:
        return str(self.people[person].http.headers["Authorization"]).removeprefix("Bearer ")

    def _do(self, who: Client, method: str, path: str, body: Any = None, wait: int = 10) -> Any:
        answer = who.ask(method, path, body, **({"Prefer": f"wait={wait}"} if method != "GET" else {}))
        self._say(method, path, "done")
        return answer

    def _refused(self, who: Client, method: str, path: str, body: Any, status: int) -> dict[str, Any]:
        response = who.send(method, path, body, Prefer="wait=10")
        problem: dict[str, Any] = response.json()
        self._say(method, path, f"{response.status_code} {problem.get('detail')}")
        self._expect(response.status_code == status, f"{method} {path} is refused with {status}", response.text)
        return problem

    def _read(self, who: Client, path: str, written: dict[str, Any]) -> dict[str, Any]:
        """Read what was just written: the position in the answer makes the read wait for it."""
        position = written.get("position", "")
        answer: dict[str, Any] = who.ask("GET", path, **({"Read_After": position} if position else {}))
        return answer

    def _until(self, look: Callable[[], Any], what: str, seconds: float = 20) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = look()
            if found is not None:
                return found
            time.sleep(0.05)
        raise StoryError(f"{what} did not come within {seconds:g} s")

    def _expect(self, holds: bool, what: str, evidence: Any) -> None:
        if not holds:
            raise StoryError(f"expected: {what}; got {evidence}")
        console.print(f"   [green]✓[/green] {escape(what)}")

    def _say(self, method: str, path: str, answer: str) -> None:
        console.print(f"   {method:7} {escape(path)}  [cyan]{escape(answer)}[/cyan]", soft_wrap=True)

    def _tell_events(self) -> None:
        if self.feed is None:
            return
        time.sleep(0.15)  # for the last event to arrive; nothing depends on it
        for event in self.feed.events[self.seen :]:
            console.print(f"   [dim]· {escape(event)}[/dim]", soft_wrap=True)
        self.seen = len(self.feed.events)


def _person(name: str, email: str, role: str) -> dict[str, str]:
    return {"name": name, "email": email, "role": role, "password": PASSWORD}


def _iso(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@contextmanager
def _paused(pid: int | None) -> Any:
    """Let a counterpart hang: SIGSTOP to its processes, SIGCONT at the end."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)] if pid else []
    for process in family:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
