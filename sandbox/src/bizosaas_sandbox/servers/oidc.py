"""A certified OpenID provider (npm `oidc-provider`): a vendor's OAuth server, or the platform's sign-in."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

import httpx

from bizosaas_sandbox.servers.base import Say, silent
from bizosaas_sandbox.servers.binaries import Binary
from bizosaas_sandbox.servers.node import find_node
from bizosaas_sandbox.servers.npm import CACHE, COUNTERPARTS, fetched
from bizosaas_sandbox.servers.process import ProcessServer

Mode = Literal["vendor", "sso"]

REDIRECT_URI = "http://127.0.0.1:14999/callback"
CLIENT_ID = "platform"
CLIENT_SECRET = "platform-secret-0123456789"  # known to every test, worth nothing
SCOPES = ("contacts.read", "contacts.write")
PEOPLE: Mapping[str, Mapping[str, Any]] = {
    "alice": {"email": "alice@example.test", "email_verified": True, "name": "Alice A", "groups": ["admin"]},
    "bob": {"email": "bob@example.test", "email_verified": True, "name": "Bob B", "groups": ["viewer"]},
}


class OidcProvider(ProcessServer):
    """An authorization server at `url` (its issuer) with one confidential client and the public one "public-spa".

    PKCE is demanded, refresh tokens rotate and reusing one ends the whole grant. As "vendor" an access token lives
    five seconds and refresh tokens are always given, as "sso" 300 and with `offline_access` only;
    `access_token_ttl` in seconds says otherwise. Anybody may sign in with any password, the claims of `people` are
    theirs. Everything is in memory: a restart forgets all grants and signs with a new key.
    """

    name = "oidc-provider"

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        binary: Binary | None = None,
        say: Say = silent,
        mode: Mode = "vendor",
        access_token_ttl: int | None = None,
        redirect_uris: Sequence[str] = (REDIRECT_URI,),
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        scopes: Sequence[str] = SCOPES,
        people: Mapping[str, Mapping[str, Any]] = PEOPLE,
        cache: Path = CACHE,
    ) -> None:
        super().__init__(data, port=port, binary=binary, say=say)
        self.mode, self.client_id, self.client_secret = mode, client_id, client_secret
        self.redirect_uris, self.scopes, self.people = list(redirect_uris), list(scopes), people
        self.access_token_ttl = access_token_ttl or (5 if mode == "vendor" else 300)
        self._cache = cache

    def find(self) -> Binary:
        node = find_node()
        lock = json.loads((COUNTERPARTS / "oidc" / "package-lock.json").read_text())
        version = lock["packages"]["node_modules/oidc-provider"]["version"]
        return Binary(path=node.path, version=version, source=f"npm, Node {node}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def configuration_url(self) -> str:
        return f"{self.url}/.well-known/openid-configuration"

    def command(self) -> list[str | Path]:
        return [self.binary.path, self._home / "provider.mjs"]

    def environment(self) -> Mapping[str, str]:
        settings = {
            "port": self.port,
            "mode": self.mode,
            "accessTokenTtl": self.access_token_ttl,
            "redirectUris": self.redirect_uris,
            "clientId": self.client_id,
            "clientSecret": self.client_secret,
            "scopes": self.scopes,
            "people": self.people,
        }
        return {**super().environment(), "OIDC": json.dumps(settings)}

    def ready(self) -> bool:
        try:
            return httpx.get(self.configuration_url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    @cached_property
    def _home(self) -> Path:
        return fetched("oidc", self._cache, self.say)

    def sign_in(self, authorization_url: str, login: str = "alice") -> str:
        """Do what a person does in the browser: open the page, sign in, consent. Returns where that leads.

        The redirect back to the client is not followed: its URL, with `code` and `state` or with `error`, is the
        answer. An error page of the provider, from which nothing leads back, is a ValueError with its text.
        """
        with httpx.Client(timeout=20) as browser:
            page = browser.get(authorization_url)
            while True:
                if target := page.headers.get("location"):
                    target = urljoin(str(page.url), str(target))
                    if any(target.split("?")[0] == redirect for redirect in self.redirect_uris):
                        return target
                    page = browser.get(target)
                    continue
                form = re.search(r'action="([^"]+)"', page.text)
                prompt = re.search(r'name="prompt" value="([^"]+)"', page.text)
                if form is None or prompt is None:
                    raise ValueError(f"the provider answered {page.status_code}: {_text_of(page.text)}")
                filled = {"prompt": prompt[1]}
                if prompt[1] == "login":
                    filled |= {"login": login, "password": "any"}
                page = browser.post(urljoin(str(page.url), form[1]), data=filled)


def _text_of(page: str) -> str:
    without_style = re.sub(r"<style.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", without_style).split())[:300]
