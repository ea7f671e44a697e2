"""Builders, and secret-svc on memory adapters, for tests here and elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bizosaas_events import Command, Context, Envelope, Reply, messages, new_id
from bizosaas_events.bus import answer, bind
from bizosaas_events.bus.base import command_envelope
from bizosaas_events.envelope import now
from bizosaas_events.messages.secret import LeaseSecret, SecretKind, StoreSecret
from bizosaas_events.store import EventStore
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_ports.access import Role, allows
from bizosaas_ports.memory import MemorySecrets
from bizosaas_ports.sealing import SealingKey, seal
from bizosaas_ports.secret import SecretPort

from .adapters.env import ConfiguredSecrets
from .adapters.fingerprints import Fingerprints
from .handlers.commands import HANDLERS
from .handlers.reactions import Destroyer

KEY = SealingKey(b"secret-svc key used in tests only"[:32])
FINGERPRINTS = Fingerprints(b"a master key used in tests only.")
VALUE = b"correct horse battery staple"


def a_context(tenant: str = "acme", role: str = Role.SERVICE) -> Context:
    id = new_id()
    return Context(
        tenant=tenant, actor="service:connector-svc", role=role, time=now(), correlation_id=id, causation_id=id
    )


def a_secret(
    secret_id: str = "crm", value: bytes = VALUE, kind: SecretKind = "password", purpose: str = "the connection CRM"
) -> StoreSecret:
    return StoreSecret(secret_id=secret_id, kind=kind, sealed=seal(KEY.public, value), purpose=purpose)


def a_lease(recipient: SealingKey, secret_id: str = "crm", version: int | None = None) -> LeaseSecret:
    return LeaseSecret(secret_id=secret_id, recipient=recipient.public, purpose="cms.list_content", version=version)


@dataclass
class MemorySecretService:
    """secret-svc in memory; `ask` answers as the real one would over the streams."""

    store: EventStore = field(
        default_factory=lambda: MemoryEventStore(messages.codec(), category="secret", source="secret-svc")
    )
    vault: SecretPort = field(default_factory=MemorySecrets)
    environment: Mapping[str, str] = field(default_factory=dict)

    async def ask(self, command: Command, context: Context | None = None, id: str | None = None) -> Reply:
        handlers = bind(
            *HANDLERS, store=self.store, vault=self.vault, key=KEY, fingerprint=FINGERPRINTS,
            configuration=ConfiguredSecrets(self.environment), now=now, new_id=new_id,
        )  # fmt: skip
        envelope = command_envelope(
            command, context or a_context(), self.store.codec, id=id or new_id(), source="connector-svc"
        )
        return await answer(envelope, command, handlers, category="secret", allows=allows, handled=self.store.handled)

    async def react(self, *envelopes: Envelope) -> None:
        """What the consumer of our own events does with these."""
        await Destroyer(self.vault, self.store).apply(None, envelopes)

    async def events(self, secret_id: str = "crm") -> list[object]:
        """The decoded events of a secret."""
        return [self.store.codec.decode(envelope) for envelope in await self.store.load(f"secret-{secret_id}")]
