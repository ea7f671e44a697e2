"""The story that `bizos demo` plays and the end-to-end tests assert: one business, from its first sign-in to its audit."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from .client import Client
from .output import console
from .stage import Stage, World, paused

PASSWORD = "correct horse battery staple"  # of people who exist for one demo


class Story(Stage):
    """Plays the steps in order; each prints what was asked, the answer, the events that came of it, and its time."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.name = secrets.token_hex(3)
        self.emails = {"root": world.keys["BIZOS_ADMIN_EMAIL"]}
        self.tenant = self.blog = self.vendor = self.content = ""
        self.between = datetime.now(UTC)
        """The moment between the connections and the article."""
        self.vendor_then: dict[str, Any] = {}
        """The vendor's connection as it was shown at that moment."""
        self.history: list[dict[str, Any]] = []
        """The tenant's events as the audit log told them, newest first."""

    def play(self) -> None:
        """Raises StoryError or ProblemError at the first thing that does not hold."""
        steps: list[Callable[[], None]] = [
            self.sign_up, self.connect, self.write, self.publish, self.crash, self.audit,
        ]  # fmt: skip
        console.print(
            "\nEach line says who asks what, and the answer; ✓ what was checked; · an event that came of it. "
            "Of an id the last six characters are shown.", soft_wrap=True,
        )  # fmt: skip
        for number, step in enumerate(steps, start=1):
            began = time.monotonic()
            console.print(f"\n[bold]{number}. {step.__doc__}[/bold]", soft_wrap=True, highlight=False)
            step()
            self.tell_events()
            self.note(f"took {time.monotonic() - began:.2f} s")

    def sign_up(self) -> None:
        """A platform admin creates the tenant acme; a tenant user may not add a connection."""
        root = self.sign_in("root", self.emails["root"], self.world.keys["BIZOS_ADMIN_PASSWORD"])
        self._join(root, "platform", "petra", "Petra Platform", "platform_admin")
        petra = self.people["petra"]
        self.tenant = self.do(petra, "POST", "/v1/tenants", {"slug": f"acme-{self.name}", "name": "Acme"})["id"]
        self._join(petra, self.tenant, "ada", "Ada Admin", "tenant_admin")
        self._join(petra, self.tenant, "uma", "Uma User", "tenant_user")
        self.follow("ada")
        refused = self.refused(self.people["uma"], "POST", "/v1/connections", self._wordpress(), 403)
        self.expect("manage_integrations" in refused["detail"], "the problem names the missing permission", refused)

    def connect(self) -> None:
        """The tenant admin connects WordPress with an application password, and a vendor with OAuth 2.0 and PKCE."""
        ada, blog = self.people["ada"], self.world.blog
        self.note(f"the CMS is {blog.name} {blog.version} ({blog.source})")
        connected = self.do(ada, "POST", "/v1/connections", self._wordpress())
        self.blog = connected["id"]
        view = self.read(ada, f"/v1/connections/{self.blog}", connected)
        self.expect(view["status"] == "connected", f"WordPress is connected as {view['account']}", view)
        self._authorise(ada)
        time.sleep(self.world.vendor.access_token_ttl + 0.2)
        path = f"/v1/connections/{self.vendor}"
        before = ada.ask("GET", path)["fingerprint"]
        called = self.do(ada, "POST", f"{path}/calls", {"operation": "identity.get_profile", "arguments": {}})
        self.expect(bool(called["result"]["data"]["id"]), "a call after the access token expired succeeds", called)
        self.vendor_then = self.read(ada, path, called)
        after = self.vendor_then["fingerprint"]
        self.expect(after != before, "with a refreshed credential", after)
        self.between = datetime.now(UTC)

    def _authorise(self, ada: Client) -> None:
        begun = self.do(ada, "POST", "/v1/oauth/authorize/openid", {"label": "Vendor account"})
        self.vendor = begun["connection_id"]
        back = self.world.vendor.sign_in(begun["url"])
        self.say("GET", f"{begun['url'].split('?')[0]}?…", "the person signs in and consents at the vendor")
        answered = httpx.get(back, headers={"Accept": "application/json"}, timeout=30)
        self.say("GET", "/v1/oauth/callback?code=…&state=…", str(answered.status_code))
        self.expect(answered.status_code == 200, "the callback completes the flow", answered.text)
        view = self.read(ada, f"/v1/connections/{self.vendor}", answered.json())
        self.expect(view["status"] == "connected", f"the vendor is connected as {view['account']}", view)
        replayed = httpx.get(back, headers={"Accept": "application/json"}, timeout=30).json()
        self.expect(replayed["type"].endswith("oauth-state-used"), "a replayed callback is refused", replayed)

    def write(self) -> None:
        """The tenant user asks the agent content-creator for an article; the draft is really in WordPress."""
        brief = {"topic": "Autumn soups from the market", "audience": "home cooks", "tone": "warm"}
        run = self.do(self.people["uma"], "POST", "/v1/agents/content-creator/runs", {"brief": brief}, wait=30)
        draft = run["result"]["output"]
        self.note(f"a Draft: “{draft['title']}”, {len(draft['body'])} characters")
        self.expect(run["result"]["simulated"] is True, "the answer is marked simulated", run["result"])
        self.content = draft["content_id"]
        post = self.post(self.content)
        self.expect(post["status"] == "draft", f"post {self.content} is a draft in WordPress", post)

    def publish(self) -> None:
        """Publishing waits for approval: the tenant admin sees the exact arguments and approves; the post is public."""
        uma, ada = self.people["uma"], self.people["ada"]
        asked = {"name": "content_approval", "input": {"connection_id": self.blog, "content_id": self.content}}
        workflow = self.do(uma, "POST", "/v1/workflows", asked)["id"]

        def pending() -> dict[str, Any] | None:
            found = ada.ask("GET", "/v1/approvals?status=pending")["items"]
            return next((approval for approval in found if approval["workflow_id"] == workflow), None)

        approval = self.until(pending, "the pending approval")
        arguments = msgspec.json.encode(approval["arguments"]).decode()
        self.say("GET", "/v1/approvals?status=pending", f"{approval['operation']} {arguments}", ada)
        self.expect(approval["arguments"] == {"id": self.content}, "the exact arguments are shown", approval)
        self.expect(not self.is_public(self.content), "the post is not public yet", self.content)
        path = f"/v1/approvals/{approval['id']}/decision"
        decision = {"verdict": "approved", "arguments_digest": approval["arguments_digest"]}
        self.do(ada, "POST", path, decision)
        self.until(lambda: self.is_public(self.content) or None, "the public post")
        self.say("GET", self.post(self.content)["link"], "200, for everybody")
        again = self.refused(ada, "POST", path, decision, 409)
        self.expect(again["type"].endswith("already-decided"), "the second decision is told that it is decided", again)
        self.until(lambda: ada.ask("GET", f"/v1/workflows/{workflow}")["status"] == "completed" or None, "its end")

    def crash(self) -> None:
        """connector-svc is killed with SIGKILL in the middle of a command; the command completes once."""
        ada, calls = self.people["ada"], f"/v1/connections/{self.blog}/calls"
        title = f"Written through a crash {secrets.token_hex(4)}"
        body = {"operation": "cms.create_draft", "arguments": {"title": title, "body": "<p>Once.</p>"}}
        before = {call["id"] for call in ada.ask("GET", calls)["items"]}

        def reached(status: str) -> dict[str, Any] | None:
            found = ada.ask("GET", calls)["items"]
            return next((call for call in found if call["id"] not in before and call["status"] == status), None)

        with paused(self.world.blog.pid):
            sent = ada.send("POST", calls, body)
            self.say("POST", calls, f"{sent.status_code} {sent.reason_phrase}", ada)
            self.expect(sent.status_code == 202, "the command is accepted", sent.text)
            self.until(lambda: reached("started"), "the call in flight")
            self.world.kill_connector_svc()
            self.say("SIGKILL", "connector-svc", "while it waits for WordPress")
        listed = ada.ask("GET", "/v1/connections")["items"]
        self.expect(len(listed) == 2, "the platform carries on meanwhile", listed)
        call = self.until(lambda: reached("succeeded"), "the completed call", seconds=40)
        posts = self.posts(title)
        self.expect([str(p["id"]) for p in posts] == [call["resource_id"]], "the draft exists exactly once", posts)

    def audit(self) -> None:
        """The audit log tells the tenant's whole history in words, rebuilds a past state, and verifies its hash chain."""
        ada, petra = self.people["ada"], self.people["petra"]
        connection, path = f"/v1/connections/{self.vendor}", "/v1/audit/history?limit=200"
        asked = {"operation": "identity.get_profile", "arguments": {}}
        # Its token has ended meanwhile: what the connection is from now on, it was not then.
        called = self.do(ada, "POST", f"{connection}/calls", asked)

        def journalled() -> list[dict[str, Any]] | None:
            entries: list[dict[str, Any]] = ada.ask("GET", path)["entries"]
            confirmed = [entry for entry in entries if entry["type"] == "secret.secret.confirmed.v1"]
            return entries if len(confirmed) == 2 else None

        self.history = self.until(journalled, "the last event in the journal")
        self.say("GET", path, "200 OK", ada)
        for entry in reversed(self.history):
            self.note(f"{entry['time'][11:19]}  {entry['words']}")
        self.expect(len(self.history) > 30, f"the whole history: {len(self.history)} events", len(self.history))
        at = self.between.isoformat().replace("+00:00", "Z")
        then = self.do(ada, "GET", f"/v1/audit/state/connection/{self.vendor}?at={at}")["state"]
        self.expect(then == self.vendor_then, "the connection of then is what was shown then", then)
        now = self.read(ada, connection, called)
        self.expect(then["fingerprint"] != now["fingerprint"], "and not what it is now", now)
        verified = self.do(petra, "POST", "/v1/audit/verifications", {}, wait=30)["result"]
        intact = verified.get("breaks", []) == [] and verified["events"] >= len(self.history)
        self.expect(intact, f"none of {verified['events']} events was changed", verified)

    def _join(self, giver: Client, tenant: str, person: str, name: str, role: str) -> None:
        """Add a member and let them sign in."""
        email = self.emails[person] = f"{person}-{self.name}@{'bizos' if tenant == 'platform' else 'acme'}.test"
        member = {"name": name, "email": email, "role": role, "password": PASSWORD}
        self.do(giver, "POST", f"/v1/tenants/{tenant}/members", member)
        self.sign_in(person, email, PASSWORD)

    def _wordpress(self) -> dict[str, Any]:
        username, password = self.world.blog.auth("admin")
        return {
            "connector": "wordpress",
            "label": "Company blog",
            "settings": {"site_url": self.world.blog.url},
            "credentials": {"username": username, "application_password": password},
        }
