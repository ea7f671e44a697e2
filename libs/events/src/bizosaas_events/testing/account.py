"""An account: the small example domain of the suites, the benches and the README."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import assert_never

import msgspec

from ..bus.base import Answer
from ..codec import Codec
from ..decider import Decider
from ..envelope import Command, Context, Envelope, Event, Result, new_id
from ..errors import DomainError, Kind
from ..handling import execute
from ..store.base import EventStore


class AccountCommand(Command, frozen=True, kw_only=True):
    service = "account"


class Deposit(AccountCommand, frozen=True, kw_only=True, tag="account.deposit.v1"):
    account_id: str
    cents: int


class Withdraw(AccountCommand, frozen=True, kw_only=True, tag="account.withdraw.v1"):
    account_id: str
    cents: int


class Seize(AccountCommand, frozen=True, kw_only=True, tag="account.seize.v1"):
    """Take everything; not for everybody."""

    permission = "tenant_management"

    account_id: str


class Balance(Result, frozen=True, kw_only=True, tag="account.balance.v1"):
    cents: int


class Deposited(Event, frozen=True, kw_only=True, tag="account.account.deposited.v1"):
    cents: int


class Withdrawn(Event, frozen=True, kw_only=True, tag="account.account.withdrawn.v1"):
    cents: int


class HolderNamed(Event, frozen=True, kw_only=True, tag="account.holder.named.v1"):
    personal = ("name", "email")
    person = "holder_id"

    holder_id: str
    name: str
    email: str | None = None
    branch: str = ""


class HolderErased(Event, frozen=True, kw_only=True, tag="account.holder.erased.v1"):
    person = "holder_id"
    erases = True

    holder_id: str


class OverdrawnError(DomainError):
    """The account holds less than was asked for."""

    kind = Kind.CONFLICT
    slug = "overdrawn"


class Account(msgspec.Struct, frozen=True):
    cents: int = 0


AccountEvent = Deposited | Withdrawn


def decide(command: AccountCommand, account: Account) -> Sequence[AccountEvent]:
    match command:
        case Deposit(cents=0):
            return []
        case Deposit(cents=cents):
            return [Deposited(cents=cents)]
        case Withdraw(cents=cents) if cents > account.cents:
            raise OverdrawnError("There is not enough in the account.", field="cents", remedy="Withdraw less.")
        case Withdraw(cents=cents):
            return [Withdrawn(cents=cents)]
        case Seize():
            return [Withdrawn(cents=account.cents)]
    raise TypeError(f"{type(command).__name__} is not a command of an account")


def evolve(account: Account, event: AccountEvent) -> Account:
    match event:
        case Deposited():
            return Account(account.cents + event.cents)
        case Withdrawn():
            return Account(account.cents - event.cents)
        case _:
            assert_never(event)


async def deposit(command: Deposit, envelope: Envelope, *, store: EventStore) -> Answer:
    return await _handle(command, command.account_id, envelope, store)


async def withdraw(command: Withdraw, envelope: Envelope, *, store: EventStore) -> Answer:
    return await _handle(command, command.account_id, envelope, store)


async def seize(command: Seize, envelope: Envelope, *, store: EventStore) -> Answer:
    return await _handle(command, command.account_id, envelope, store)


async def _handle(command: AccountCommand, id: str, envelope: Envelope, store: EventStore) -> Answer:
    handled = await execute(store, ACCOUNT, id, command, envelope.context(), command_id=envelope.id)
    return Answer(handled.recorded[-1] if handled.recorded else None, Balance(cents=handled.state.cents))


def a_context(tenant: str = "acme", **changes: str) -> Context:
    """On behalf of a member of a tenant, for a reason of its own."""
    context = Context(
        tenant=tenant, actor="member:1", role="tenant_user", time=datetime.now(UTC), correlation_id=new_id(),
        causation_id=new_id(),
    )  # fmt: skip
    return msgspec.structs.replace(context, **changes)


CODEC = Codec([Deposit, Withdraw, Seize, Balance, Deposited, Withdrawn, HolderNamed, HolderErased])

ACCOUNT: Decider[AccountCommand, Account, AccountEvent] = Decider(
    category="account", initial=Account, decide=decide, evolve=evolve
)

HANDLERS = (deposit, withdraw, seize)
