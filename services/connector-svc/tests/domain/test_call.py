"""What is decided about calls."""

import msgspec
import pytest

from bizosaas_events.messages.connector import CallFailed, CallStarted, CallSucceeded, CallUncertain
from bizosaas_events.testing import given
from connector_svc.domain.call import CALL, Begin, Settle
from connector_svc.domain.errors import CallUncertainError, IdempotencyKeyReusedError

BEGIN = Begin(
    call_id="k", connection_id="c", connector="paper", operation="cms.create_draft", effect="write",
    idempotency_key="key", arguments_digest="d", fingerprint="f",
)  # fmt: skip
STARTED = CallStarted(
    call_id="k", connection_id="c", connector="paper", operation="cms.create_draft", effect="write",
    idempotency_key="key", arguments_digest="d", fingerprint="f",
)  # fmt: skip
SUCCEEDED = CallSucceeded(
    call_id="k", connection_id="c", operation="cms.create_draft", resource_type="post", count=1, status=201,
    duration_ms=5, bytes=10, digest="e",
)  # fmt: skip
FAILED = CallFailed(
    call_id="k", connection_id="c", operation="cms.create_draft", reason="provider-down", detail="Down."
)
UNCERTAIN = CallUncertain(call_id="k", connection_id="c", operation="cms.create_draft", detail="Who knows.")


def test_a_call_is_written_down_before_it_is_made() -> None:
    given(CALL).when(BEGIN).then(STARTED)


def test_a_call_that_was_begun_is_not_begun_again() -> None:
    given(CALL, STARTED).when(BEGIN).then()
    given(CALL, STARTED, SUCCEEDED).when(BEGIN).then()


def test_a_call_that_failed_may_be_tried_again() -> None:
    given(CALL, STARTED, FAILED).when(BEGIN).then(STARTED)


def test_an_uncertain_call_is_never_tried_again() -> None:
    given(CALL, STARTED, UNCERTAIN).when(BEGIN).then_refused(CallUncertainError, slug="call-uncertain")


@pytest.mark.parametrize("change", [{"arguments_digest": "other"}, {"operation": "cms.publish"}])
@pytest.mark.parametrize("past", [(STARTED,), (STARTED, SUCCEEDED), (STARTED, FAILED), (STARTED, UNCERTAIN)])
def test_a_key_belongs_to_one_call(change: dict[str, str], past: tuple[CallStarted, ...]) -> None:
    other = msgspec.structs.replace(BEGIN, **change)
    given(CALL, *past).when(other).then_refused(IdempotencyKeyReusedError, slug="idempotency-key-reused")


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, UNCERTAIN])
def test_an_open_call_ends_once(outcome: CallSucceeded | CallFailed | CallUncertain) -> None:
    given(CALL, STARTED).when(Settle(outcome=outcome)).then(outcome)
    given(CALL, STARTED, outcome).when(Settle(outcome=SUCCEEDED)).then()
    given(CALL).when(Settle(outcome=outcome)).then()
