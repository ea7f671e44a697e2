"""What an approval decides."""

from datetime import UTC, datetime, timedelta

import pytest

from bizosaas_events import StreamNotFoundError, fold
from bizosaas_events.messages.workflow import (
    ApprovalDecided,
    ApprovalEvent,
    ApprovalExpired,
    ApprovalRequested,
    ExpireApproval,
)
from workflow_svc.domain.approval import APPROVAL, ApprovalCommand, Decide, digest_of
from workflow_svc.domain.errors import (
    AlreadyDecidedError,
    ApprovalExpiredError,
    ApprovalIdTakenError,
    ArgumentsChangedError,
)
from workflow_svc.testing import ARGUMENTS, DIGEST, SOON, a_request, a_verdict

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
REQUEST = a_request()
REQUESTED = ApprovalRequested(
    approval_id="a1", workflow_id="w1", operation="cms.publish", connection_id="blog", arguments=ARGUMENTS,
    arguments_digest=DIGEST, requested_by="member:tom", deadline=SOON,
)  # fmt: skip
APPROVE = Decide(request=a_verdict(), by="member:ann", at=NOON)
APPROVED = ApprovalDecided(
    approval_id="a1", workflow_id="w1", operation="cms.publish", verdict="approved", arguments_digest=DIGEST,
    decided_by="member:ann", decided_at=NOON,
)  # fmt: skip
EXPIRE = ExpireApproval(approval_id="a1")
EXPIRED = ApprovalExpired(approval_id="a1", workflow_id="w1", operation="cms.publish")


def after(*given: ApprovalEvent, when: ApprovalCommand) -> list[ApprovalEvent]:
    return list(APPROVAL.decide(when, fold(APPROVAL, given)))


def test_an_approval_is_requested_with_the_digest_of_its_exact_arguments() -> None:
    assert after(when=REQUEST) == [REQUESTED]


def test_the_same_request_again_asks_nobody_twice() -> None:
    assert after(REQUESTED, when=REQUEST) == []
    assert after(REQUESTED, APPROVED, when=REQUEST) == []


def test_another_request_under_the_same_id_is_refused() -> None:
    with pytest.raises(ApprovalIdTakenError):
        after(REQUESTED, when=a_request(arguments={"id": "18"}))


def test_a_person_decides() -> None:
    assert after(REQUESTED, when=APPROVE) == [APPROVED]


def test_a_second_decision_is_refused_and_says_whose_the_first_was_and_when() -> None:
    for verdict in ("approved", "rejected"):
        again = Decide(request=a_verdict(verdict), by="member:bob", at=NOON + timedelta(hours=1))
        with pytest.raises(AlreadyDecidedError) as refused:
            after(REQUESTED, APPROVED, when=again)
        assert (refused.value.slug, refused.value.kind) == ("already-decided", "conflict")
        assert "approved by member:ann at 2026-11-24 12:00:00 UTC" in str(refused.value)


def test_a_decision_on_other_arguments_than_those_shown_is_refused() -> None:
    with pytest.raises(ArgumentsChangedError) as refused:
        after(REQUESTED, when=Decide(request=a_verdict(digest=digest_of({"id": "18"})), by="member:ann", at=NOON))
    assert (refused.value.slug, refused.value.field) == ("arguments-changed", "arguments_digest")


@pytest.mark.parametrize("given", [(REQUESTED,), (REQUESTED, EXPIRED)])
def test_a_decision_after_the_deadline_is_refused_whether_or_not_its_end_was_recorded(
    given: tuple[ApprovalEvent, ...],
) -> None:
    with pytest.raises(ApprovalExpiredError):
        after(*given, when=Decide(request=a_verdict(), by="member:ann", at=SOON))


def test_an_approval_that_nobody_asked_for_cannot_be_decided_or_expire() -> None:
    for command in (APPROVE, EXPIRE):
        with pytest.raises(StreamNotFoundError):
            after(when=command)


def test_an_undecided_approval_expires_once() -> None:
    assert after(REQUESTED, when=EXPIRE) == [EXPIRED]
    assert after(REQUESTED, EXPIRED, when=EXPIRE) == []


def test_a_verdict_that_was_faster_than_the_deadline_stands() -> None:
    assert after(REQUESTED, APPROVED, when=EXPIRE) == []


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"b": {"y": 1, "x": 2}, "a": "ü"}) == digest_of({"a": "ü", "b": {"x": 2, "y": 1}})
    # The value of `printf '{"a":1,"b":{"x":"ü"}}' | sha256sum`: whoever else computes it must agree.
    assert digest_of({"b": {"x": "ü"}, "a": 1}) == "61f5e125a8092b183d3cddcb86d884923978ac4368a812ae604dd798a318ae4d"
