"""Verifying the journal, on memory adapters."""

import asyncio
from collections.abc import Callable

from audit_svc.adapters.memory import MemoryLedger
from audit_svc.testing import MemoryAuditService, a_context, a_log, happened
from bizosaas_events import new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.chain import Link
from bizosaas_events.messages.audit import JournalVerified, ReadVerification, Verification, Verified, VerifyJournal
from bizosaas_events.messages.tenant import MemberSignedIn

PLATFORM = a_context("platform", "member:root")


async def journalled(events: int = 30) -> MemoryAuditService:
    service = MemoryAuditService()
    for name in ("tenant", "connector"):
        log = a_log(name)
        for n in range(events):
            await happened(log, f"member-{n}", MemberSignedIn(member_id=str(n)), context=a_context())
        await service.journal_log(log)
    return service


async def test_a_whole_journal_holds_and_the_verification_is_recorded() -> None:
    service = await journalled()
    id = new_id()

    reply = await service.ask(VerifyJournal(), PLATFORM, id)

    verified = decode_result(reply, Verified)
    assert (verified.events, verified.partitions, verified.breaks) == (60, 8, [])
    (recorded,) = await service.store.load(f"journal-{id}")
    assert service.store.codec.decode(recorded) == JournalVerified(events=60, partitions=8, breaks=0)
    assert (recorded.tenantid, recorded.actorid) == ("platform", "member:root")


async def test_an_empty_journal_holds() -> None:
    verified = decode_result(await MemoryAuditService().ask(VerifyJournal(), PLATFORM), Verified)
    assert (verified.events, verified.partitions, verified.breaks) == (0, 0, [])


async def test_damage_is_told_with_its_log_partition_and_position() -> None:
    service = await journalled()
    assert isinstance(service.ledger, MemoryLedger)
    chain = service.ledger.chains[("connector", 2)]
    del chain[3]

    verified = decode_result(await service.ask(VerifyJournal(), PLATFORM), Verified)

    (found,) = verified.breaks
    assert (found.category, found.partition, found.position) == ("connector", 2, 4)
    assert found.reason == "position 4 is missing"


async def test_a_verification_that_is_delivered_again_is_recorded_once() -> None:
    service = await journalled()
    id = new_id()
    first, second = [decode_result(await service.ask(VerifyJournal(), PLATFORM, id), Verified) for _ in range(2)]
    assert (first.events, first.breaks) == (second.events, second.breaks)
    assert len(await service.store.load(f"journal-{id}")) == 1


async def test_it_is_told_how_far_a_verification_is() -> None:
    service, id = await journalled(), new_id()
    assert isinstance(service.ledger, MemoryLedger)
    going, seen = asyncio.Event(), asyncio.Event()

    class Slow(MemoryLedger):
        """Stops before its fifth chain, as a long verification seems to."""

        async def links(self, category: str, partition: int, take: Callable[[list[Link]], None]) -> None:
            if (category, partition) == ("tenant", 0):
                seen.set()
                await going.wait()
            await super().links(category, partition, take)

    slow = Slow()
    slow.chains, slow._heads = service.ledger.chains, service.ledger._heads
    service.ledger = slow
    for unknown in (id, "none", ""):
        missing = await service.ask(ReadVerification(id=unknown), PLATFORM)
        assert missing.problem is not None
        assert missing.problem.kind == "not-found"

    verifying = asyncio.create_task(service.ask(VerifyJournal(), PLATFORM, id))
    await seen.wait()

    async def told() -> Verification:
        return decode_result(await service.ask(ReadVerification(id=id), PLATFORM), Verification)

    while (progress := await told()).events == 0:
        await asyncio.sleep(0.05)
    assert (progress.status, progress.events, progress.of_events) == ("running", 30, 60)
    assert (progress.partitions, progress.of_partitions, progress.result) == (4, 8, None)
    going.set()
    result = decode_result(await verifying, Verified)
    done = await told()
    assert (done.status, done.events, done.partitions, done.result) == ("done", 60, 8, result)


async def test_only_the_platform_verifies() -> None:
    reply = await MemoryAuditService().ask(VerifyJournal(), a_context(role="tenant_admin"))
    assert reply.problem is not None
    assert reply.problem.slug == "permission-missing"
