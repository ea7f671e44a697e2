"""The gateway for tests: its settings, and the other services played on the real Redis streams."""

import asyncio
import base64
import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import httpx
import msgspec
from redis.exceptions import RedisError

from bizosaas_events import (
    Command,
    Context,
    DomainError,
    Envelope,
    Event,
    Kind,
    Problem,
    Reply,
    StreamNotFoundError,
    messages,
    new_id,
    problem_of,
)  # fmt: skip
from bizosaas_events.bus import Answer, Names
from bizosaas_events.bus.base import reply_of
from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.bus.reading import Streams
from bizosaas_events.bus.redis import send_reply
from bizosaas_events.codec import type_of
from bizosaas_events.envelope import from_fields, now, partition_of, to_fields
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages import agent, audit, connector, operations, tenant, workflow
from bizosaas_events.personal import PersonKey, closed, new_key, person_in
from bizosaas_events.stopping import stop as stop_tasks
from bizosaas_ports.access import PLATFORM_TENANT, Role, allows
from bizosaas_ports.sealing import SealingKey, export_public, seal

from .app.server import serve
from .app.settings import Settings

TENANT_KEY, CONNECTOR_KEY, SECRET_KEY = (SealingKey(bytes([n]) * 32) for n in (1, 2, 3))
PASSWORD = "correct horse battery"
PARTITIONS = 4


def some_settings(*, database_url: str, redis_url: str, env: str, port: int, **other: Any) -> Settings:
    """Settings of a gateway on these servers."""
    return Settings(
        database_url=database_url, redis_url=redis_url, env=env, http_port=port, partitions=PARTITIONS,
        public_url=f"http://127.0.0.1:{port}", tenant_svc_public_key=_public(TENANT_KEY),
        connector_svc_public_key=_public(CONNECTOR_KEY), secret_svc_public_key=_public(SECRET_KEY),
        log_level="WARNING", **other,
    )  # fmt: skip


def _public(key: SealingKey) -> str:
    return export_public(key.public)


class _RefusalError(DomainError):
    def __init__(self, kind: Kind, slug: str) -> None:
        super().__init__(f"Refused as {slug}.")
        self.kind = kind  # type: ignore[misc]  # one class for every refusal a test needs
        self.slug = slug  # type: ignore[misc]


