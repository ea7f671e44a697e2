"""connector-svc as a real process: PostgreSQL, Redis, a real WordPress, a certified OpenID provider, and SIGKILL."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import httpx
import msgspec
import pytest

from bizosaas_events import Context, Event, Reply, messages, new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.bus.redis import RedisCommandBus
from bizosaas_events.messages.connector import (
    AuthorizeAt,
    CallOperation,
    CallStarted,
    CallSucceeded,
    CompleteAuthorization,
    Connect,
    ConnectionEstablished,
    ConnectionInterrupted,
    ConnectorCatalogue,
    CredentialRefreshed,
    CredentialRefreshStarted,
    Disconnect,
    ListConnectors,
    OperationResult,
    StartAuthorization,
)
from bizosaas_events.stopping import stop
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_ports.connector import Tokens
from bizosaas_ports.sealing import seal
from bizosaas_sandbox.servers.children import free_port
from bizosaas_sandbox.servers.oidc import OidcProvider
from bizosaas_sandbox.servers.wordpress import WordPress
from connector_svc.adapters.connectors.wordpress import slug_of
from connector_svc.testing import KEY, SECRET_KEY, MemorySecretSvc, a_context
from connector_svc.testing.faults import Fault, FaultyProxy, cuts, holds
from connector_svc.testing.process import ConnectorProcess, caller, secrets_over_redis

NewOidc = Callable[..., OidcProvider]
NewProcess = Callable[..., ConnectorProcess]


@dataclass
class Platform:
    """What a test meets: a bus as the gateway has it, secret-svc, and the log of what happened."""

    bus: RedisCommandBus
    secrets: MemorySecretSvc
    pool: "asyncpg.Pool[Any]"
    new_process: NewProcess

    async def ask(self, command: Any, context: Context | None = None, *, timeout: float = 30) -> Reply:
        return await self.bus.ask(command, context or a_context(), id=new_id(), timeout=timeout)

    async def done(self, command: Any) -> Reply:
        reply = await self.ask(command)
        assert reply.problem is None, reply.problem
        return reply

    async def events(self, stream: str) -> list[Event]:
        store = PostgresEventStore(self.pool, messages.codec(), category="connector", source="test", partitions=4)
        found = [store.codec.decode(envelope) for envelope in await store.load(stream)]
        return [event for event in found if isinstance(event, Event)]

    async def wordpress(self, server: WordPress, url: str = "", password: str = "") -> str:
        """Connect to a WordPress; the id of the connection."""
        id = new_id()
        value = msgspec.json.encode(
            {"username": "editor", "application_password": password or server.app_passwords["editor"]}
        )
        command = Connect(
            connection_id=id, connector="wordpress", label="Our site", settings={"site_url": url or server.url},
            sealed_credentials=seal(SECRET_KEY.public, value),
        )  # fmt: skip
        await self.done(command)
        return id

    async def authorize(self, server: OidcProvider) -> str:
        """Send a person through the whole flow; the id of the connection."""
        id = new_id()
        start = StartAuthorization(
            connection_id=id, connector="openid", label="Our vendor", settings={}, redirect_uri=server.redirect_uris[0]
        )
        at = decode_result(await self.ask(start), AuthorizeAt)
        target = await asyncio.to_thread(server.sign_in, at.url, "alice")
        answer = dict(parse_qsl(urlsplit(target).query))
        await self.done(
            CompleteAuthorization(
                state=answer["state"], issuer=answer["iss"], sealed_code=seal(KEY.public, answer["code"].encode())
            )
        )
        return id

    async def profile(self, connection_id: str) -> Reply:
        command = CallOperation(
            connection_id=connection_id, operation="identity.get_profile", arguments={}, idempotency_key=""
        )
        return await self.ask(command)


@pytest.fixture
async def platform(database_url: str, redis_url: str, env_name: str, tmp_path: Path) -> AsyncIterator[Platform]:
    made: list[ConnectorProcess] = []

    def new_process(**settings: str) -> ConnectorProcess:
        log = tmp_path / f"connector-svc-{len(made)}.log"
        made.append(ConnectorProcess(database_url, redis_url, env_name, log, free_port(), settings))
        return made[-1]

    async with (
        secrets_over_redis(redis_url, env_name) as secrets,
        caller(redis_url, env_name) as bus,
        asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool,
    ):
        yield Platform(bus, secrets, pool, new_process)
        for process in made:
            await process.kill()


def oauth_settings(server: OidcProvider) -> dict[str, str]:
    return {"BIZOS_OAUTH_OPENID_CLIENT_ID": server.client_id, "BIZOS_OAUTH_OPENID_ISSUER": server.url}


def a_draft(connection_id: str, title: str, key: str) -> CallOperation:
    return CallOperation(
        connection_id=connection_id, operation="cms.create_draft", arguments={"title": title, "body": "<p>x</p>"},
        idempotency_key=key,
    )  # fmt: skip


async def drafts(server: WordPress, slug: str) -> list[int]:
    """The posts that the site has under this slug, or under what it makes of it for a second one."""
    asked = {"status": "any,trash", "context": "edit", "slug": f"{slug},{slug}-2,{slug}-3"}
    async with httpx.AsyncClient(trust_env=False, auth=server.auth("admin")) as client:
        return [post["id"] for post in (await client.get(f"{server.url}/wp-json/wp/v2/posts", params=asked)).json()]


async def test_it_connects_calls_and_disconnects_and_leaves_no_secret(
    platform: Platform, wordpress_server: WordPress
) -> None:
    process = platform.new_process()
    await process.start()
    catalogue = decode_result(await platform.ask(ListConnectors()), ConnectorCatalogue)
    id, key, title = await platform.wordpress(wordpress_server), new_id(), f"From a process {new_id()}"

    first = decode_result(await platform.ask(a_draft(id, title, key)), OperationResult)
    second = decode_result(await platform.ask(a_draft(id, title, key)), OperationResult)
    await platform.done(Disconnect(connection_id=id))
    for _ in range(100):
        if platform.secrets.revoked:
            break
        await asyncio.sleep(0.1)

    assert [connector.key for connector in catalogue.connectors] == ["openid", "wordpress"]
    assert [connector.configured for connector in catalogue.connectors] == [False, True]
    assert (second.data, second.repeated) == (first.data, True)
    assert len(await drafts(wordpress_server, slug_of(title, key))) == 1
    assert platform.secrets.values == {}
    log = process.log.read_text()
    assert wordpress_server.app_passwords["editor"] not in log
    assert await process.stop() == 0


@pytest.mark.kill
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        pytest.param(holds(after=3600), True, id="the site has made the draft and its answer is on the way"),
        pytest.param(holds(before=2, after=3600), True, id="the site hears of it only after we are dead"),
        pytest.param(cuts(applied=False), False, id="the site never hears of it"),
    ],
)
async def test_a_process_killed_in_the_middle_of_a_draft_makes_exactly_one(
    platform: Platform, wordpress_server: WordPress, fault: Fault, found: bool
) -> None:
    async with FaultyProxy(wordpress_server.url) as proxy:
        victim = platform.new_process()
        await victim.start()
        id = await platform.wordpress(wordpress_server, proxy.url)
        proxy.only, key, title = "POST", new_id(), f"Killed {new_id()}"
        if not found:
            fault = _kills_first(fault, victim)
        proxy.faults.append(fault)
        command_id = new_id()
        asking = asyncio.create_task(platform.bus.ask(a_draft(id, title, key), a_context(), id=command_id, timeout=60))
        await asyncio.wait_for(proxy.held.wait(), 20)
        await victim.kill()
        heir = platform.new_process()
        await heir.start()

        result = decode_result(await asking, OperationResult)

        assert len(await drafts(wordpress_server, slug_of(title, key))) == 1
        assert result.repeated is found
        assert [type(e) for e in await platform.events(f"call-{result.call_id}")] == [CallStarted, CallSucceeded]
        assert sum(line.startswith("POST") for line in proxy.requests) == (1 if found else 2)


def _kills_first(fault: Fault, victim: ConnectorProcess) -> Fault:
    async def killing(proxy: FaultyProxy, request: bytes, writer: asyncio.StreamWriter) -> None:
        await victim.kill()
        proxy.held.set()
        await fault(proxy, request, writer)

    return killing


async def test_a_person_authorises_and_ended_tokens_are_refreshed_once_by_ten_calls_in_two_processes(
    platform: Platform, private_oidc: NewOidc
) -> None:
    server = private_oidc(access_token_ttl=8)
    platform.secrets.values["oauth-openid"] = {1: server.client_secret.encode()}
    settings = {**oauth_settings(server), "BIZOS_CONNECTION_CALLS": "16"}
    processes = [platform.new_process(**settings), platform.new_process(**settings)]
    await asyncio.gather(*(process.start() for process in processes))
    id = await platform.authorize(server)
    profile = decode_result(await platform.profile(id), OperationResult)
    before = await _refreshed(platform, id)
    await asyncio.sleep(6.6)  # a fifth of its life before its end, and no other ends while ten calls are made

    results = [
        decode_result(r, OperationResult) for r in await asyncio.gather(*(platform.profile(id) for _ in range(10)))
    ]

    assert msgspec.json.decode(profile.data)["email"] == "alice@example.test"
    assert all(result.data == profile.data for result in results)
    events = await platform.events(f"connection-{id}")
    assert await _refreshed(platform, id) == before + 1
    assert sum(isinstance(e, CredentialRefreshStarted) for e in events) == before + 1
    assert not any(isinstance(e, ConnectionInterrupted) for e in events)
    versions = next(values for name, values in platform.secrets.values.items() if name != "oauth-openid")
    assert list(versions) == [before + 2], "the old pair is destroyed once the new one has worked"


async def _refreshed(platform: Platform, id: str) -> int:
    return sum(isinstance(e, CredentialRefreshed) for e in await platform.events(f"connection-{id}"))


async def test_a_refresh_token_that_somebody_else_used_ends_the_grant_and_a_person_is_asked(
    platform: Platform, private_oidc: NewOidc
) -> None:
    server = private_oidc(access_token_ttl=2)
    platform.secrets.values["oauth-openid"] = {1: server.client_secret.encode()}
    await platform.new_process(**oauth_settings(server)).start()
    id = await platform.authorize(server)
    secret_id = next(
        e.secret_id for e in await platform.events(f"connection-{id}") if isinstance(e, ConnectionEstablished)
    )
    stolen = msgspec.json.decode(platform.secrets.values[secret_id][1], type=Tokens).refresh_token
    async with httpx.AsyncClient(trust_env=False, auth=(server.client_id, server.client_secret)) as thief:
        used = {"grant_type": "refresh_token", "refresh_token": stolen}
        assert (await thief.post(f"{server.url}/token", data=used)).status_code == 200
    await asyncio.sleep(2.1)

    problem = (await platform.profile(id)).problem
    again = (await platform.profile(id)).problem
    reconnected = await platform.authorize(server)

    assert problem is not None
    assert again is not None
    assert problem.slug == again.slug == "reconnect-needed"
    interrupted = (await platform.events(f"connection-{id}"))[-1]
    assert isinstance(interrupted, ConnectionInterrupted)
    assert (interrupted.reason, interrupted.reconnect) == ("revoked", True)
    assert (await platform.profile(reconnected)).problem is None


async def test_a_dead_vendor_slows_only_its_own_connections(platform: Platform, wordpress_server: WordPress) -> None:
    async with FaultyProxy(wordpress_server.url) as proxy:
        await platform.new_process(BIZOS_CONNECTION_CALLS="4").start()
        slow, fine = await platform.wordpress(wordpress_server, proxy.url), await platform.wordpress(wordpress_server)
        proxy.faults.extend([holds(before=15)] * 20)
        reading: dict[str, Any] = {"operation": "cms.list_content", "arguments": {"limit": 1}, "idempotency_key": ""}
        stuck = [asyncio.create_task(platform.ask(CallOperation(connection_id=slow, **reading))) for _ in range(12)]
        await asyncio.sleep(0.5)

        began = datetime.now(UTC)
        for _ in range(5):
            await platform.done(CallOperation(connection_id=fine, **reading))
        took = (datetime.now(UTC) - began).total_seconds()

        refused = [task.result().problem for task in stuck if task.done()]
        await stop(stuck)
    assert took < 5
    assert len(refused) == 8
    assert all(problem and problem.slug == "connection-busy" and problem.retry_after for problem in refused)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"BIZOS_SEALING_KEY": ""}, "BIZOS_SEALING_KEY is wrong"),
        ({"BIZOS_SEALING_KEY": "c2hvcnQ="}, "BIZOS_SEALING_KEY is wrong"),
        ({"BIZOS_SECRET_SVC_PUBLIC_KEY": "not base64!"}, "BIZOS_SECRET_SVC_PUBLIC_KEY is wrong"),
        ({"BIZOS_CONNECTION_CALLS": "0"}, "BIZOS_CONNECTION_CALLS is wrong"),
        ({"BIZOS_OAUTH_OPENID_ISSUER": "accounts.example.com"}, "issuer of openid is not an address"),
        ({"BIZOS_DATABASE_URL": "mysql://x"}, "BIZOS_DATABASE_URL is wrong"),
    ],
)
async def test_a_wrong_setting_stops_the_start_and_names_itself(
    tmp_path: Path, change: dict[str, str], says: str
) -> None:
    log = tmp_path / "log"
    process = ConnectorProcess("postgresql://x@127.0.0.1/x", "redis://127.0.0.1:9", "t", log, free_port(), change)

    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "connector_svc"], env=process.environment(), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ended.returncode == 78
    assert says in ended.stderr
    assert KEY.export() not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
