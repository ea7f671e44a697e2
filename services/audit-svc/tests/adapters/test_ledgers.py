"""The journal, in memory and in PostgreSQL; and what only PostgreSQL can promise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from audit_svc.adapters import migrations
from audit_svc.adapters.ledger import PostgresLedger
from audit_svc.adapters.memory import MemoryLedger
from audit_svc.domain.chain import GapError
from audit_svc.domain.ports import Cursor, Filters
from audit_svc.testing import BEGIN, MemoryAuditService, a_context, a_log, happened
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.audit import ReadHistory, ReadStateAt, StateAt, Verified, VerifyJournal
from bizosaas_events.messages.tenant import MemberAdded, MemberSignedIn
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.store.migrating import migrate

PLATFORM = a_context("platform", "member:root")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    await asyncio.to_thread(migrate, database_url, migrations)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
        yield pool


def in_postgres(pool: Any) -> MemoryAuditService:
    @asynccontextmanager
    async def transaction() -> AsyncIterator[Any]:
        async with pool.acquire() as connection, connection.transaction():
            yield connection

    return MemoryAuditService(PostgresLedger(pool), transaction=transaction)


@pytest.fixture(params=["memory", "postgres"])
def service(request: pytest.FixtureRequest) -> MemoryAuditService:
    if request.param == "memory":
        return MemoryAuditService(MemoryLedger())
    return in_postgres(request.getfixturevalue("pool"))


async def a_journalled_log(service: MemoryAuditService, events: int = 40, name: str = "tenant") -> MemoryEventStore:
    """Events of ten members, one a minute, in four partitions."""
    log = a_log(name)
    for n in range(events):
        event = MemberSignedIn(member_id=str(n % 10))
        await happened(log, f"member-{n % 10}", event, context=a_context(actor=f"member:{n % 2}", minute=n))
    await service.journal_log(log)
    return log


async def test_entries_are_what_was_recorded_and_end_in_the_owners_heads(service: MemoryAuditService) -> None:
    log = await a_journalled_log(service)
    heads = await service.ledger.heads()
    assert [(h.partition, h.position, h.hash) for h in heads] == [tuple(h) for h in await log.heads()]
    for head in heads:
        entries = await service.ledger.entries("tenant", head.partition, 0, 100)
        assert [e.envelope for e in entries] == await log.read(head.partition, 0, 100)
        assert entries[-1].hash == head.hash
        assert await service.ledger.entries("tenant", head.partition, head.position, 100) == []


async def test_entries_come_in_batches(service: MemoryAuditService) -> None:
    await a_journalled_log(service)
    head = (await service.ledger.heads())[0]
    first = await service.ledger.entries("tenant", head.partition, 0, 3)
    assert [e.envelope.sequence for e in first] == [1, 2, 3]
    assert (await service.ledger.entries("tenant", head.partition, 3, 1))[0].envelope.sequence == 4


async def test_a_stream_is_read_by_version(service: MemoryAuditService) -> None:
    log = await a_journalled_log(service)
    assert await service.ledger.stream("tenant", "member-3", 0, 99) == await log.load("member-3")
    assert [e.streamversion for e in await service.ledger.stream("tenant", "member-3", 2, 1)] == [3]
    assert await service.ledger.stream("connector", "member-3", 0, 99) == []


async def test_pages_are_filtered_and_newest_first(service: MemoryAuditService) -> None:
    await a_journalled_log(service)
    page = await service.ledger.page("acme", Filters(), None, 99)
    assert [e.time for e in page] == [BEGIN + timedelta(minutes=n) for n in reversed(range(40))]
    odd = await service.ledger.page("acme", Filters(actor="member:1"), None, 99)
    assert odd == page[::2]
    last = odd[4]
    assert await service.ledger.page("acme", Filters(actor="member:1"), Cursor(last.time, last.id), 3) == odd[5:8]
    assert await service.ledger.page("acme", Filters(subject="member-1", actor="member:0"), None, 9) == []
    assert await service.ledger.page("acme", Filters(correlation_id=last.correlationid), None, 9) == [last]
    assert await service.ledger.page("other", Filters(), None, 9) == []


async def test_events_are_found_by_stream_and_type(service: MemoryAuditService) -> None:
    log = a_log("tenant")
    added = MemberAdded(member_id="ann", tenant_id="acme", email="a@x.test", name="Ann", role="tenant_user")
    (first,) = await happened(log, "member-ann", added, context=a_context())
    await happened(log, "member-ann", MemberSignedIn(member_id="ann"), context=a_context())
    await service.journal_log(log)
    assert await service.ledger.of_types(["member-ann", "member-bob"], ["tenant.member.added.v1"]) == [first]
    assert await service.ledger.of_types([], ["tenant.member.added.v1"]) == []


async def test_what_is_journalled_already_is_left_out_and_gaps_are_refused(service: MemoryAuditService) -> None:
    log = await a_journalled_log(service)
    await service.journal_log(log)
    assert sum(h.position for h in await service.ledger.heads()) == 40
    (more,) = await happened(log, "member-3", MemberSignedIn(member_id="3"), context=a_context())
    (most,) = await happened(log, "member-3", MemberSignedIn(member_id="3"), context=a_context())
    with pytest.raises(GapError):
        await service.journal(most)
    await service.journal(more, most)
    assert sum(h.position for h in await service.ledger.heads()) == 42


async def test_history_and_past_states_are_told_from_it(service: MemoryAuditService) -> None:
    await a_journalled_log(service)
    reply = await service.ask(ReadHistory(subject="member-3", limit=2), a_context(role="tenant_admin"))
    assert reply.problem is None
    at = BEGIN + timedelta(minutes=13)
    state = decode_result(await service.ask(ReadStateAt(kind="member", id="3", at=at)), StateAt)
    assert state.version == 2


# ---- PostgreSQL alone


@pytest.mark.parametrize("statement", [
    "update entry set data = data where position = 1", "delete from entry where position = 1", "truncate entry",
])  # fmt: skip
async def test_the_database_refuses_to_change_or_delete_an_entry(pool: Any, statement: str) -> None:
    await a_journalled_log(in_postgres(pool))
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await pool.execute(statement)


async def test_a_batch_is_journalled_whole_or_not_at_all(pool: Any) -> None:
    service = in_postgres(pool)
    log = await a_journalled_log(service)
    events = await happened(log, "member-3", *[MemberSignedIn(member_id="3")] * 5, context=a_context())
    before = await service.ledger.heads()

    class StoppedError(Exception):
        pass

    async def interrupted() -> None:
        async with service.transaction() as connection:
            await service.ledger.record(connection, events)
            raise StoppedError

    with pytest.raises(StoppedError):
        await interrupted()
    assert await service.ledger.heads() == before
    await service.journal(*events)
    assert sum(h.position for h in await service.ledger.heads()) == 45


async def tampered(pool: Any, *statements: str) -> None:
    """What somebody with the owner's rights on the database can do."""
    for statement in ("alter table entry disable trigger all", *statements, "alter table entry enable trigger all"):
        await pool.execute(statement)