@dataclass
class Services:
    """Answers commands as the services would, in a few lines each, and relays the events that come of them."""

    redis: Client
    env: str
    silent: set[str] = field(default_factory=set)
    """Services that do not answer, as if they were down."""
    seen: list[tuple[Envelope, Command]] = field(default_factory=list)
    accounts: dict[str, tuple[tenant.MemberAdded, bytes]] = field(default_factory=dict)
    """By address: the member as recorded, closed, and the sealed password."""
    person_keys: dict[str, PersonKey] = field(default_factory=dict)
    state: bytes = b"null"
    """Of whatever object at whatever moment."""
    export_pages: int = 1
    export_padding: int = 0
    _versions: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _positions: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    _owners: dict[str, str] = field(default_factory=dict)
    _handled: dict[str, Envelope] = field(default_factory=dict)
    _decided: set[str] = field(default_factory=set)
    _states: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Answer until cancelled; an outage is waited out."""
        async with Streams(self.redis) as reading:
            await self._answer(reading)

    async def _answer(self, reading: Streams) -> None:
        names = Names(self.env)
        last = {names.commands(service).encode(): "0-0" for service in messages.categories() if service != "gateway"}
        while True:
            try:
                for name, entries in await reading.read(last, count=100, block_ms=100):
                    for id, fields in entries:
                        last[name] = id.decode()
                        envelope = from_fields(fields)
                        command = cast(Command, messages.codec().decode(envelope))
                        self.seen.append((envelope, command))
                        if command.service not in self.silent:
                            await send_reply(self.redis, names, envelope, await self.reply(command, envelope))
            except (OSError, RedisError):
                await asyncio.sleep(0.05)

    def commands(self, kind: type[Command]) -> list[tuple[Envelope, Command]]:
        """What was asked for, of one kind."""
        return [(e, c) for e, c in self.seen if isinstance(c, kind)]

    async def record(self, stream: str, event: Event, context: Context, *, data: bytes | None = None) -> Envelope:
        """Put an event into its log, as a service's relay would; `data`: with another payload than its own."""
        service = type_of(event).partition(".")[0]
        partition = partition_of(context.tenant, stream, PARTITIONS)
        self._versions[stream] += 1
        self._positions[service, partition] += 1
        id, person = new_id(), person_in(event)
        if event.personal:
            key = self.person_keys.setdefault(person, PersonKey(context.tenant, new_key())).key
            event = closed(event, id, cast(bytes, key))
        if event.erases:
            self.person_keys[person] = PersonKey(context.tenant, None)
        envelope = Envelope(
            id=id, source=f"{service}-svc", type=type_of(event), subject=stream, time=context.time,
            tenantid=context.tenant, actorid=context.actor, actorrole=context.role,
            correlationid=context.correlation_id, causationid=context.causation_id, partition=partition,
            sequence=self._positions[service, partition], streamversion=self._versions[stream],
            data=messages.codec().encode(event) if data is None else data,
        )  # fmt: skip
        name = Names(self.env).partition(service, partition)
        self._owners[stream] = context.tenant
        fields = cast("dict[Any, Any]", to_fields(envelope))
        await self.redis.xadd(name, fields, id=f"{envelope.sequence}-0")
        return envelope

    async def added(self, command: tenant.AddMember, context: Context) -> Envelope:
        """Let somebody in."""
        email = TENANT_KEY.open_text(command.email)
        added = tenant.MemberAdded(
            member_id=command.member_id, tenant_id=context.tenant, email=email, name=TENANT_KEY.open_text(command.name),
            role=command.role,
        )  # fmt: skip
        recorded = await self.record(f"member-{command.member_id}", added, context)
        self.accounts[email] = (cast(tenant.MemberAdded, messages.codec().decode(recorded)), command.sealed_password)
        return recorded

    async def reply(self, command: Command, envelope: Envelope) -> Reply:
        """What a service would answer, its events recorded."""
        if not allows(envelope.actorrole, command.permission):
            problem = Problem(kind=Kind.FORBIDDEN, slug="permission-missing", detail="No.")
            return Reply(command_id=envelope.id, problem=problem)
        if envelope.id in self._handled:
            return reply_of(envelope.id, Answer(self._handled[envelope.id]), command.service)
        try:
            said = await self._handle(command, envelope.context())
        except DomainError as error:
            return Reply(command_id=envelope.id, problem=problem_of(error))
        if said.recorded is not None:
            self._handled[envelope.id] = said.recorded
        return reply_of(envelope.id, said, command.service)

    async def _handle(self, command: Command, context: Context) -> Answer:
        for kind, handler in _HANDLERS.items():
            if isinstance(command, kind):
                return await handler(self, command, context)
        raise RefusedError(Problem(kind=Kind.INVALID, slug="unknown-command", detail="Not a command of this service."))

    def owned(self, stream: str, context: Context) -> None:
        """Refuse what another tenant owns, as if it did not exist."""
        if self._owners.get(stream) != context.tenant:
            raise StreamNotFoundError(stream)


async def _create_tenant(services: Services, command: tenant.CreateTenant, context: Context) -> Answer:
    made = tenant.TenantCreated(tenant_id=command.tenant_id, slug=command.slug, name=command.name)
    return Answer(await services.record(f"tenant-{command.tenant_id}", made, context))


async def _add_member(services: Services, command: tenant.AddMember, context: Context) -> Answer:
    return Answer(await services.added(command, context))


async def _sign_in(services: Services, command: tenant.SignIn, context: Context) -> Answer:
    member, sealed_password = services.accounts.get(TENANT_KEY.open_text(command.email), (None, b""))
    said = TENANT_KEY.open(command.sealed_password)
    if member is None or TENANT_KEY.open(sealed_password) != said:
        raise _RefusalError(Kind.UNAUTHENTICATED, "sign-in-refused")
    who = tenant.SignedIn(
        member_id=member.member_id, tenant_id=member.tenant_id, email=member.email, name=member.name, role=member.role
    )
    theirs = msgspec.structs.replace(context, tenant=member.tenant_id, actor=f"member:{member.member_id}")
    event = tenant.MemberSignedIn(member_id=member.member_id)
    return Answer(await services.record(f"member-{member.member_id}", event, theirs), who)


async def _erase_member(services: Services, command: tenant.EraseMember, context: Context) -> Answer:
    stream = f"member-{command.member_id}"
    services.owned(stream, context)
    erased = tenant.MemberErased(member_id=command.member_id)
    return Answer(await services.record(stream, erased, context))


