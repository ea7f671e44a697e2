"""Builders, a vendor in memory, and connector-svc on memory adapters, for tests here and elsewhere."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from bizosaas_events import Command, Context, Envelope, Event, Kind, Problem, Reply, messages, new_id
from bizosaas_events.bus import Answer, answer, bind
from bizosaas_events.bus.base import command_envelope, decode_result, reply_of
from bizosaas_events.bus.memory import MemoryCommandBus
from bizosaas_events.envelope import Result
from bizosaas_events.messages.connector import (
    CallOperation,
    CompleteAuthorization,
    Connect,
    ConnectorField,
    ConnectorInfo,
    ConnectorOperation,
    StartAuthorization,
)
from bizosaas_events.messages.secret import ConfirmSecret, Leased, LeaseSecret, RevokeSecret, Stored, StoreSecret
from bizosaas_events.store.base import Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_ports.access import Role, allows
from bizosaas_ports.capabilities import operations
from bizosaas_ports.cms import Content, ContentPage
from bizosaas_ports.connector import (
    Account,
    CallResult,
    ConnectorPort,
    CredentialExpiredError,
    CredentialRevokedError,
    MaybeAppliedError,
    ResourceNotFoundError,
    Tokens,
)
from bizosaas_ports.identity import Profile
from bizosaas_ports.sealing import SealError, SealingKey, seal

from ..adapters.memory import MemoryAuthorizations, MemoryBudget, MemoryLeases
from ..adapters.pkce import verifier_of
from ..adapters.secrets import SecretService
from ..domain.errors import CredentialsInvalidError, ScopeInvalidError, SettingInvalidError, UnknownConnectorError
from ..handlers.calls import Calls
from ..handlers.commands import HANDLERS
from ..handlers.gate import Gate
from ..handlers.reactions import SecretCleanup
from ..handlers.sessions import Sessions

KEY = SealingKey(b"connector-svc key used in tests!")
SECRET_KEY = SealingKey(b"secret-svc key used in tests only"[:32])
PASSWORD = "correct horse battery"
REDIRECT = "https://bizos.test/v1/oauth/callback"
ISSUER = "https://tower.test"
CONNECTION = "0190a000-0000-7000-8000-00000000c0de"

R = TypeVar("R", bound=Result)


def a_context(tenant: str = "acme-id", role: str = Role.TENANT_ADMIN) -> Context:
    id = new_id()
    return Context(
        tenant=tenant, actor="member:ann", role=role, time=datetime.now(UTC), correlation_id=id, causation_id=id
    )


def a_connect(id: str = CONNECTION, *, connector: str = "paper", password: str = PASSWORD, **change: Any) -> Connect:
    """Connect to the vendor in memory, with a password sealed to secret-svc."""
    value = msgspec.json.encode({"password": password})
    asked: dict[str, Any] = {
        "connection_id": id, "connector": connector, "label": "Our paper", "settings": {"site": "https://paper.test"},
        "sealed_credentials": seal(SECRET_KEY.public, value),
    }  # fmt: skip
    return Connect(**asked | change)


def an_authorization(id: str = CONNECTION, **change: Any) -> StartAuthorization:
    asked: dict[str, Any] = {
        "connection_id": id, "connector": "tower", "label": "Our tower", "settings": {}, "redirect_uri": REDIRECT,
    }  # fmt: skip
    return StartAuthorization(**asked | change)


def a_call(
    operation: str = "cms.create_draft", arguments: Mapping[str, Any] | None = None, key: str = "k1",
    id: str = CONNECTION,
) -> CallOperation:  # fmt: skip
    given = {"title": "Hello", "body": "<p>Hi</p>"} if arguments is None else dict(arguments)
    return CallOperation(connection_id=id, operation=operation, arguments=given, idempotency_key=key)


class MemorySecretSvc:
    """secret-svc behind the memory bus, in a few lines: `values` by secret id, `lent` with each purpose."""

    def __init__(self) -> None:
        self.values: dict[str, dict[int, bytes]] = {}
        self.revoked: set[str] = set()
        self.lent: list[tuple[str, int, str]] = []
        self.away = False
        self._stored: dict[str, Stored] = {}

    async def __call__(self, envelope: Envelope, command: Command) -> Reply:
        if not allows(envelope.actorrole, command.permission):
            return _refused(envelope, Kind.FORBIDDEN, "permission-missing")
        if self.away:
            return _refused(envelope, Kind.UNAVAILABLE, "secret-store-unavailable")
        match command:
            case StoreSecret():
                return self._store(envelope, command)
            case LeaseSecret():
                return self._lease(envelope, command)
            case ConfirmSecret(secret_id=id, version=version):
                self.values[id] = {n: value for n, value in self.values[id].items() if n >= version}
            case RevokeSecret(secret_id=id):
                self.revoked.add(id)
                self.values.pop(id, None)
        return Reply(command_id=envelope.id)

    def _store(self, envelope: Envelope, command: StoreSecret) -> Reply:
        if envelope.id not in self._stored:
            try:
                value = SECRET_KEY.open(command.sealed)
            except SealError:
                return _refused(envelope, Kind.INVALID, "secret-not-sealed")
            if command.secret_id in self.revoked:
                return _refused(envelope, Kind.CONFLICT, "secret-revoked")
            versions = self.values.setdefault(command.secret_id, {})
            version = max(versions, default=0) + 1
            versions[version] = value
            self._stored[envelope.id] = Stored(
                secret_id=command.secret_id, version=version, fingerprint=fingerprint(value)
            )
        return reply_of(envelope.id, Answer(None, self._stored[envelope.id]), "secret")

    def _lease(self, envelope: Envelope, command: LeaseSecret) -> Reply:
        versions = self.values.get(command.secret_id, {})
        version = command.version or max(versions, default=0)
        if version not in versions:
            return _refused(envelope, Kind.NOT_FOUND, "secret-not-found")
        self.lent.append((command.secret_id, version, command.purpose))
        value = versions[version]
        leased = Leased(
            lease_id=new_id(), version=version, fingerprint=fingerprint(value), sealed=seal(command.recipient, value),
            expires_at=datetime.now(UTC) + timedelta(minutes=5),
        )  # fmt: skip
        return reply_of(envelope.id, Answer(None, leased), "secret")


def fingerprint(value: bytes) -> str:
    return f"fp-{sum(value) % 9973}"


def _refused(envelope: Envelope, kind: Kind, slug: str) -> Reply:
    return Reply(command_id=envelope.id, problem=Problem(kind=kind, slug=slug, detail=f"secret-svc says: {slug}."))


@dataclass
class MemoryVendor:
    """A vendor in memory with two connectors: `paper` (a password) and `tower` (OAuth). See `Connectors`, `Authorizer`.

    `failing` holds what the next calls raise, None for a call that goes
    through; with `applies` a write that breaks off was applied nevertheless.
    `cms.unpublish` is the operation that offers no way to find out.
    """

    now: Callable[[], datetime]
    password: str = PASSWORD
    drafts: dict[str, Content] = field(default_factory=dict)
    failing: deque[Exception | None] = field(default_factory=deque)
    applies: bool = False
    calls: list[str] = field(default_factory=list)
    finding_fails: deque[Exception | None] = field(default_factory=deque)
    token_seconds: float = 3600.0
    access: set[str] = field(default_factory=set)
    refresh_token: str = ""
    codes: dict[str, str] = field(default_factory=dict)
    refreshes: int = 0
    refresh_fails: deque[Exception] = field(default_factory=deque)
    granted: list[str] = field(default_factory=lambda: ["openid"])
    revocations: list[str] = field(default_factory=list)
    revoking_fails: Exception | None = None
    slow: float = 0.0
    stillborn: bool = False
    """New tokens are dead from the start."""
    authorizing_fails: Exception | None = None
    after_tokens: Callable[[], None] = lambda: None
    """Called when the vendor has given tokens, for a code or for older ones."""

    def all(self) -> list[ConnectorInfo]:
        return [self.describe("paper"), self.describe("tower")]

    def describe(self, key: str) -> ConnectorInfo:
        if key not in ("paper", "tower"):
            raise UnknownConnectorError(key, ["paper", "tower"])
        names = ["identity.get_profile"] if key == "tower" else sorted(n for n in operations() if n.startswith("cms."))
        return ConnectorInfo(
            key=key, name=key.capitalize(), method="oauth" if key == "tower" else "credentials",
            settings=[] if key == "tower" else [ConnectorField(name="site", label="Site", kind="url")], credentials=[],
            scopes=["openid"] if key == "tower" else [],
            operations=[ConnectorOperation(name=n, effect=operations()[n].effect, summary="") for n in names],
        )  # fmt: skip

    def settings(self, key: str, given: Mapping[str, str]) -> dict[str, str]:
        if key == "paper" and not given.get("site", "").startswith("https://"):
            raise SettingInvalidError("site", "Site is not an address.", "For example: https://paper.test.")
        return dict(given)

    def settle_seconds(self, key: str) -> float:
        return 0.01

    def open(self, key: str, settings: Mapping[str, str], credential: bytes) -> ConnectorPort:
        given = msgspec.json.decode(credential)
        if key == "paper" and "password" not in given:
            raise CredentialsInvalidError("The credentials lack: Password.", "credentials.password")
        return MemorySession(self, given.get("password", ""), given.get("access_token", ""))

    def scopes(self, connector: str, wanted: list[str]) -> list[str]:
        for scope in wanted:
            if " " in scope:
                raise ScopeInvalidError(scope)
        return ["openid", *wanted]

    def missing(self, connector: str, granted: list[str]) -> list[str]:
        return [scope for scope in ["openid"] if scope not in granted]

    def needs_secret(self, connector: str) -> bool:
        return True

    async def authorize_url(
        self, connector: str, settings: Mapping[str, str], *, state: str, verifier: str, redirect_uri: str,
        scopes: list[str],
    ) -> str:  # fmt: skip
        if self.authorizing_fails:
            raise self.authorizing_fails
        self.codes[state] = verifier
        return f"{ISSUER}/auth?state={state}"

    async def issued_by(self, connector: str, settings: Mapping[str, str], issuer: str) -> bool:
        return issuer == ISSUER

    async def exchange(
        self, connector: str, settings: Mapping[str, str], *, code: str, verifier: str, redirect_uri: str,
        client_secret: str, scopes: list[str],
    ) -> Tokens:  # fmt: skip
        """The code is the state, and it is good once."""
        if self.codes.pop(code, None) != verifier or client_secret != "hush":
            raise CredentialRevokedError("Tower does not take the code.", status=400, vendor_says="grant not found")
        tokens = self._issue()
        self.after_tokens()
        return tokens

    async def refresh(self, connector: str, settings: Mapping[str, str], tokens: Tokens, client_secret: str) -> Tokens:
        await asyncio.sleep(0.01)
        self.refreshes += 1
        if self.refresh_fails:
            raise self.refresh_fails.popleft()
        if tokens.refresh_token != self.refresh_token:
            self.refresh_token = ""
            self.access.clear()
            raise CredentialRevokedError("Tower does not take the authorization any more.", status=400)
        tokens = self._issue()
        self.after_tokens()
        return tokens

    async def revoke(self, connector: str, settings: Mapping[str, str], tokens: Tokens, client_secret: str) -> None:
        if self.revoking_fails:
            raise self.revoking_fails
        self.revocations.append(tokens.refresh_token)

    def expire(self) -> None:
        """Every access token ends before its time."""
        self.access.clear()

    def _issue(self) -> Tokens:
        now = self.now()
        access, self.refresh_token = f"access-{new_id()}", f"refresh-{new_id()}"
        if not self.stillborn:
            self.access.add(access)
        return Tokens(
            access_token=access, refresh_token=self.refresh_token, issued_at=now, scopes=list(self.granted),
            expires_at=now + timedelta(seconds=self.token_seconds),
        )  # fmt: skip


class MemorySession:
    """See `ConnectorPort`."""

    def __init__(self, vendor: MemoryVendor, password: str, access_token: str) -> None:
        self._vendor = vendor
        self._password = password
        self._access_token = access_token

    async def check(self) -> Account:
        self._admit()
        return Account(name="ann@vendor.test")

    async def call(self, operation: str, arguments: dict[str, Any], idempotency_key: str) -> CallResult:
        vendor = self._vendor
        vendor.calls.append(operation)
        await asyncio.sleep(vendor.slow)
        self._admit()
        problem = vendor.failing.popleft() if vendor.failing else None
        if problem is not None and not (vendor.applies and isinstance(problem, MaybeAppliedError)):
            raise problem
        result = self._apply(operation, arguments, idempotency_key)
        if problem is not None:
            raise problem
        return result

    async def find(self, operation: str, arguments: dict[str, Any], idempotency_key: str) -> CallResult | None:
        if self._vendor.finding_fails and (problem := self._vendor.finding_fails.popleft()):
            raise problem
        if operation == "cms.unpublish":
            raise MaybeAppliedError("Paper offers no way to find out whether it was applied.")
        found = self._vendor.drafts.get(idempotency_key)
        return CallResult(data=found, resource_type="post", resource_id=found.id) if found else None

    def _admit(self) -> None:
        if self._access_token and self._access_token not in self._vendor.access:
            raise CredentialExpiredError("Tower answered 401.", status=401)
        if not self._access_token and self._password != self._vendor.password:
            raise CredentialRevokedError("Paper does not take this password.", status=401)

    def _apply(self, operation: str, arguments: dict[str, Any], key: str) -> CallResult:
        drafts = self._vendor.drafts
        match operation:
            case "identity.get_profile":
                return CallResult(data=Profile(id="ann", email="ann@vendor.test"), resource_type="profile", bytes=42)
            case "cms.list_content":
                items = list(drafts.values())
                page = ContentPage(items=items, total=len(items))
                return CallResult(data=page, resource_type="post", count=len(items))
            case "cms.create_draft":
                number = str(len(drafts) + 1)
                drafts[key] = Content(
                    id=number,
                    title=arguments["title"],
                    status="draft",
                    url="https://paper.test/?p=1",
                    body="secret words",
                )
                return CallResult(data=drafts[key], resource_type="post", resource_id=number)
            case _:
                raise ResourceNotFoundError("Paper has no such post.", status=404)


class DeathError(BaseException):
    """The process ends here."""


class MortalStore(MemoryEventStore):
    """An event store whose process may die right before it records something."""

    dies: Callable[[Event], bool] = staticmethod(lambda event: False)

    async def append(
        self, writes: Sequence[Write], context: Context, *, command_id: str | None = None
    ) -> list[Envelope]:
        if any(self.dies(event) for write in writes for event in write.events):
            raise DeathError
        return await super().append(writes, context, command_id=command_id)


class MemoryConnectorService:
    """connector-svc in memory; `ask` answers as the real one would over the streams. `clock` moves when told to."""

    def __init__(self, *, connection_calls: int = 8, patience: float = 5.0) -> None:
        self.clock = datetime.now(UTC)
        self.store = MortalStore(messages.codec(), category="connector", source="connector-svc")
        self.bus = MemoryCommandBus(messages.codec())
        self.secret_svc = MemorySecretSvc()
        self.secret_svc.values["oauth-tower"] = {1: b"hush"}
        self.bus.serve("secret", self.secret_svc)
        self.vendor = MemoryVendor(now=self.now)
        self.leases = MemoryLeases()
        self.budget = MemoryBudget()
        self.authorizations = MemoryAuthorizations()
        self.states: list[str] = []
        self.connection_calls = connection_calls
        self.patience = patience
        self.restart()

    def restart(self) -> None:
        """A new process over the same stores: nothing that was in memory alone is left."""
        secrets = SecretService(self.bus, public_key=SECRET_KEY.public)
        sessions = Sessions(
            store=self.store, connectors=self.vendor, secrets=secrets, authorizer=self.vendor, leases=self.leases,
            budget=self.budget, now=self.now, refresh_wait=self.patience,
        )  # fmt: skip
        calls = Calls(
            store=self.store, sessions=sessions, connectors=self.vendor, leases=self.leases, budget=self.budget,
            gate=Gate(self.connection_calls), now=self.now, call_wait=self.patience,
        )  # fmt: skip
        self.handlers = bind(
            *HANDLERS, store=self.store, connectors=self.vendor, secrets=secrets, sessions=sessions, calls=calls,
            authorizer=self.vendor, authorizations=self.authorizations, key=KEY, verifier=verifier_of(KEY),
            new_state=self._new_state, now=self.now,
        )  # fmt: skip
        self.cleanup = SecretCleanup(self.store, secrets)

    def now(self) -> datetime:
        return self.clock

    async def ask(self, command: Command, context: Context | None = None, id: str | None = None) -> Reply:
        envelope = command_envelope(
            command, context or a_context(), self.store.codec, id=id or new_id(), source="gateway"
        )
        return await answer(
            envelope, command, self.handlers, category="connector", allows=allows, handled=self.store.handled
        )

    async def get(self, command: Command, returns: type[R], context: Context | None = None, id: str | None = None) -> R:
        """Ask, and take the result."""
        return decode_result(await self.ask(command, context, id), returns)

    async def refusal(self, command: Command, context: Context | None = None, id: str | None = None) -> Problem:
        """Ask for what is refused."""
        problem = (await self.ask(command, context, id)).problem
        assert problem is not None, "this should have been refused"
        return problem

    async def events(self, stream: str) -> list[Event]:
        """The decoded events of a stream."""
        found = [self.store.codec.decode(envelope) for envelope in await self.store.load(stream)]
        return [event for event in found if isinstance(event, Event)]

    async def connected(self) -> None:
        """With a connection to `paper`."""
        reply = await self.ask(a_connect())
        assert reply.problem is None, reply.problem

    async def authorized(self, id: str = CONNECTION) -> None:
        """With a connection to `tower`, authorised by a person."""
        await self.ask(an_authorization(id))
        reply = await self.ask(self.callback())
        assert reply.problem is None, reply.problem

    def callback(self, **change: Any) -> CompleteAuthorization:
        """What the vendor sends back for the newest authorization."""
        state = self.states[-1]
        asked: dict[str, Any] = {
            "state": state, "sealed_code": seal(KEY.public, state.encode()), "issuer": ISSUER,
        }  # fmt: skip
        return CompleteAuthorization(**asked | change)

    async def react(self) -> None:
        """Let the reaction see every event, as after a restart."""
        for partition in range(self.store.partitions):
            events = await self.store.read(partition, 0, 1000)
            if events:
                await self.cleanup.apply(None, events)

    def _new_state(self) -> str:
        self.states.append(f"state-{new_id()}")
        return self.states[-1]
