"""Signing, keeping and exporting the heads, and what is found with them; in memory, and in PostgreSQL and a real file."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from audit_svc.adapters import migrations
from audit_svc.adapters.heads_file import HeadsFile
from audit_svc.adapters.ledger import PostgresLedger
from audit_svc.adapters.memory import MemoryExport
from audit_svc.adapters.statements import PostgresStatements
from audit_svc.adapters.verifications import PostgresVerifications
from audit_svc.domain.chain import extend
from audit_svc.domain.entry import Entry, Head
from audit_svc.handlers.signing import StatementError
from audit_svc.testing import BEGIN, KEY, MemoryAuditService, a_context, a_log, happened
from bizosaas_events.bus.base import decode_result
from bizosaas_events.chain import GENESIS
from bizosaas_events.heads import WHOLE_EVERY, read
from bizosaas_events.messages.audit import ReadHeads, SignedHeads, Verified, VerifyJournal
from bizosaas_events.messages.tenant import MemberSignedIn
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.store.migrating import migrate
from bizosaas_ports.signing import SigningKey

PLATFORM = a_context("platform", "member:root")
Template = Callable[[str, Callable[[str], object]], str]


@pytest.fixture
async def pool(database_template: Template, new_database: Callable[..., str]) -> AsyncIterator[Any]:
    url = new_database(template=database_template("audit", lambda url: migrate(url, migrations)))
    async with asyncpg.create_pool(url, min_size=1, max_size=6) as pool:
        yield pool


@pytest.fixture
def service(pool: Any, tmp_path: Path) -> MemoryAuditService:
    @asynccontextmanager
    async def transaction() -> AsyncIterator[Any]:
        async with pool.acquire() as connection, connection.transaction():
            yield connection

    return MemoryAuditService(
        PostgresLedger(pool), transaction=transaction, statements=PostgresStatements(pool),
        export=HeadsFile(tmp_path / "kept" / "heads.ndjson"), verifications=PostgresVerifications(pool),
    )  # fmt: skip


class Life:
    """Services that go on recording, while the heads are signed now and then."""

    def __init__(self, service: MemoryAuditService) -> None:
        self.service = service
        self.logs = {name: a_log(name) for name in ("tenant", "connector")}
        self.minute = 0
        service.clock = lambda: a_context(minute=self.minute).time

    async def goes_on(self, events: int = 16) -> None:
        """Events of eight members in each log, then a signature."""
        for n in range(events):
            for log in self.logs.values():
                event = MemberSignedIn(member_id=f"{self.minute}.{n}")
                await happened(log, f"member-{n % 8}", event, context=a_context(minute=self.minute))
        await self.service.journal_log(*self.logs.values())
        self.minute += 1
        assert await self.service.notary.sign() == []

    async def head(self, log: str, part: int) -> Any:
        return next(head for head in await self.logs[log].heads() if head.partition == part)


@pytest.fixture
async def life(service: MemoryAuditService) -> Life:
    """Four minutes of it."""
    life = Life(service)
    for _ in range(4):
        await life.goes_on()
    return life


def exported(service: MemoryAuditService) -> list[bytes]:
    return list(service.export.lines())


async def breaks(service: MemoryAuditService) -> list[tuple[str, int, int]]:
    verified = decode_result(await service.ask(VerifyJournal(), PLATFORM), Verified)
    return [(found.category, found.partition, found.position) for found in verified.breaks]


async def tampered(pool: Any, *statements: str) -> None:
    """What somebody with the owner's rights on the database can do."""
    for table in ("entry", "signed_heads"):
        await pool.execute(f"alter table {table} disable trigger all")
    for statement in statements:
        await pool.execute(statement)
    for table in ("entry", "signed_heads"):
        await pool.execute(f"alter table {table} enable trigger all")


async def cut(pool: Any, category: str, part: int, left: int) -> None:
    """Cut a chain to its first `left` entries, and the head recorded beside it to fit."""
    where = f"where category = '{category}' and part = {part}"
    await tampered(pool, f"delete from entry {where} and position > {left}")
    head = await pool.fetchval(f"select hash from entry {where} and position = {left}")
    if left:
        await pool.execute(f"update chain_head set position = $1, hash = $2 {where}", left, head)
    else:
        await pool.execute(f"delete from chain_head {where}")


