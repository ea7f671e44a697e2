"""What is decided about connections."""

from datetime import UTC, datetime

import pytest

from bizosaas_events import DomainError, StreamNotFoundError, fold
from bizosaas_events.messages.connector import (
    AuthorizationStarted,
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionEvent,
    ConnectionInterrupted,
    ConnectionRecovered,
    ConnectionRefused,
    ConnectionRenamed,
    ConnectionRequested,
    CredentialRefreshed,
    CredentialRefreshStarted,
    Disconnect,
    RenameConnection,
    Trouble,
)
from bizosaas_events.testing import given
from connector_svc.domain.connection import (
    CONNECTION,
    BeginRefresh,
    Establish,
    FinishRefresh,
    Interrupt,
    Recover,
    Refuse,
    Request,
    SendToVendor,
    State,
)
from connector_svc.domain.errors import (
    ConnectionClosedError,
    ConnectorMismatchError,
    LabelInvalidError,
    StaleVersionError,
)

SOON = datetime(2026, 11, 24, tzinfo=UTC)
REQUESTED = ConnectionRequested(
    connection_id="c", connector="paper", label="Ours", settings={"site": "s"}, method="credentials"
)
CLOSED = ConnectionClosed(connection_id="c")
RECOVERED = ConnectionRecovered(connection_id="c")
REFUSED = ConnectionRefused(connection_id="c", reason="revoked", detail="No.")
REFRESHING = CredentialRefreshStarted(connection_id="c", secret_version=1)
REFRESHED = CredentialRefreshed(connection_id="c", secret_version=2, fingerprint="f2")


def state_after(*events: ConnectionEvent) -> State:
    return fold(CONNECTION, events)


def request(label: str = "Ours", connector: str = "paper") -> Request:
    return Request(connection_id="c", connector=connector, label=label, settings={"site": "s"}, method="credentials")


def established(secret_id: str = "s1") -> ConnectionEstablished:
    return ConnectionEstablished(
        connection_id="c", secret_id=secret_id, secret_version=1, fingerprint="f1", account="ann", operations=["x.y"]
    )


def establish() -> Establish:
    return Establish(
        connection_id="c", secret_id="s1", secret_version=1, fingerprint="f1", account="ann", operations=["x.y"]
    )


def interrupt(reason: Trouble = "provider-down", version: int = 1) -> Interrupt:
    return Interrupt(
        connection_id="c", secret_id="s1", secret_version=version, reason=reason, reconnect=reason == "revoked",
        detail="Why.",
    )  # fmt: skip


def interrupted(reason: Trouble = "provider-down") -> ConnectionInterrupted:
    return ConnectionInterrupted(connection_id="c", reason=reason, reconnect=reason == "revoked", detail="Why.")


def test_a_connection_is_requested() -> None:
    given(CONNECTION).when(request()).then(REQUESTED)


def test_the_same_request_again_changes_nothing() -> None:
    given(CONNECTION, REQUESTED).when(request()).then()
    given(CONNECTION, REQUESTED, established()).when(request()).then()


@pytest.mark.parametrize("label", ["", "   ", "x" * 101])
def test_a_label_that_nobody_can_read_is_refused(label: str) -> None:
    given(CONNECTION).when(request(label)).then_refused(LabelInvalidError, slug="label-invalid")
    rename = RenameConnection(connection_id="c", label=label)
    given(CONNECTION, REQUESTED).when(rename).then_refused(LabelInvalidError, slug="label-invalid")


def test_a_connection_keeps_its_connector() -> None:
    other = request(connector="tower")
    given(CONNECTION, REQUESTED).when(other).then_refused(ConnectorMismatchError, slug="connector-mismatch")


def test_a_person_is_sent_to_the_vendor() -> None:
    send = SendToVendor(connection_id="c", scopes=["a"], expires_at=SOON)
    started = AuthorizationStarted(connection_id="c", scopes=["a"], expires_at=SOON)
    given(CONNECTION, REQUESTED).when(send).then(started)


def test_a_connection_that_works_is_established() -> None:
    given(CONNECTION, REQUESTED).when(establish()).then(established())


def test_a_connection_that_does_not_work_is_refused() -> None:
    given(CONNECTION, REQUESTED).when(Refuse(connection_id="c", reason="revoked", detail="No.")).then(REFUSED)


def test_a_refused_reconnect_keeps_the_credential_that_may_still_work() -> None:
    state = state_after(REQUESTED, established(), REFUSED)
    assert (state.status, state.secret_id) == ("refused", "s1")
    given(CONNECTION, REQUESTED, established(), REFUSED).when(Recover(connection_id="c")).then(RECOVERED)


def test_a_reconnect_supersedes_the_secret_before() -> None:
    assert state_after(REQUESTED, established("s1"), established("s2")).superseded == ("s1",)
    assert state_after(REQUESTED, established("s1"), established("s1")).superseded == ()


