"""Builders, and audit-svc on memory adapters, for tests here and elsewhere."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from bizosaas_events import Command, Context, Envelope, Event, Reply, messages, new_id
from bizosaas_events.bus import answer, bind
from bizosaas_events.bus.base import command_envelope
from bizosaas_events.envelope import now
from bizosaas_events.personal import opened, persons_in
from bizosaas_events.store import EventStore, Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_ports.access import Role, allows
from bizosaas_ports.signing import SigningKey

from .adapters.memory import MemoryExport, MemoryLedger, MemoryStatements, MemoryVerifications
from .domain.ports import Export, Ledger, Statements, Verifications
from .handlers import commands, proofs, queries
from .handlers.reactions import Journal
from .handlers.signing import Notary

BEGIN = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
KEY = SigningKey(bytes(range(32)))


def a_context(
    tenant: str = "acme", actor: str = "member:ann", role: str = Role.PLATFORM_ADMIN, minute: int = 0
) -> Context:
    id = new_id()
    return Context(
        tenant=tenant, actor=actor, role=role, time=BEGIN + timedelta(minutes=minute), correlation_id=id,
        causation_id=id,
    )  # fmt: skip


def a_log(service: str, partitions: int = 4) -> MemoryEventStore:
    """The event log of one service."""
    return MemoryEventStore(messages.codec(), category=service, source=f"{service}-svc", partitions=partitions)


async def happened(store: EventStore, stream: str, *events: Event, context: Context) -> list[Envelope]:
    """Record events of one object, whatever version it is at."""
    return await store.append([Write(stream, len(await store.load(stream)), events)], context)


@dataclass
class MemoryAuditService:
    """audit-svc in memory; `ask` answers as the real one would over the streams."""

    ledger: Ledger = field(default_factory=MemoryLedger)
    transaction: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext
    """What the ledger records in: for one in PostgreSQL, a connection inside a transaction."""
    store: EventStore = field(default_factory=lambda: a_log("audit"))
    statements: Statements = field(default_factory=MemoryStatements)
    export: Export = field(default_factory=MemoryExport)
    verifications: Verifications = field(default_factory=MemoryVerifications)
    limits: proofs.PageLimits = field(default_factory=proofs.PageLimits)
    clock: Callable[[], datetime] = now
    logs: list[EventStore] = field(default_factory=list)
    """What was journalled, by `journal_log`."""

    def __post_init__(self) -> None:
        self.notary = self.a_notary()

    def a_notary(self, key: SigningKey = KEY, **other: Any) -> Notary:
        """Another process that signs, when it may do so each time it is asked."""
        return Notary(
            self.ledger, self.statements, self.export, key, now=lambda: self.clock(), seconds=0, **other
        )  # fmt: skip

    async def journal(self, *envelopes: Envelope) -> None:
        """What the consumer of all logs does with these, partition by partition."""

        def key(envelope: Envelope) -> tuple[str, int]:
            return envelope.source, envelope.partition

        for _, batch in groupby(sorted(envelopes, key=lambda e: (*key(e), e.sequence)), key):
            async with self.transaction() as connection:
                await Journal(self.ledger).apply(connection, list(batch))

    async def journal_log(self, *stores: EventStore) -> None:
        """Journal everything that is in these logs, again or for the first time."""
        self.logs += stores
        for store in stores:
            for head in await store.heads():
                await self.journal(*await store.read(head.partition, 0, head.position))

    async def shown(self, said: bytes) -> bytes:
        """An answer as the gateway shows it: with the names of people."""
        text = said.decode()
        found = [await log.person_keys(sorted(persons_in(text))) for log in self.logs]
        keys = {person: key for each in found for person, (_, key) in each.items()}
        return opened(text, keys, in_json=True).encode()

    async def ask(self, command: Command, context: Context | None = None, id: str | None = None) -> Reply:
        handlers = bind(
            *commands.HANDLERS, *queries.HANDLERS, *proofs.HANDLERS, store=self.store, ledger=self.ledger,
            statements=self.statements, notary=self.notary, verifications=self.verifications, key=KEY,
            limits=self.limits,            codec=self.store.codec, now=now,
        )  # fmt: skip
        envelope = command_envelope(
            command, context or a_context(), self.store.codec, id=id or new_id(), source="gateway"
        )
        return await answer(envelope, command, handlers, category="audit", allows=allows, handled=self.store.handled)