async def rewritten(pool: Any, ledger: Any, category: str, part: int, position: int) -> None:
    """Change one event and recompute every hash behind it, the recorded head included."""
    where = f"where category = '{category}' and part = {part}"
    old: list[Entry] = await ledger.entries(category, part, position - 1, 9999)
    before = await pool.fetchval(f"select hash from entry {where} and position = {position - 1}") or GENESIS
    flip = "set data = set_byte(data, 40, get_byte(data, 40) # 1)"
    await tampered(pool, f"update entry {flip} {where} and position = {position}")
    changed = [(await ledger.entries(category, part, position - 1, 1))[0], *old[1:]]
    new = extend(Head(category, part, position - 1, before), [entry.envelope for entry in changed])
    assert new[0].hash != old[0].hash
    await pool.execute("alter table entry disable trigger all")
    for entry in new:
        await pool.execute(f"update entry set hash = $1 {where} and position = $2", entry.hash, entry.envelope.sequence)
    await pool.execute("alter table entry enable trigger all")
    await pool.execute(f"update chain_head set hash = $1 {where}", new[-1].hash)


async def test_the_heads_are_exported_line_by_line_and_the_journal_holds_against_them(life: Life) -> None:
    said = [read(line).statement for line in exported(life.service)]
    assert [(each.number, each.time, each.whole) for each in said] == [
        (n + 1, a_context(minute=n + 1).time, n == 0) for n in range(4)
    ]
    head = await life.head("tenant", 1)
    assert (head.position, head.hash.hex()) in [(h.position, h.hash) for h in said[-1].heads if h.category == "tenant"]

    verified = decode_result(await life.service.ask(VerifyJournal(), PLATFORM), Verified)

    assert (verified.events, verified.breaks) == (128, [])
    assert (verified.statements, verified.signed_until) == (4, said[-1].time)


async def test_a_cut_tail_is_found_where_it_begins_though_the_head_was_cut_to_fit(pool: Any, life: Life) -> None:
    head = await life.head("connector", 2)
    for left in (head.position - 1, head.position - 6):
        await cut(pool, "connector", 2, left)
        assert await breaks(life.service) == [("connector", 2, left + 1)]


async def test_a_chain_that_is_gone_altogether_is_found(pool: Any, life: Life) -> None:
    await cut(pool, "tenant", 3, 0)
    assert await breaks(life.service) == [("tenant", 3, 1)]


async def test_a_rewritten_chain_is_found_between_the_signed_heads_around_its_first_change(
    pool: Any, life: Life
) -> None:
    at = {
        n: next(h.position for h in said.heads if (h.category, h.partition) == ("connector", 2))
        for n, said in enumerate((read(line).statement for line in exported(life.service)), 1)
    }
    await rewritten(pool, life.service.ledger, "connector", 2, at[2] + 1)

    verified = decode_result(await life.service.ask(VerifyJournal(), PLATFORM), Verified)

    (found,) = verified.breaks
    assert (found.category, found.partition, found.position) == ("connector", 2, at[2] + 1)
    assert found.reason == (
        f"positions {at[2] + 1} to {at[3]} are not what was recorded: signed statement 3 says otherwise"
    )


async def test_a_rewritten_and_a_cut_and_a_plainly_changed_chain_are_all_found(pool: Any, life: Life) -> None:
    await rewritten(pool, life.service.ledger, "connector", 0, 1)
    last = await life.head("tenant", 0)
    await cut(pool, "tenant", 0, last.position - 2)
    await tampered(pool, "update entry set data = 'x' where category = 'tenant' and part = 1 and position = 2")
    assert await breaks(life.service) == [
        ("connector", 0, 1), ("tenant", 0, last.position - 1), ("tenant", 1, 2),
    ]  # fmt: skip


async def test_what_is_damaged_and_at_a_signed_head_is_told_once(pool: Any, life: Life) -> None:
    head = await life.head("tenant", 1)
    await tampered(
        pool, f"update entry set data = 'x' where category = 'tenant' and part = 1 and position = {head.position}"
    )  # fmt: skip
    assert await breaks(life.service) == [("tenant", 1, head.position)]
    await tampered(
        pool, f"update entry set hash = sha256(hash) where category = 'tenant' and part = 1 and position = {head.position}"
    )  # fmt: skip
    assert await breaks(life.service) == [("tenant", 1, head.position)]


