"""Puts connector-svc together; the only file that knows every concrete class."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bizosaas_events.bus import bind
from bizosaas_events.envelope import now
from bizosaas_ports.sealing import SealingKey, parse_public
from bizosaas_runtime.discovery import discover
from bizosaas_runtime.worker import Consumer, Platform, Service

from ..adapters import connectors as package
from ..adapters.authorizations import PostgresAuthorizations
from ..adapters.budget import RedisBudget
from ..adapters.catalogue import Catalogue
from ..adapters.connectors._declaration import Connector
from ..adapters.http import Http
from ..adapters.leases import PostgresLeases
from ..adapters.oauth import OAuthClient
from ..adapters.pkce import verifier_of
from ..adapters.secrets import SecretService
from ..handlers.calls import Calls
from ..handlers.commands import HANDLERS
from ..handlers.gate import Gate
from ..handlers.reactions import SecretCleanup
from ..handlers.sessions import Sessions
from .settings import Settings

USER_AGENT = "BizOSaaS/0.1"


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Service]:
    settings, store = platform.settings, platform.store
    key = SealingKey.parse(settings.sealing_key.get_secret_value())
    declared = discover(package, Connector, key="key")
    http = Http(allow_private=settings.allow_private_addresses, user_agent=USER_AGENT)
    try:
        oauth = OAuthClient(declared, settings.oauth, http, now)
        connectors = Catalogue(declared, http, oauth, allow_private=settings.allow_private_addresses)
        vault = SecretService(platform.bus, public_key=parse_public(settings.secret_svc_public_key))
        leases = PostgresLeases(platform.pool)
        budget = RedisBudget(platform.redis, env=settings.env)
        sessions = Sessions(
            store=store, connectors=connectors, secrets=vault, authorizer=oauth, leases=leases, budget=budget, now=now
        )
        calls = Calls(
            store=store, sessions=sessions, connectors=connectors, leases=leases, budget=budget,
            gate=Gate(settings.connection_calls), now=now,
        )  # fmt: skip
        commands = bind(
            *HANDLERS, store=store, connectors=connectors, secrets=vault, sessions=sessions, calls=calls,
            authorizer=oauth, authorizations=PostgresAuthorizations(platform.pool), key=key, verifier=verifier_of(key),
            new_state=lambda: secrets.token_urlsafe(32), now=now,
        )  # fmt: skip
        cleanup = SecretCleanup(store, vault)
        yield Service(commands, consumers={"connector.secret-cleanup": Consumer(["connector"], cleanup.apply)})
    finally:
        await http.close()
