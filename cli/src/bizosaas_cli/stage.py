"""Where the story is played: the platform's HTTP API, its counterparts, and what is printed of both."""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import httpx
import msgspec
import psutil
from rich.markup import escape

from .client import Client, ProblemError
from .output import console

_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{6}([0-9a-f]{6})\b")


class StoryError(Exception):
    """Something was not as the story promises; the message says what was expected and what came."""


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

    def __init__(self, url: str, token: str) -> None:
        self.events: list[str] = []
        self._client = Client(url, token)
        self._socket: socket.socket | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """At once: the stream itself would say nothing until its next event, or its next sign of life."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(timeout=20)
        self._client.close()

    def _read(self) -> None:
        with (
            suppress(httpx.HTTPError, httpx.StreamError),
            self._client.http.stream("GET", "/v1/stream", headers={"Last-Event-ID": "0"}, timeout=None) as stream,
        ):
            self._socket = stream.extensions["network_stream"].get_extra_info("socket")
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    event = msgspec.json.decode(line[5:])
                    self.events.append(f"{event['type']}  {event['words']}")


class Stage:
    """Asks, expects and prints."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.people: dict[str, Client] = {}
        self.feed: Feed | None = None
        self._told = 0

    def sign_in(self, person: str, email: str, password: str) -> Client:
        """Let somebody take part under a short name."""
        if person in self.people:
            self.people[person].close()
        client = self.people[person] = Client.signed_in(self.world.url, email, password)
        return client

    def close(self) -> None:
        """Everybody goes home."""
        for client in self.people.values():
            client.close()
        if self.feed is not None:
            self.feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def follow(self, person: str) -> None:
        """Show the events of this person's tenant from now on, the earlier ones included."""
        token = str(self.people[person].http.headers["Authorization"]).removeprefix("Bearer ")
        self.feed = Feed(self.world.url, token)

    def do(self, who: Client, method: str, path: str, body: Any = None, wait: int = 10) -> Any:
        """Ask and show the answer's status; a write waits for its outcome. Raises ProblemError."""
        response = who.send(method, path, body, **({"Prefer": f"wait={wait}"} if method != "GET" else {}))
        if response.status_code >= 400:
            raise ProblemError(response)
        answer = response.json()
        made = f" {answer['id']}" if response.status_code == 201 and answer.get("id") else ""
        self.say(method, path, f"{response.status_code} {response.reason_phrase}{made}", who)
        return answer

    def refused(self, who: Client, method: str, path: str, body: Any, status: int) -> dict[str, Any]:
        """Ask for what must be refused, and show how it is."""
        response = who.send(method, path, body, Prefer="wait=10")
        problem: dict[str, Any] = response.json()
        self.say(method, path, f"{response.status_code} {problem.get('type')}: {problem.get('detail')}", who)
        self.expect(response.status_code == status, f"it is refused with {status}", response.text)
        return problem

    def read(self, who: Client, path: str, written: dict[str, Any]) -> dict[str, Any]:
        """Read what was just written: the position in the answer makes the read wait for it."""
        position = written.get("position", "")
        answer: dict[str, Any] = who.ask("GET", path, **({"Read_After": position} if position else {}))
        return answer

    def until(self, look: Callable[[], Any], what: str, seconds: float = 20) -> Any:
        """What `look` finds, as soon as it finds something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (found := look()) is not None:
                return found
            time.sleep(0.05)
        raise StoryError(f"{what} did not come within {seconds:g} s")

    def expect(self, holds: bool, what: str, evidence: Any) -> None:
        if not holds:
            raise StoryError(f"expected: {what}; got {evidence}")
        console.print(f"   [green]✓[/green] {escape(what)}", highlight=False)

    def say(self, method: str, path: str, answer: str, who: Client | None = None) -> None:
        """Show what was asked, by whom, and what came of it."""
        name = next((name for name, client in self.people.items() if client is who), "")
        line = f"   {name:6}{method:7} {escape(brief(path))}  [cyan]{escape(brief(answer))}[/cyan]"
        console.print(line, soft_wrap=True, highlight=False)

    def note(self, text: str) -> None:
        console.print(f"   [dim]{escape(brief(text))}[/dim]", soft_wrap=True, highlight=False)

    def tell_events(self) -> None:
        """The events that have come since the last step."""
        if self.feed is None:
            return
        time.sleep(0.15)  # for the last one to arrive; nothing depends on it
        for event in self.feed.events[self._told :]:
            self.note(f"· {event}")
        self._told = len(self.feed.events)

    # The blog as its own users see it, without the platform in between.

    def post(self, id: str) -> dict[str, Any]:
        """One post as its editor sees it."""
        url = f"{self.world.blog.url}/wp-json/wp/v2/posts/{id}?context=edit"
        answer = httpx.get(url, auth=self.world.blog.auth(), timeout=20)
        if answer.status_code != 200:
            raise StoryError(f"post {id} is not in the CMS: {answer.text[:200]}")
        post: dict[str, Any] = answer.json()
        return post

    def posts(self, title: str) -> list[dict[str, Any]]:
        """All posts of this title, drafts included; its last word must be in no other title."""
        url = f"{self.world.blog.url}/wp-json/wp/v2/posts"
        asked = {"search": title.rsplit(" ", 1)[-1], "status": "any", "context": "edit"}
        answer = httpx.get(url, params=asked, auth=self.world.blog.auth(), timeout=20)
        return [post for post in answer.json() if post["title"]["raw"] == title]

    def is_public(self, id: str) -> bool:
        """Whether somebody who is not signed in can read it at its address."""
        return httpx.get(self.post(id)["link"], timeout=20, follow_redirects=False).status_code == 200


def brief(text: str) -> str:
    """Ids by their last six characters: those made at the same time begin alike, and whole ones hide the rest."""
    return _ID.sub(r"…\1", text)


@contextmanager
def paused(pid: int | None) -> Iterator[None]:
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