@pytest.mark.parametrize("what", ["cut", "rewritten"])
async def test_a_contradicted_chain_is_noticed_by_the_next_signature_and_the_others_are_still_signed(
    pool: Any, life: Life, what: str
) -> None:
    head = await life.head("connector", 2)
    if what == "cut":
        await cut(pool, "connector", 2, head.position - 3)
    else:
        await rewritten(pool, life.service.ledger, "connector", 2, head.position - 3)
    for log in ("tenant",):
        await happened(life.logs[log], "member-1", MemberSignedIn(member_id="x"), context=a_context(minute=9))
        await life.service.journal_log(life.logs[log])
    life.minute += 1

    (contradiction,) = await life.service.notary.sign()

    assert contradiction.startswith(f"connector/2@{head.position} is ")
    said = read(exported(life.service)[-1]).statement
    assert (said.number, [h.category for h in said.heads]) == (5, ["tenant"])
    assert [found[:2] for found in await breaks(life.service)] == [("connector", 2)]


async def test_a_head_that_is_not_that_of_its_entries_is_not_signed(pool: Any, life: Life) -> None:
    await pool.execute("update chain_head set position = position + 5 where category = 'tenant' and part = 1")
    life.minute += 1
    assert await life.service.notary.sign() == ["the head recorded beside tenant/1 is not that of its entries"]


