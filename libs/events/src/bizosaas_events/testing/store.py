"""The suite that every event store passes."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from ..chain import GENESIS, link
from ..envelope import Envelope, new_id
from ..errors import AlreadyHandledError, ConcurrencyError, StreamNotFoundError
from ..handling import execute, load_state
from ..personal import ERASED, PersonErasedError, opened
from ..store.base import EventStore, Write
from .account import (
    ACCOUNT,
    Account,
    Deposit,
    Deposited,
    HolderErased,
    HolderNamed,
    OverdrawnError,
    Withdraw,
    Withdrawn,
    a_context,
)

ANN = HolderNamed(holder_id="ann", name='Ann "Nan" Møller', email="ann@acme.test", branch="North")


class EventStoreSuite:
    """Subclass it and provide a fixture `store`: an empty event store with `account.CODEC`.

    A store that needs a master key has one. Nothing here waits or sleeps; a store that passes keeps what the port
    promises towards one process.
    """

    async def test_what_was_appended_is_loaded_in_order(self, store: EventStore) -> None:
        context = a_context()
        recorded = await store.append([Write("account-1", 0, [Deposited(cents=5), Withdrawn(cents=2)])], context)
        assert await store.load("account-1") == recorded
        assert [e.streamversion for e in recorded] == [1, 2]
        assert [store.codec.decode(e) for e in recorded] == [Deposited(cents=5), Withdrawn(cents=2)]
        assert {(e.tenantid, e.actorid, e.correlationid, e.causationid) for e in recorded} == {
            (context.tenant, context.actor, context.correlation_id, context.causation_id)
        }
        assert recorded[0].time == context.time

    async def test_an_unknown_stream_has_no_events(self, store: EventStore) -> None:
        assert await store.load("account-none") == []

    async def test_a_stale_version_is_refused_and_nothing_is_written(self, store: EventStore) -> None:
        await store.append([Write("account-1", 0, [Deposited(cents=5)])], a_context())
        for expected in (0, 2):
            with pytest.raises(ConcurrencyError) as refused:
                await store.append([Write("account-1", expected, [Deposited(cents=1)])], a_context())
            assert (refused.value.stream, refused.value.expected) == ("account-1", expected)
        assert len(await store.load("account-1")) == 1

    async def test_of_eight_racing_appends_one_wins(self, store: EventStore) -> None:
        async def race(n: int) -> str:
            try:
                await store.append([Write("account-1", 0, [Deposited(cents=n)])], a_context())
            except ConcurrencyError:
                return "conflict"
            return "ok"

        assert sorted(await asyncio.gather(*map(race, range(8)))) == ["conflict"] * 7 + ["ok"]
        assert len(await store.load("account-1")) == 1

    async def test_writes_to_several_streams_happen_together_or_not_at_all(self, store: EventStore) -> None:
        streams = [f"account-{n}" for n in range(20)]
        recorded = await store.append([Write(s, 0, [Deposited(cents=1)]) for s in streams], a_context())
        assert [e.subject for e in recorded] == streams
        assert len({e.partition for e in recorded}) > 1
        with pytest.raises(ConcurrencyError):
            await store.append(
                [Write("account-new", 0, [Deposited(cents=1)]), Write("account-3", 7, [Deposited(cents=1)])],
                a_context(),
            )
        assert await store.load("account-new") == []

    async def test_two_writes_to_one_stream_count_on(self, store: EventStore) -> None:
        writes = [Write("account-1", 0, [Deposited(cents=1)]), Write("account-1", 1, [Deposited(cents=2)])]
        recorded = await store.append(writes, a_context())
        assert [e.streamversion for e in recorded] == [1, 2]
        assert await store.load("account-1") == recorded

    async def test_several_writes_over_the_same_streams_do_not_wait_for_each_other_for_ever(
        self, store: EventStore
    ) -> None:
        async def both(first: str, second: str, version: int) -> None:
            try:
                await store.append([Write(s, version, [Deposited(cents=1)]) for s in (first, second)], a_context())
            except ConcurrencyError:
                return

        pairs = [("account-1", "account-2"), ("account-2", "account-1")] * 10
        await asyncio.wait_for(asyncio.gather(*(both(*pair, n // 2) for n, pair in enumerate(pairs))), 20)
        assert len(await store.load("account-1")) == len(await store.load("account-2")) > 0

    async def test_a_command_is_recorded_once(self, store: EventStore) -> None:
        command = new_id()
        assert await store.handled(command) is None
        recorded = await store.append(
            [Write("account-1", 0, [Deposited(cents=1), Deposited(cents=2)])], a_context(), command_id=command
        )
        assert await store.handled(command) == recorded[-1]
        with pytest.raises(AlreadyHandledError):
            await store.append([Write("account-1", 2, [Deposited(cents=1)])], a_context(), command_id=command)
        assert len(await store.load("account-1")) == 2

    async def test_a_command_over_several_streams_is_recorded_with_the_last_of_its_events(
        self, store: EventStore
    ) -> None:
        command = new_id()
        writes = [Write(f"account-{n}", 0, [Deposited(cents=n)]) for n in range(5)]
        recorded = await store.append(writes, a_context(), command_id=command)
        assert await store.handled(command) == recorded[-1]

    async def test_a_failed_append_does_not_record_its_command(self, store: EventStore) -> None:
        command = new_id()
        with pytest.raises(ConcurrencyError):
            await store.append([Write("account-1", 9, [Deposited(cents=1)])], a_context(), command_id=command)
        await store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context(), command_id=command)

    async def test_positions_of_a_partition_have_no_gaps(self, store: EventStore) -> None:
        for n in range(100):
            await store.append([Write(f"account-{n}", 0, [Deposited(cents=1)] * (n % 3 + 1))], a_context())
        with pytest.raises(ConcurrencyError):
            await store.append([Write("account-1", 0, [Deposited(cents=1)])], a_context())
        total = 0
        for head in await store.heads():
            events = await store.read(head.partition, 0, 1000)
            assert [e.sequence for e in events] == list(range(1, head.position + 1))
            assert {e.partition for e in events} == {head.partition}
            total += len(events)
        assert total == sum(n % 3 + 1 for n in range(100))

    async def test_a_partition_is_read_in_pages(self, store: EventStore) -> None:
        await store.append([Write("account-1", 0, [Deposited(cents=n) for n in range(1, 8)])], a_context())
        (head,) = await store.heads()
        first = await store.read(head.partition, 0, 3)
        rest = await store.read(head.partition, first[-1].sequence, 100)
        assert first + rest == await store.load("account-1")
        assert await store.read(head.partition, head.position, 10) == []

    async def test_the_head_covers_every_event_before_it(self, store: EventStore) -> None:
        await store.append([Write("account-1", 0, [Deposited(cents=1), Withdrawn(cents=1)])], a_context(actor="é"))
        await store.append([Write("account-1", 2, [Deposited(cents=3)])], a_context(traceparent="00-1-2-01"))
        (head,) = await store.heads()
        reached = GENESIS
        for envelope in await store.read(head.partition, 0, 10):
            reached = link(reached, envelope)
        assert head.hash == reached

    async def test_a_stream_is_loaded_as_of_a_version_or_a_time(self, store: EventStore) -> None:
        then = a_context()
        later = msgspec.structs.replace(then, time=then.time + timedelta(hours=1))
        await store.append([Write("account-1", 0, [Deposited(cents=1), Deposited(cents=2)])], then)
        await store.append([Write("account-1", 2, [Deposited(cents=4)])], later)
        assert [e.streamversion for e in await store.load("account-1", until_version=1)] == [1]
        assert [e.streamversion for e in await store.load("account-1", until_version=0)] == []
        assert [e.streamversion for e in await store.load("account-1", until_time=then.time)] == [1, 2]
        assert [e.streamversion for e in await store.load("account-1", until_time=later.time)] == [1, 2, 3]
        before = then.time - timedelta(microseconds=1)
        assert await store.load("account-1", until_time=before) == []

    async def test_a_decision_is_recorded_and_remembered(self, store: EventStore) -> None:
        await execute(store, ACCOUNT, "1", Deposit(account_id="1", cents=5), a_context())
        handled = await execute(store, ACCOUNT, "1", Withdraw(account_id="1", cents=2), a_context())
        assert (handled.state, handled.version) == (Account(3), 2)
        assert await load_state(store, ACCOUNT, "1", "acme") == (Account(3), 2)

    async def test_decisions_that_race_are_all_recorded(self, store: EventStore) -> None:
        async def deposit() -> None:
            await execute(store, ACCOUNT, "1", Deposit(account_id="1", cents=1), a_context())

        await asyncio.gather(*(deposit() for _ in range(5)))
        assert await load_state(store, ACCOUNT, "1", "acme") == (Account(5), 5)

    async def test_another_tenants_object_does_not_exist(self, store: EventStore) -> None:
        await execute(store, ACCOUNT, "1", Deposit(account_id="1", cents=5), a_context("acme"))
        with pytest.raises(StreamNotFoundError):
            await execute(store, ACCOUNT, "1", Deposit(account_id="1", cents=5), a_context("other"))

    async def test_a_command_delivered_again_is_recognised_although_it_would_now_be_refused(
        self, store: EventStore
    ) -> None:
        await execute(store, ACCOUNT, "1", Deposit(account_id="1", cents=5), a_context())
        withdraw, command = Withdraw(account_id="1", cents=5), new_id()
        await execute(store, ACCOUNT, "1", withdraw, a_context(), command_id=command)
        with pytest.raises(AlreadyHandledError):
            await execute(store, ACCOUNT, "1", withdraw, a_context(), command_id=command)
        with pytest.raises(OverdrawnError):
            await execute(store, ACCOUNT, "1", withdraw, a_context(), command_id=new_id())

    async def test_what_is_said_to_be_new_is_not_looked_for_and_found_all_the_same(
        self, store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked, load = 0, store.load

        async def counted(stream: str) -> list[Envelope]:
            nonlocal looked
            looked += 1
            return await load(stream)

        monkeypatch.setattr(store, "load", counted)
        deposit, command = Deposit(account_id="1", cents=5), new_id()
        await execute(store, ACCOUNT, "1", deposit, a_context(), command_id=command, new=True)
        assert looked == 0

        again = await execute(store, ACCOUNT, "1", deposit, a_context(), new=True)
        assert (again.state, again.version) == (Account(10), 2)
        less = await execute(store, ACCOUNT, "1", Withdraw(account_id="1", cents=7), a_context(), new=True)
        assert (less.state, less.version) == (Account(3), 3)
        nothing = await execute(store, ACCOUNT, "1", Deposit(account_id="1", cents=0), a_context(), new=True)
        assert (nothing.state, nothing.version) == (Account(3), 3)
        with pytest.raises(OverdrawnError):
            await execute(store, ACCOUNT, "1", Withdraw(account_id="1", cents=4), a_context(), new=True)
        with pytest.raises(StreamNotFoundError):
            await execute(store, ACCOUNT, "1", deposit, a_context("other"), new=True)
        with pytest.raises(AlreadyHandledError):
            await execute(store, ACCOUNT, "1", deposit, a_context(), command_id=command, new=True)

    async def test_a_command_that_changes_nothing_records_nothing(self, store: EventStore) -> None:
        handled = await execute(store, ACCOUNT, "1", Deposit(account_id="1", cents=0), a_context(), command_id=new_id())
        assert (handled.state, handled.version, handled.recorded) == (Account(0), 0, [])

    async def test_personal_values_are_closed_and_everything_else_is_as_it_was(self, store: EventStore) -> None:
        (recorded,) = await store.append([Write("holder-ann", 0, [ANN])], a_context("acme"))

        event = store.codec.decode(recorded)
        assert isinstance(event, HolderNamed)
        assert (event.holder_id, event.branch) == ("ann", "North")
        for clear in (ANN.name, "Nan", "ann@acme.test"):
            assert clear.encode() not in recorded.data
        keys = await store.person_keys(["ann", "bob"])
        assert list(keys) == ["ann"]
        assert keys["ann"].tenant == "acme"
        opens = {"ann": keys["ann"].key}
        assert (opened(event.name, opens), opened(str(event.email), opens)) == (ANN.name, ANN.email)
        assert msgspec.json.decode(opened(recorded.data.decode(), opens, in_json=True))["name"] == ANN.name

    async def test_a_person_has_one_key_however_many_append_at_once(self, store: EventStore) -> None:
        both = [HolderNamed(holder_id="bob", name="Bob"), ANN]
        writes = [[Write(f"holder-{n}", 0, both[:: 1 if n % 2 else -1])] for n in range(8)]

        recorded = await asyncio.wait_for(asyncio.gather(*(store.append(w, a_context()) for w in writes)), 20)

        keys = {person: key for person, (_, key) in (await store.person_keys(["ann", "bob"])).items()}
        opens = [opened(e.data.decode(), keys, in_json=True) for batch in recorded for e in batch]
        assert all('"name":"Bob"' in text or '"name":"Ann \\"Nan\\"' in text for text in opens)

    async def test_a_failed_append_makes_no_key(self, store: EventStore) -> None:
        with pytest.raises(ConcurrencyError):
            await store.append([Write("holder-ann", 9, [ANN])], a_context())
        assert await store.person_keys(["ann"]) == {}

    async def test_an_erased_person_is_read_nowhere_and_the_chain_holds(self, store: EventStore) -> None:
        before = await store.append([Write("holder-ann", 0, [ANN])], a_context())
        await store.append([Write("holder-ann", 1, [HolderErased(holder_id="ann")])], a_context())

        assert await store.load("holder-ann", until_version=1) == before
        keys = {person: key for person, (_, key) in (await store.person_keys(["ann"])).items()}
        assert keys == {"ann": None}
        read = store.codec.decode_as(before[0].type, opened(before[0].data.decode(), keys, in_json=True).encode())
        assert read == HolderNamed(holder_id="ann", name=ERASED, email=ERASED, branch="North")
        (head,) = await store.heads()
        reached = GENESIS
        for envelope in await store.read(head.partition, 0, 10):
            reached = link(reached, envelope)
        assert head.hash == reached

    async def test_an_erasure_that_is_not_recorded_destroys_nothing(self, store: EventStore) -> None:
        await store.append([Write("holder-ann", 0, [ANN])], a_context())
        with pytest.raises(ConcurrencyError):
            await store.append([Write("holder-ann", 7, [HolderErased(holder_id="ann")])], a_context())
        assert (await store.person_keys(["ann"]))["ann"].key is not None

    async def test_nothing_personal_is_recorded_about_somebody_who_was_erased(self, store: EventStore) -> None:
        await store.append([Write("holder-ann", 0, [HolderErased(holder_id="ann")])], a_context())
        with pytest.raises(PersonErasedError):
            await store.append([Write("holder-ann", 1, [ANN])], a_context())
        await store.append([Write("holder-ann", 1, [HolderErased(holder_id="ann")])], a_context())
        assert len(await store.load("holder-ann")) == 2