def test_a_connection_is_renamed_once() -> None:
    rename = RenameConnection(connection_id="c", label="Theirs", expected_version=1)
    given(CONNECTION, REQUESTED).when(rename).then(ConnectionRenamed(connection_id="c", label="Theirs"))
    same = RenameConnection(connection_id="c", label="Ours")
    given(CONNECTION, REQUESTED).when(same).then()


@pytest.mark.parametrize("command", [RenameConnection, Disconnect])
def test_a_change_of_what_is_different_by_now_is_refused(command: type[RenameConnection | Disconnect]) -> None:
    label = {"label": "Theirs"} if command is RenameConnection else {}
    asked = command(connection_id="c", expected_version=1, **label)
    given(CONNECTION, REQUESTED, established()).when(asked).then_refused(StaleVersionError, slug="stale-version")


def test_a_refresh_is_written_down_once_before_the_vendor_is_asked() -> None:
    begin = BeginRefresh(connection_id="c", secret_version=1)
    given(CONNECTION, REQUESTED, established()).when(begin).then(REFRESHING)
    given(CONNECTION, REQUESTED, established(), REFRESHING).when(begin).then()
    given(CONNECTION, REQUESTED, established(), REFRESHING, REFRESHED).when(begin).then()


def test_a_refresh_moves_versions_forward_only() -> None:
    finish = FinishRefresh(connection_id="c", secret_id="s1", secret_version=2, fingerprint="f2")
    given(CONNECTION, REQUESTED, established(), REFRESHING).when(finish).then(REFRESHED)
    given(CONNECTION, REQUESTED, established(), REFRESHING, REFRESHED).when(finish).then()
    given(CONNECTION, REQUESTED, established("another")).when(finish).then()


def test_trouble_is_told_once() -> None:
    given(CONNECTION, REQUESTED, established()).when(interrupt()).then(interrupted())
    given(CONNECTION, REQUESTED, established(), interrupted()).when(interrupt()).then()


def test_a_revoked_credential_is_worse_than_an_outage_and_never_hidden_by_one() -> None:
    down, revoked = interrupted(), interrupted("revoked")
    given(CONNECTION, REQUESTED, established(), down).when(interrupt("revoked")).then(revoked)
    given(CONNECTION, REQUESTED, established(), revoked).when(interrupt("provider-down")).then()


def test_trouble_with_a_credential_that_was_replaced_is_no_news() -> None:
    given(CONNECTION, REQUESTED, established(), REFRESHING, REFRESHED).when(interrupt("revoked", 1)).then()


def test_a_call_that_works_ends_the_trouble() -> None:
    recover = Recover(connection_id="c")
    given(CONNECTION, REQUESTED, established(), interrupted()).when(recover).then(RECOVERED)
    given(CONNECTION, REQUESTED, established()).when(recover).then()
    given(CONNECTION, REQUESTED).when(recover).then()


def test_a_connection_is_closed_once() -> None:
    given(CONNECTION, REQUESTED).when(Disconnect(connection_id="c")).then(CLOSED)
    given(CONNECTION, REQUESTED, CLOSED).when(Disconnect(connection_id="c")).then()


@pytest.mark.parametrize(
    "command",
    [
        request(),
        establish(),
        BeginRefresh(connection_id="c", secret_version=1),
        RenameConnection(connection_id="c", label="x"),
        SendToVendor(connection_id="c", scopes=[], expires_at=SOON),
    ],
)
def test_a_closed_connection_begins_nothing(command: Request) -> None:
    given(CONNECTION, REQUESTED, CLOSED).when(command).then_refused(ConnectionClosedError, slug="connection-closed")


@pytest.mark.parametrize(
    "command",
    [
        interrupt(),
        Recover(connection_id="c"),
        Refuse(connection_id="c", reason="r", detail="d"),
        FinishRefresh(connection_id="c", secret_id="s1", secret_version=2, fingerprint="f"),
    ],
)
def test_what_was_under_way_when_it_was_closed_comes_to_nothing(command: Recover) -> None:
    given(CONNECTION, REQUESTED, established(), CLOSED).when(command).then()


def test_a_connection_that_was_never_requested_is_not_found() -> None:
    given(CONNECTION).when(Recover(connection_id="c")).then_refused(StreamNotFoundError, slug="not-found")


def test_every_refusal_is_a_domain_error_with_a_slug_of_its_own() -> None:
    from connector_svc.domain import errors

    found = [
        e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, DomainError) and e is not DomainError
    ]
    assert len({e.slug for e in found}) == len(found) >= 25


EVENTS: list[ConnectionEvent] = [REQUESTED, established(), REFRESHING, REFRESHED, interrupted(), RECOVERED, CLOSED]


def test_the_state_counts_its_versions() -> None:
    assert [fold(CONNECTION, EVENTS[:n]).version for n in range(8)] == list(range(8))