@pytest.mark.parametrize(
    ("change", "numbers"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"heads":[[', b'"heads":[["tenant",9,9,"00"],['), *lines[2:]], [2]),
        (lambda lines: [lines[0], *lines[2:]], [2]),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], [2]),
        (lambda lines: [b"", *lines[1:]], [1]),
    ],
    ids=["changed", "removed", "swapped", "emptied"],
)
async def test_an_export_that_was_tampered_with_is_found(
    life: Life, change: Callable[[list[bytes]], list[bytes]], numbers: list[int]
) -> None:
    path = life.service.export.path  # type: ignore[attr-defined]  # it is the file here
    path.write_bytes(b"".join(line + b"\n" for line in change(exported(life.service))))
    assert await breaks(life.service) == [("heads", 0, n) for n in numbers]


async def test_an_export_that_lost_its_end_is_written_again_from_the_database(life: Life) -> None:
    before = exported(life.service)
    path = life.service.export.path  # type: ignore[attr-defined]  # it is the file here
    path.write_bytes(b"".join(line + b"\n" for line in before[:2]) + before[2][:30])
    assert await breaks(life.service) == []
    assert exported(life.service) == before
    path.unlink()
    life.minute += 1
    await life.service.notary.sign()
    assert exported(life.service)[:4] == before


async def test_a_database_that_was_set_back_gets_its_statements_from_the_export_and_is_told_apart(
    pool: Any, life: Life
) -> None:
    """With the database, somebody cut the journal and all that it says about its heads."""
    head = await life.head("connector", 2)
    await cut(pool, "connector", 2, head.position - 3)
    await tampered(pool, "delete from signed_heads where number > 2")
    for notary in (life.service.notary, life.service.a_notary()):
        assert len(await notary.sign()) == 1
    assert [read(line).statement.number for line in await life.service.statements.after(0, 9)] == [1, 2, 3, 4, 5, 6][
        : len(exported(life.service))
    ]
    assert await breaks(life.service) == [("connector", 2, head.position - 2)]


async def test_nothing_is_signed_beside_another_statement_of_the_same_number(pool: Any, life: Life) -> None:
    """The statements of the database were replaced by validly signed ones, say by an earlier key holder."""
    other = Life(MemoryAuditService())
    for _ in range(4):
        await other.goes_on()
    await tampered(pool, "delete from signed_heads")
    for n, line in enumerate(exported(other.service), 1):
        await pool.execute(
            "insert into signed_heads (number, at, whole, line) values ($1, $2, $3, $4)", n, BEGIN, n == 1, line
        )
    with pytest.raises(StatementError, match="statement 4 of the export is not the one in the database"):
        await life.service.a_notary().sign()
    assert ("heads", 0, 4) in await breaks(life.service)


async def test_statements_of_another_key_are_refused_until_it_is_named(life: Life) -> None:
    new = SigningKey(b"n" * 32)
    with pytest.raises(StatementError, match="statement 1 in the database is not what was signed by this key"):
        await life.service.a_notary(new).sign()
    life.minute += 1
    rotated = life.service.a_notary(new, former=[KEY.public])
    assert await rotated.sign() == []
    assert (await rotated.reading()).breaks == []
    with pytest.raises(StatementError, match="statement 5 in the database"):
        await life.service.notary.sign()  # the process that knows the old key alone


async def test_two_processes_make_one_row_of_statements(life: Life, tmp_path: Path) -> None:
    first = life.service.notary
    life.service.export = HeadsFile(tmp_path / "other.ndjson")
    second = life.service.a_notary()
    for notary in (second, first, second, second, first):
        life.minute += 1
        assert await notary.sign() == []
    await asyncio.gather(*(notary.sign() for notary in (first, second) for _ in range(5)))
    reading = await second.reading()
    assert (reading.breaks, reading.number) == ([], (await first.reading()).number)


async def test_a_process_begins_with_the_last_statement_that_names_all_heads(pool: Any, life: Life) -> None:
    """What was said long ago it need not read again each time it starts."""
    for _ in range(WHOLE_EVERY - 2):
        life.minute += 1
        await life.service.notary.sign()
    asked: list[int] = []

    class Watched(PostgresStatements):
        async def after(self, number: int, limit: int) -> list[bytes]:
            asked.append(number)
            return await super().after(number, limit)

    life.service.statements = Watched(pool)
    again = life.service.a_notary()
    life.minute += 1
    assert await again.sign() == []
    assert min(asked) > WHOLE_EVERY
    assert again.vector.number == WHOLE_EVERY + 3
    assert {c: h[:2] for c, h in again.vector.heads.items()} == {
        c: h[:2] for c, h in life.service.notary.vector.heads.items()
    }
    assert (await again.reading()).breaks == []


async def test_what_came_last_is_signed_before_a_process_ends(life: Life) -> None:
    life.service.notary._seconds = 600
    await happened(life.logs["tenant"], "member-1", MemberSignedIn(member_id="x"), context=a_context(minute=9))
    await life.service.journal_log(life.logs["tenant"])
    await life.service.notary.close()
    assert sum(held.position for held in life.service.notary.vector.heads.values()) == 129
    assert len(exported(life.service)) == 5


async def test_a_process_that_was_not_due_leaves_it_to_the_other(life: Life) -> None:
    patient = life.service.a_notary()
    patient._seconds = 600
    await patient.sign()
    assert len(exported(life.service)) == 4


async def test_a_crash_between_keeping_and_exporting_loses_nothing(life: Life) -> None:
    full = MemoryExport()
    full.kept = exported(life.service)

    class FullDisk(MemoryExport):
        def append(self, last: bytes | None, lines: Any) -> bool:
            raise OSError("no space left on device")

    there = life.service.export
    life.service.export = FullDisk()
    life.service.export.kept = full.kept
    life.minute += 1
    with pytest.raises(OSError, match="no space"):
        await life.service.a_notary().sign()
    life.service.export = there
    await life.service.a_notary().sign()
    assert [read(line).statement.number for line in there.lines()][:5] == [1, 2, 3, 4, 5]


async def test_the_positions_of_a_moment_are_told(life: Life) -> None:
    async def heads_at(minute: float) -> SignedHeads:
        at = BEGIN + (a_context(minute=1).time - BEGIN) * minute
        return decode_result(await life.service.ask(ReadHeads(at=at), PLATFORM), SignedHeads)

    assert await heads_at(0.5) == SignedHeads(number=0)
    second, later, last = await heads_at(2), await heads_at(2.9), await heads_at(99)
    assert (second, second.number, last.number) == (later, 2, 4)
    assert sum(head.position for head in second.heads) == 64
    assert sum(head.position for head in last.heads) == 128


@pytest.mark.parametrize("statement", [
    "update signed_heads set line = 'x'", "delete from signed_heads", "truncate signed_heads",
])  # fmt: skip
async def test_the_database_refuses_to_change_what_was_signed(pool: Any, life: Life, statement: str) -> None:
    with pytest.raises(asyncpg.RestrictViolationError, match="of signed_heads is refused"):
        await pool.execute(statement)


async def test_a_log_of_memory_is_signed_likewise() -> None:
    life = Life(MemoryAuditService())
    for _ in range(3):
        await life.goes_on()
    assert await breaks(life.service) == []
    ledger: Any = life.service.ledger
    del ledger.chains["tenant", 1][-2:]
    ledger._heads["tenant", 1] = Head("tenant", 1, len(ledger.chains["tenant", 1]), ledger.chains["tenant", 1][-1].hash)
    log: MemoryEventStore = life.logs["tenant"]
    assert await breaks(life.service) == [("tenant", 1, len(await log.read(1, 0, 99)) - 1)]