WHERE = "where category = 'connector' and part = 2 and position"


@pytest.mark.parametrize(
    ("statements", "positions"),
    [
        ([f"update entry set data = set_byte(data, 12, get_byte(data, 12) # 1) {WHERE} = 5"], [5]),
        ([f"update entry set actor = 'member:eve' {WHERE} = 5"], [5]),
        ([f"update entry set at = at + interval '1 microsecond' {WHERE} = 5"], [5]),
        ([f"update entry set at = 'infinity' {WHERE} = 5"], [5]),
        ([f"update entry set version = -3 {WHERE} = 5"], [5]),
        ([f"update entry set meta = 'x' {WHERE} = 5"], [5]),
        ([f"update entry set hash = sha256(hash) {WHERE} = 5"], [5]),
        ([f"delete from entry {WHERE} = 5"], [5]),
        ([f"delete from entry {WHERE} in (3, 5)"], [3, 5]),
        ([f"delete from entry {WHERE} > 6"], [7]),
        ([f"delete from entry {WHERE} > 0"], [1]),
        (["delete from chain_head where category = 'connector' and part = 2"], [0]),
        ([f"update entry set position = -position {WHERE} in (4, 7)",
          f"update entry set position = 11 + position {WHERE} in (-4, -7)"], [4, 7]),
    ],
    ids=["byte", "column", "time", "infinity", "negative", "meta", "hash", "delete", "deletes", "tail", "all", "head",
         "swap"],
)  # fmt: skip
async def test_tampering_is_found_at_its_exact_position(pool: Any, statements: list[str], positions: list[int]) -> None:
    service = in_postgres(pool)
    await a_journalled_log(service)
    await a_journalled_log(service, 60, "connector")
    await tampered(pool, *statements)

    verified = decode_result(await service.ask(VerifyJournal(), PLATFORM), Verified)

    assert [(b.category, b.partition, b.position) for b in verified.breaks] == [("connector", 2, p) for p in positions]


async def test_after_a_cut_tail_nothing_more_is_chained_to_what_is_left(pool: Any) -> None:
    service = in_postgres(pool)
    log = await a_journalled_log(service)
    (head,) = [h for h in await service.ledger.heads() if h.partition == 1]
    kept = (await service.ledger.entries("tenant", 1, head.position - 3, 1))[0]
    await tampered(pool, f"delete from entry where part = 1 and position > {kept.envelope.sequence}")
    await pool.execute(
        "update chain_head set position = $1, hash = $2 where part = 1", kept.envelope.sequence, kept.hash
    )  # the head was cut to fit
    stream = next(e.subject for e in await log.read(1, 0, 1))
    (more,) = await happened(log, stream, MemberSignedIn(member_id="x"), context=a_context())
    with pytest.raises(GapError, match="verify it"):
        await service.journal(more)


async def test_a_verification_reads_the_journal_in_batches(pool: Any) -> None:
    service = in_postgres(pool)
    log = a_log("tenant", partitions=1)
    for n in range(20):
        events = [MemberSignedIn(member_id="x" * 900) for _ in range(100)]
        await happened(log, f"member-{n}", *events, context=a_context())
    await service.journal_log(log)
    sizes: list[int] = []
    await service.ledger.links("tenant", 0, lambda links: sizes.append(len(links)))
    assert sum(sizes) == 2000
    assert max(sizes) < 1000
    verified = decode_result(await service.ask(VerifyJournal(), PLATFORM), Verified)
    assert (verified.events, verified.breaks) == (2000, [])


async def test_queries_use_their_indexes(pool: Any) -> None:
    """So that the history of one tenant does not read everybody's."""
    service = in_postgres(pool)
    log = a_log("tenant", partitions=1)
    for tenant in range(20):
        for n in range(25):
            await happened(log, f"member-{tenant}-{n}", MemberSignedIn(member_id="m"), context=a_context(f"t{tenant}"))
    await service.journal_log(log)
    await pool.execute("analyze entry")
    for condition, order in (
        ("tenant = 't3'", "at desc, id desc"),
        ("subject = 'member-3-1' and version > 0 and category = 'tenant'", "version"),
        ("tenant = 't3' and actor = 'member:ann'", "at desc, id desc"),
    ):
        rows = await pool.fetch(f"explain select * from entry where {condition} order by {order} limit 5")
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan" not in plan, plan
