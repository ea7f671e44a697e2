"""Given/when/then says what is expected, and when it fails, what came instead."""

import pytest

from bizosaas_events.errors import StreamNotFoundError
from bizosaas_events.testing import given
from bizosaas_events.testing.account import ACCOUNT, Account, Deposit, Deposited, OverdrawnError, Withdraw, Withdrawn

FIVE = Deposit(account_id="1", cents=5)


def test_a_deposit_is_recorded() -> None:
    assert given(ACCOUNT, Deposited(cents=1)).when(FIVE).then(Deposited(cents=5)) == Account(6)


def test_nothing_is_nothing() -> None:
    given(ACCOUNT).when(Deposit(account_id="1", cents=0)).then_nothing()


def test_an_overdrawn_account_refuses() -> None:
    refused = given(ACCOUNT).when(Withdraw(account_id="1", cents=1)).then_refused(OverdrawnError, slug="overdrawn")
    assert refused.field == "cents"


def test_another_event_is_named_field_by_field() -> None:
    with pytest.raises(pytest.fail.Exception, match="event 1: cents: expected 4, decided 5"):
        given(ACCOUNT).when(FIVE).then(Deposited(cents=4))
    with pytest.raises(
        pytest.fail.Exception, match=r"expected account.account.withdrawn.v1, decided account.account.dep"
    ):
        given(ACCOUNT).when(FIVE).then(Withdrawn(cents=5))


def test_a_missing_or_superfluous_event_is_seen() -> None:
    with pytest.raises(pytest.fail.Exception, match="expected 2 events, decided 1"):
        given(ACCOUNT).when(FIVE).then(Deposited(cents=5), Deposited(cents=5))
    with pytest.raises(pytest.fail.Exception, match="expected: nothing"):
        given(ACCOUNT).when(FIVE).then_nothing()


def test_an_unexpected_refusal_is_quoted() -> None:
    with pytest.raises(pytest.fail.Exception, match="but it was refused: OverdrawnError, slug='overdrawn'"):
        given(ACCOUNT).when(Withdraw(account_id="1", cents=1)).then(Withdrawn(cents=1))


def test_another_refusal_or_none_is_a_failure() -> None:
    withdraw = given(ACCOUNT).when(Withdraw(account_id="1", cents=1))
    with pytest.raises(pytest.fail.Exception, match="expected the refusal StreamNotFoundError"):
        withdraw.then_refused(StreamNotFoundError)
    with pytest.raises(pytest.fail.Exception, match="OverdrawnError, slug='too-little'"):
        withdraw.then_refused(OverdrawnError, slug="too-little")
    with pytest.raises(pytest.fail.Exception, match="decided:\n  Deposited"):
        given(ACCOUNT).when(FIVE).then_refused(OverdrawnError)
