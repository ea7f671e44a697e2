"""Builders, and tenant-svc on memory adapters, for tests here and elsewhere."""

from dataclasses import dataclass, field

from bizosaas_events import Command, Context, Reply, messages, new_id
from bizosaas_events.bus import answer, bind
from bizosaas_events.bus.base import command_envelope
from bizosaas_events.envelope import now
from bizosaas_events.messages.tenant import AddMember, CreateTenant, MemberRole, SignIn
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_ports.access import PLATFORM_TENANT, Role, allows
from bizosaas_ports.sealing import SealingKey, seal

from .adapters.memory import MemoryAccounts, PlainPasswords
from .handlers.commands import HANDLERS

KEY = SealingKey(b"tenant-svc key used in tests only"[:32])
PASSWORD = "correct horse battery"


def a_context(tenant: str = "acme-id", role: str = Role.PLATFORM_ADMIN) -> Context:
    id = new_id()
    return Context(tenant=tenant, actor="member:admin", role=role, time=now(), correlation_id=id, causation_id=id)


def a_tenant(tenant_id: str = "acme-id", slug: str = "acme", name: str = "Acme") -> CreateTenant:
    return CreateTenant(tenant_id=tenant_id, slug=slug, name=name)


def a_member(
    member_id: str = "ann-id", email: str = "ann@acme.test", role: MemberRole = "tenant_admin", password: str = PASSWORD
) -> AddMember:
    return AddMember(
        member_id=member_id, email=email, name="Ann", role=role, sealed_password=seal(KEY.public, password.encode())
    )


def a_sign_in(email: str = "ann@acme.test", password: str = PASSWORD) -> SignIn:
    return SignIn(email=email, sealed_password=seal(KEY.public, password.encode()))


@dataclass
class MemoryTenantService:
    """tenant-svc in memory; `ask` answers as the real one would over the streams."""

    store: MemoryEventStore = field(
        default_factory=lambda: MemoryEventStore(messages.codec(), category="tenant", source="tenant-svc")
    )
    accounts: MemoryAccounts = field(default_factory=MemoryAccounts)

    async def ask(self, command: Command, context: Context | None = None, id: str | None = None) -> Reply:
        passwords = PlainPasswords()
        handlers = bind(
            *HANDLERS, store=self.store, accounts=self.accounts, passwords=passwords, key=KEY,
            decoy_hash=await passwords.hash("decoy"),
        )  # fmt: skip
        context = context or a_context()
        envelope = command_envelope(command, context, self.store.codec, id=id or new_id(), source="gateway")
        return await answer(envelope, command, handlers, category="tenant", allows=allows, handled=self.store.handled)

    async def events(self, stream: str) -> list[object]:
        """The decoded events of a stream."""
        return [self.store.codec.decode(envelope) for envelope in await self.store.load(stream)]


PLATFORM = a_context(PLATFORM_TENANT, Role.SERVICE)