async def _person_keys(services: Services, command: tenant.ReadPersonKeys, context: Context) -> Answer:
    keys = {
        id: base64.b64encode(key).decode() if key is not None else None
        for id in command.member_ids
        if id in services.person_keys
        for of, key in [services.person_keys[id]]
        if of in (context.tenant, PLATFORM_TENANT)
    }
    return Answer(None, tenant.PersonKeys(sealed=seal(command.recipient, msgspec.json.encode(keys))))


async def _connect(services: Services, command: connector.Connect, context: Context) -> Answer:
    if command.connector not in ("wordpress", "openid"):
        raise _RefusalError(Kind.INVALID, "unknown-connector")
    SECRET_KEY.open(command.sealed_credentials)
    stream = f"connection-{command.connection_id}"
    asked = connector.ConnectionRequested(
        connection_id=command.connection_id, connector=command.connector, label=command.label,
        settings=command.settings, method="credentials",
    )  # fmt: skip
    await services.record(stream, asked, context)
    works = connector.ConnectionEstablished(
        connection_id=command.connection_id, secret_id="s", secret_version=1, fingerprint="f1", account="admin"
    )
    return Answer(await services.record(stream, works, context))


async def _rename(services: Services, command: connector.RenameConnection, context: Context) -> Answer:
    stream = f"connection-{command.connection_id}"
    services.owned(stream, context)
    if command.expected_version not in (None, services._versions[stream]):
        raise _RefusalError(Kind.CONFLICT, "stale-version")
    renamed = connector.ConnectionRenamed(connection_id=command.connection_id, label=command.label)
    return Answer(await services.record(stream, renamed, context))


async def _disconnect(services: Services, command: connector.Disconnect, context: Context) -> Answer:
    stream = f"connection-{command.connection_id}"
    services.owned(stream, context)
    return Answer(
        await services.record(stream, connector.ConnectionClosed(connection_id=command.connection_id), context)
    )


async def _call(services: Services, command: connector.CallOperation, context: Context) -> Answer:
    services.owned(f"connection-{command.connection_id}", context)
    call_id = hashlib.sha256(command.idempotency_key.encode()).hexdigest()[:32]
    started = connector.CallStarted(
        call_id=call_id, connection_id=command.connection_id, connector="wordpress", operation=command.operation,
        effect="read", idempotency_key=command.idempotency_key, arguments_digest="d", fingerprint="f1",
    )  # fmt: skip
    recorded = await services.record(f"call-{call_id}", started, context)
    return Answer(recorded, connector.OperationResult(call_id=call_id, data=msgspec.Raw(b'{"id":"7"}')))


async def _authorize(services: Services, command: connector.StartAuthorization, context: Context) -> Answer:
    asked = connector.ConnectionRequested(
        connection_id=command.connection_id, connector=command.connector, label=command.label, settings={},
        method="oauth",
    )  # fmt: skip
    recorded = await services.record(f"connection-{command.connection_id}", asked, context)
    services._states.add(command.connection_id)
    url = f"https://vendor.test/authorize?state={command.connection_id}&redirect_uri={command.redirect_uri}"
    there = connector.AuthorizeAt(
        connection_id=command.connection_id, url=url, expires_at=now() + timedelta(minutes=10)
    )
    return Answer(recorded, there)


async def _complete(services: Services, command: connector.CompleteAuthorization, _: Context) -> Answer:
    if command.state not in services._states:
        known = f"connection-{command.state}" in services._owners
        raise (
            _RefusalError(Kind.CONFLICT, "oauth-state-used")
            if known
            else _RefusalError(Kind.INVALID, "oauth-state-unknown")
        )
    services._states.discard(command.state)
    CONNECTOR_KEY.open(command.sealed_code)
    of = services._owners[f"connection-{command.state}"]
    return Answer(None, connector.Authorized(connection_id=command.state, tenant_id=of))


async def _decide(services: Services, command: workflow.DecideApproval, context: Context) -> Answer:
    stream = f"approval-{command.approval_id}"
    services.owned(stream, context)
    if stream in services._decided:
        raise _RefusalError(Kind.CONFLICT, "already-decided")
    services._decided.add(stream)
    decided = workflow.ApprovalDecided(
        approval_id=command.approval_id, workflow_id="w", operation="cms.publish", verdict=command.verdict
    )
    return Answer(await services.record(stream, decided, context))


async def _start_workflow(services: Services, command: workflow.StartWorkflow, context: Context) -> Answer:
    started = workflow.WorkflowStarted(workflow_id=command.workflow_id, name=command.name, input=command.input)
    return Answer(await services.record(f"workflow-{command.workflow_id}", started, context))


