"""What a tenant gets of the journal, page by page, and that it can be checked without it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Literal

import asyncpg
import pytest

from audit_svc.adapters import migrations
from audit_svc.adapters.ledger import PostgresLedger
from audit_svc.handlers.proofs import PageLimits
from audit_svc.testing import BEGIN, KEY, MemoryAuditService, a_context, a_log, happened
from bizosaas_events import Context, Problem
from bizosaas_events.bus.base import decode_result
from bizosaas_events.export_check import ExportReading
from bizosaas_events.exported import Exported, parse
from bizosaas_events.heads import Head
from bizosaas_events.messages.audit import ChainPosition, ExportHistory, ExportPage, Hashes, ReadHashes
from bizosaas_events.messages.tenant import MemberSignedIn
from bizosaas_events.store.migrating import migrate
from bizosaas_ports.signing import signed_by

END = BEGIN + timedelta(days=1)
FORMS = ("ndjson", "cloudevents")
Form = Literal["ndjson", "cloudevents"]


@pytest.fixture
async def pool(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str]
) -> AsyncIterator[Any]:
    url = new_database(template=database_template("audit", lambda url: migrate(url, migrations)))
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        yield pool


def in_postgres(pool: Any) -> MemoryAuditService:
    @asynccontextmanager
    async def transaction() -> AsyncIterator[Any]:
        async with pool.acquire() as connection, connection.transaction():
            yield connection

    return MemoryAuditService(PostgresLedger(pool), transaction=transaction)


@pytest.fixture(params=["memory", "postgres"])
def empty(request: pytest.FixtureRequest) -> MemoryAuditService:
    return MemoryAuditService() if request.param == "memory" else in_postgres(request.getfixturevalue("pool"))


@pytest.fixture
async def service(empty: MemoryAuditService) -> MemoryAuditService:
    """Forty events of two tenants, in two logs of two partitions each."""
    service = empty
    for name in ("tenant", "connector"):
        log = a_log(name, partitions=2)
        for n in range(20):
            tenant = "other" if n % 7 == 3 else "acme"
            event = MemberSignedIn(member_id=f"{n}")
            await happened(log, f"member-{tenant}-{n % 5}", event, context=a_context(tenant, minute=n))
        await service.journal_log(log)
    await service.notary.sign()
    return service


async def export(
    service: MemoryAuditService, context: Context | None = None, *, form: Form = "ndjson", until: datetime = END,
    since: datetime | None = None,
) -> list[bytes]:  # fmt: skip
    lines: list[bytes] = []
    after = ""
    while True:
        ask = ExportHistory(since=since, until=until, format=form, after=after)
        page = decode_result(await service.ask(ask, context or a_context(role="tenant_admin")), ExportPage)
        lines += map(bytes, page.lines)
        after = page.next
        if not after:
            return lines


def check(lines: list[bytes], service: MemoryAuditService) -> ExportReading:
    reading = ExportReading(lambda message, signature: signed_by(KEY.public, message, signature))
    for line in lines:
        reading.take(line)
    for (category, partition), held in service.notary.vector.heads.items():
        reading.hold_against(Head(category, partition, held.position, held.hash.hex()))
    reading.end()
    return reading


def events(lines: list[bytes]) -> list[Exported]:
    return [found for found in map(parse, lines) if isinstance(found, Exported)]


@pytest.mark.parametrize("page_of", [1, 3, 500])
@pytest.mark.parametrize("form", FORMS)
async def test_a_tenants_events_go_out_whole_and_hold(service: MemoryAuditService, form: Form, page_of: int) -> None:
    service.limits = PageLimits(events=page_of)
    lines = await export(service, form=form)
    found = events(lines)
    assert [e.envelope.time for e in found] == sorted(e.envelope.time for e in found)
    assert len({e.envelope.id for e in found}) == len(found) == 34
    assert {e.envelope.tenantid for e in found} == {"acme"}
    assert all(e.holds() for e in found)
    reading = check(lines, service)
    assert (reading.breaks, reading.events, reading.chains) == ([], 34, 4)
    assert reading.pages == -(-34 // page_of)
    assert reading.linked > 10
    assert reading.anchored > 5


async def test_a_page_ends_when_it_is_large(service: MemoryAuditService) -> None:
    service.limits = PageLimits(bytes=1500)
    reading = check(await export(service), service)
    assert (reading.breaks, reading.events) == ([], 34)
    assert 10 < reading.pages < 34


async def test_a_time_is_exported_from_its_beginning_to_before_its_end(service: MemoryAuditService) -> None:
    lines = await export(service, since=BEGIN + timedelta(minutes=5), until=BEGIN + timedelta(minutes=9))
    assert sorted({e.envelope.time for e in events(lines)}) == [BEGIN + timedelta(minutes=n) for n in (5, 6, 7, 8)]
    assert check(lines, service).breaks == []
    assert events(await export(service, since=END)) == []


async def test_another_tenants_events_are_not_in_it(service: MemoryAuditService) -> None:
    assert {e.envelope.tenantid for e in events(await export(service, a_context("other")))} == {"other"}
    assert events(await export(service, a_context("platform"))) == []


@pytest.mark.parametrize("role", ["tenant_user", ""])
async def test_exports_are_for_administrators(service: MemoryAuditService, role: str) -> None:
    reply = await service.ask(ExportHistory(until=END), a_context(role=role))
    assert reply.problem is not None
    assert reply.problem.slug == "permission-missing"


async def refused(service: MemoryAuditService, command: Any) -> Problem:
    problem = (await service.ask(command)).problem
    assert problem is not None
    return problem


async def test_what_is_no_cursor_or_no_moment_is_refused(service: MemoryAuditService) -> None:
    problem = await refused(service, ExportHistory(until=END, after="bm90IGEgY3Vyc29y"))
    assert (problem.slug, problem.field) == ("cursor-invalid", "after")
    problem = await refused(service, ExportHistory(until=END.replace(tzinfo=None)))
    assert (problem.slug, problem.field) == ("time-invalid", "to")
    problem = await refused(service, ExportHistory(until=END, since=END.replace(tzinfo=None)))
    assert (problem.slug, problem.field) == ("time-invalid", "from")


async def test_hashes_are_told_for_positions(service: MemoryAuditService) -> None:
    found = events(await export(service))[:3]
    wanted = [(e.category, e.envelope.partition, e.envelope.sequence) for e in found] + [("tenant", 9, 1)]
    ask = ReadHashes(positions=[ChainPosition(category=c, partition=p, position=n) for c, p, n in wanted])
    told = decode_result(await service.ask(ask), Hashes)
    assert told.hashes == [*(e.hash.hex() for e in found), ""]
    for positions in ([], ask.positions * 300):
        problem = await refused(service, ReadHashes(positions=positions))
        assert (problem.slug, problem.field) == ("limit-invalid", "positions")


async def test_tampering_shows_in_the_export(pool: Any) -> None:
    service = in_postgres(pool)
    log = a_log("tenant", partitions=1)
    for n in range(10):
        await happened(log, f"member-{n}", MemberSignedIn(member_id=f"{n}"), context=a_context(minute=n))
    await service.journal_log(log)
    await pool.execute("alter table entry disable trigger all")
    await pool.execute("update entry set data = 'not JSON' where position = 3")
    await pool.execute("update entry set meta = 'nor this' where position = 5")
    await pool.execute("delete from entry where position = 8")
    for form in FORMS:
        reading = check(await export(service, form=form), service)  # type: ignore[arg-type]  # one of the two
        assert [found.position for found in reading.breaks] == [3, 5, 9], "and behind 8 the hash before is not known"


async def test_an_export_uses_the_index_of_the_tenants_time(pool: Any) -> None:
    await pool.execute("set enable_seqscan = off")
    rows = await pool.fetch(
        "explain select * from entry where tenant = 'a' and at >= now() and (at, id) > (now(), $1) order by at, id",
        "00000000-0000-0000-0000-000000000000",
    )
    plan = "\n".join(row[0] for row in rows)
    assert "entry_tenant" in plan, plan
    assert "Sort" not in plan, plan
