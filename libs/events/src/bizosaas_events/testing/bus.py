"""The suite that every command bus passes."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from ..bus.base import CommandBus, answer, bind
from ..envelope import Command, Context, Envelope, Reply, new_id
from ..errors import Kind, RefusedError, UnavailableError
from ..store.base import EventStore
from .account import ACCOUNT, HANDLERS, Balance, Deposit, Seize, Withdraw, a_context
from .waiting import until

TIMEOUT = 10.0


def account_answerer(store: EventStore) -> Callable[[Envelope, Command], Awaitable[Reply]]:
    """The service `account` as a bus needs it: only the role `super_admin` has its permissions."""
    table = bind(*HANDLERS, store=store)

    async def answerer(envelope: Envelope, command: Command) -> Reply:
        return await answer(
            envelope, command, table, category="account", handled=store.handled,
            allows=lambda role, permission: permission is None or role == "super_admin",
        )  # fmt: skip

    return answerer


class CommandBusSuite:
    """Subclass it and provide two fixtures.

    `store`: an empty event store; `bus`: a bus on which that store's service
    `account` answers, with every handler of `testing.account.HANDLERS`, and
    where only the role `super_admin` has the permission `tenant_management`.
    """

    async def test_a_call_returns_the_result(self, bus: CommandBus) -> None:
        balance = await bus.call(Deposit(account_id="1", cents=5), Balance, a_context(), id=new_id(), timeout=TIMEOUT)
        assert balance == Balance(cents=5)

    async def test_an_answer_says_what_was_recorded_and_where(self, bus: CommandBus, store: EventStore) -> None:
        command = new_id()
        reply = await bus.ask(Deposit(account_id="1", cents=5), a_context(), id=command, timeout=TIMEOUT)
        (recorded,) = await store.load("account-1")
        assert (reply.command_id, reply.subject, reply.version) == (command, "account-1", 1)
        assert reply.position == f"account/{recorded.partition}@{recorded.sequence}"
        assert reply.problem is None

    async def test_on_whose_behalf_travels_with_the_command(self, bus: CommandBus, store: EventStore) -> None:
        context, command = a_context("café", actor="agent:é", role="tenant_admin"), new_id()
        await bus.ask(Deposit(account_id="1", cents=5), context, id=command, timeout=TIMEOUT)
        (recorded,) = await store.load("account-1")
        assert recorded.context() == msgspec.structs.replace(
            context, causation_id=recorded.id, traceparent=recorded.traceparent
        )
        assert recorded.causationid == command

    async def test_a_refusal_is_raised_as_the_service_told_it(self, bus: CommandBus) -> None:
        with pytest.raises(RefusedError) as refused:
            await bus.call(Withdraw(account_id="1", cents=5), Balance, a_context(), id=new_id(), timeout=TIMEOUT)
        problem = refused.value.problem
        assert (problem.kind, problem.slug, problem.field) == (Kind.CONFLICT, "overdrawn", "cents")
        assert (refused.value.remedy, str(refused.value)) == ("Withdraw less.", problem.detail)

    async def test_who_lacks_the_permission_is_refused(self, bus: CommandBus, store: EventStore) -> None:
        await bus.ask(Deposit(account_id="1", cents=5), a_context(), id=new_id(), timeout=TIMEOUT)
        reply = await bus.ask(Seize(account_id="1"), a_context(role="tenant_user"), id=new_id(), timeout=TIMEOUT)
        assert reply.problem is not None
        assert (reply.problem.kind, reply.problem.slug) == (Kind.FORBIDDEN, "permission-missing")
        assert len(await store.load("account-1")) == 1
        await bus.call(Seize(account_id="1"), Balance, a_context(role="super_admin"), id=new_id(), timeout=TIMEOUT)

    async def test_a_command_sent_again_has_its_effect_once(self, bus: CommandBus, store: EventStore) -> None:
        command, deposit = new_id(), Deposit(account_id="1", cents=5)
        first = await bus.ask(deposit, a_context(), id=command, timeout=TIMEOUT)
        again = await bus.ask(deposit, a_context(), id=command, timeout=TIMEOUT)
        assert (again.version, again.position) == (first.version, first.position)
        assert len(await store.load("account-1")) == 1
        with pytest.raises(UnavailableError, match="handled before"):
            await bus.call(deposit, Balance, a_context(), id=command, timeout=TIMEOUT)

    async def test_a_refused_command_sent_again_is_refused_again(self, bus: CommandBus) -> None:
        command, withdraw = new_id(), Withdraw(account_id="1", cents=5)
        first = await bus.ask(withdraw, a_context(), id=command, timeout=TIMEOUT)
        again = await bus.ask(withdraw, a_context(), id=command, timeout=TIMEOUT)
        assert first.problem == again.problem
        assert first.problem is not None

    async def test_everybody_gets_their_own_answer(self, bus: CommandBus) -> None:
        async def ask(n: int) -> Balance:
            deposit = Deposit(account_id=str(n), cents=n)
            return await bus.call(deposit, Balance, a_context(), id=new_id(), timeout=TIMEOUT)

        assert await asyncio.gather(*map(ask, range(1, 101))) == [Balance(cents=n) for n in range(1, 101)]

    async def test_a_command_that_nobody_waits_for_is_handled_too(self, bus: CommandBus, store: EventStore) -> None:
        assert await bus.send(Deposit(account_id="1", cents=5), a_context(), id=new_id())

        async def handled() -> bool:
            return len(await store.load(ACCOUNT.stream("1"))) == 1

        await until(handled)

    async def test_commands_of_one_caller_that_wait_for_each_other_are_handled_in_order(self, bus: CommandBus) -> None:
        context: Context = a_context()
        for cents in (1, 2, 3):
            deposit = Deposit(account_id="1", cents=cents)
            balance = await bus.call(deposit, Balance, context, id=new_id(), timeout=TIMEOUT)
        assert balance == Balance(cents=6)