async def _start_run(services: Services, command: agent.StartRun, context: Context) -> Answer:
    started = agent.RunStarted(
        run_id=command.run_id, agent_id=command.agent_id, agent_version=1, model="scripted", simulated=True
    )
    recorded = await services.record(f"run-{command.run_id}", started, context)
    output = agent.RunOutput(
        run_id=command.run_id, output_type="Draft", output=msgspec.Raw(b'{"title":"T"}'), simulated=True
    )
    return Answer(recorded, output)


async def _read_output(services: Services, command: agent.ReadRunOutput, context: Context) -> Answer:
    services.owned(f"run-{command.run_id}", context)
    output = agent.RunOutput(
        run_id=command.run_id, output_type="Draft", output=msgspec.Raw(b'{"title":"T"}'), simulated=True
    )
    return Answer(None, output)


async def _history(services: Services, command: audit.ReadHistory, context: Context) -> Answer:
    return Answer(None, audit.History(entries=[], next=f"{context.tenant}:{command.limit}"))


async def _state_at(services: Services, command: audit.ReadStateAt, _: Context) -> Answer:
    state = msgspec.Raw(services.state)
    return Answer(None, audit.StateAt(kind=command.kind, id=command.id, at=command.at, version=1, state=state))


async def _verify(services: Services, command: audit.VerifyJournal, context: Context) -> Answer:
    return Answer(None, audit.Verified(events=3, partitions=1, duration_ms=1))


async def _verification(services: Services, command: audit.ReadVerification, context: Context) -> Answer:
    if command.id != "known":
        raise StreamNotFoundError(f"journal-{command.id}")
    told = audit.Verification(id="known", status="running", events=1, of_events=3, partitions=0, of_partitions=1)
    return Answer(None, told)


async def _heads(services: Services, command: audit.ReadHeads, context: Context) -> Answer:
    head = audit.ChainHead(category="tenant", partition=1, position=7, hash="00")
    return Answer(None, audit.SignedHeads(number=2, time=command.at, heads=[head]))


async def _hashes(services: Services, command: audit.ReadHashes, context: Context) -> Answer:
    return Answer(None, audit.Hashes(hashes=[f"{p.category}{p.partition}{p.position}" for p in command.positions]))


async def _export(services: Services, command: audit.ExportHistory, context: Context) -> Answer:
    """Pages of two lines each, byte for byte odd; `services.export_pages` says how many there are, below 0: refused."""
    if services.export_pages < 0:
        raise _RefusalError(Kind.UNAVAILABLE, "away")
    number = int(command.after or "1")
    lines = [b'{"tenant" :"%s","line":%d.%d}' % (context.tenant.encode(), number, n) for n in (1, 2)]
    pad = b'{"%s":"%s"}' % (command.format.encode(), b"x" * services.export_padding)
    following = str(number + 1) if number < services.export_pages else ""
    return Answer(None, audit.ExportPage(lines=[*map(msgspec.Raw, lines), msgspec.Raw(pad)], next=following))


async def _webhook(services: Services, command: connector.ReceiveWebhook, context: Context) -> Answer:
    services.owned(f"connection-{command.connection_id}", context)
    raise RefusedError(Problem(kind=Kind.NOT_FOUND, slug="no-webhooks", detail="No connector has webhooks."))


async def _catalogue(services: Services, command: connector.ListConnectors, context: Context) -> Answer:
    return Answer(None, connector.ConnectorCatalogue(connectors=[]))


async def _no_projections(services: Services, command: operations.ListProjections, context: Context) -> Answer:
    return Answer(None, operations.ProjectionPage(items=[]))


async def _no_letters(services: Services, command: operations.ListDeadLetters, context: Context) -> Answer:
    return Answer(None, operations.DeadLetterPage(items=[]))


_HANDLERS: dict[type[Command], Callable[[Services, Any, Context], Awaitable[Answer]]] = {
    tenant.CreateTenant: _create_tenant,
    tenant.AddMember: _add_member,
    tenant.SignIn: _sign_in,
    tenant.EraseMember: _erase_member,
    tenant.ReadPersonKeys: _person_keys,
    connector.Connect: _connect,
    connector.RenameConnection: _rename,
    connector.Disconnect: _disconnect,
    connector.CallOperation: _call,
    connector.StartAuthorization: _authorize,
    connector.CompleteAuthorization: _complete,
    connector.ListConnectors: _catalogue,
    connector.ReceiveWebhook: _webhook,
    workflow.DecideApproval: _decide,
    workflow.StartWorkflow: _start_workflow,
    agent.StartRun: _start_run,
    agent.ReadRunOutput: _read_output,
    audit.ReadHistory: _history,
    audit.ReadStateAt: _state_at,
    audit.VerifyJournal: _verify,
    audit.ReadVerification: _verification,
    audit.ReadHeads: _heads,
    audit.ReadHashes: _hashes,
    audit.ExportHistory: _export,
    operations.ListDeadLetters: _no_letters,
    operations.ListProjections: _no_projections,
}


def a_context(tenant_id: str = PLATFORM_TENANT, actor: str = "service:test") -> Context:
    """The context of something that a service does by itself."""
    id = new_id()
    return Context(tenant=tenant_id, actor=actor, role=Role.SERVICE, time=now(), correlation_id=id, causation_id=id)


@dataclass
class World:
    """A running gateway and what is behind it."""

    settings: Settings
    services: Services
    http: httpx.AsyncClient
    """Nobody's client."""
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    async def member(self, email: str, role: tenant.MemberRole, tenant_id: str = "acme-id") -> httpx.AsyncClient:
        """Somebody who is signed in with a token."""
        name = email.partition("@")[0]
        given = tenant.AddMember(
            member_id=f"{name}-id", email=email, name=name.capitalize(), role=role,
            sealed_password=seal(TENANT_KEY.public, PASSWORD.encode()),
        )  # fmt: skip
        await self.services.added(given, a_context(tenant_id))
        answer = await self.http.post("/v1/sessions", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        return self.client({"Authorization": f"Bearer {answer.json()['token']}"})

    async def admin(self) -> httpx.AsyncClient:
        """A tenant admin of acme."""
        return await self.member("ada@acme.test", "tenant_admin")

    async def root(self) -> httpx.AsyncClient:
        """A platform admin."""
        return await self.member("petra@bizos.test", "platform_admin", PLATFORM_TENANT)

    def client(self, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
        """Another client, closed with the gateway."""
        self.clients.append(httpx.AsyncClient(base_url=self.http.base_url, headers=headers, timeout=20))
        return self.clients[-1]


async def connected(who: httpx.AsyncClient, label: str = "Blog") -> dict[str, Any]:
    """A connection that was made, and that is readable."""
    body = {"connector": "wordpress", "label": label, "settings": {}, "credentials": {"password": "p"}}
    made = await who.post("/v1/connections", json=body, headers={"Prefer": "wait=5"})
    assert made.status_code == 201, made.text
    shown = await who.get(f"/v1/connections/{made.json()['id']}", headers={"Read-After": made.headers["Position"]})
    assert shown.status_code == 200, shown.text
    return {**made.json(), "etag": shown.headers["ETag"]}


async def events(who: httpx.AsyncClient, number: int, after: str | None = None) -> list[dict[str, Any]]:
    """The next events of the tenant's stream; hangs when there are fewer."""
    headers = {"Last-Event-ID": after} if after is not None else {}
    found: list[dict[str, Any]] = []
    async with who.stream("GET", "/v1/stream", headers=headers) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        async with contextlib.aclosing(_lines(stream)) as lines:
            async for line in lines:
                if line.startswith("data:"):
                    found.append(json.loads(line[5:]))
                    if len(found) == number:
                        break
    return found


async def _lines(stream: httpx.Response) -> AsyncGenerator[str, None]:
    async for line in stream.aiter_lines():
        yield line


async def until_ready(http: httpx.AsyncClient, wanted: int = 200) -> None:
    for _ in range(400):
        with contextlib.suppress(httpx.TransportError):
            if (await http.get("/readyz")).status_code == wanted:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("the gateway did not get ready")


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[World]:
    """The gateway on these settings, until the block ends."""
    stop = asyncio.Event()
    redis = connect(str(settings.redis_url))
    services = Services(redis, settings.env)
    answering = asyncio.create_task(services.run())
    gateway = asyncio.create_task(serve(settings, stop))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.http_port}", timeout=20) as http:
            await until_ready(http)
            world = World(settings, services, http)
            yield world
            for client in world.clients:
                await client.aclose()
    finally:
        stop.set()
        await asyncio.wait_for(gateway, 15)
        await stop_tasks([answering])
        await redis.aclose()
