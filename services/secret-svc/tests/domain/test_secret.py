"""What is decided about secrets."""

from datetime import UTC, datetime

import pytest

from bizosaas_events import DomainError, StreamNotFoundError
from bizosaas_events.messages.secret import (
    ConfirmSecret,
    RevokeSecret,
    SecretConfirmed,
    SecretLeased,
    SecretRevoked,
    SecretStored,
)
from bizosaas_events.testing import given
from secret_svc.domain import errors
from secret_svc.domain.errors import (
    SecretIdInvalidError,
    SecretIdReservedError,
    SecretRevokedError,
    VersionNotReadableError,
    VersionTakenError,
)
from secret_svc.domain.secret import SECRET, Lend, NoteStored, path_of

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def stored(version: int) -> SecretStored:
    return SecretStored(secret_id="crm", kind="password", version=version, fingerprint=f"f{version}", purpose="CRM")


def note(version: int) -> NoteStored:
    return NoteStored(secret_id="crm", kind="password", version=version, fingerprint=f"f{version}", purpose="CRM")


def lend(version: int) -> Lend:
    return Lend(secret_id="crm", lease_id="l", version=version, purpose="a call", expires_at=LATER)


def leased(version: int) -> SecretLeased:
    return SecretLeased(
        secret_id="crm", lease_id="l", version=version, fingerprint=f"f{version}", purpose="a call", expires_at=LATER
    )


def confirm(version: int) -> ConfirmSecret:
    return ConfirmSecret(secret_id="crm", version=version)


def confirmed(version: int) -> SecretConfirmed:
    return SecretConfirmed(secret_id="crm", version=version)


REVOKE, REVOKED = RevokeSecret(secret_id="crm", reason="leaked"), SecretRevoked(secret_id="crm", reason="leaked")


def test_a_secret_is_stored_with_its_fingerprint() -> None:
    given(SECRET).when(note(1)).then(stored(1))


def test_a_new_version_is_stored_beside_the_older_one() -> None:
    given(SECRET, stored(1)).when(note(2)).then(stored(2))


def test_a_version_number_that_a_broken_off_command_used_up_may_be_skipped() -> None:
    given(SECRET, stored(1)).when(note(3)).then(stored(3))


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_number_is_given_once(version: int) -> None:
    given(SECRET, stored(1), stored(2)).when(note(version)).then_refused(VersionTakenError, slug="version-taken")


def test_an_older_version_is_lent_until_a_newer_one_is_confirmed() -> None:
    given(SECRET, stored(1), stored(2)).when(lend(1)).then(leased(1))
    given(SECRET, stored(1), stored(2), confirmed(2)).when(lend(1)).then_refused(
        VersionNotReadableError, slug="version-not-readable"
    )
    given(SECRET, stored(1), stored(2), confirmed(2)).when(lend(2)).then(leased(2))


def test_a_version_that_never_was_is_not_lent() -> None:
    given(SECRET, stored(1)).when(lend(2)).then_refused(VersionNotReadableError, slug="version-not-readable")


def test_an_older_version_may_be_confirmed_and_the_newer_one_stays() -> None:
    given(SECRET, stored(1), stored(2), stored(3)).when(confirm(2)).then(confirmed(2))
    given(SECRET, stored(1), stored(2), stored(3), confirmed(2)).when(lend(3)).then(leased(3))


def test_a_version_is_confirmed_once() -> None:
    given(SECRET, stored(1), confirmed(1)).when(confirm(1)).then()


def test_a_destroyed_version_is_not_confirmed() -> None:
    given(SECRET, stored(1), stored(2), confirmed(2)).when(confirm(1)).then_refused(
        VersionNotReadableError, slug="version-not-readable"
    )


def test_a_secret_is_revoked_once() -> None:
    given(SECRET, stored(1)).when(REVOKE).then(REVOKED)
    given(SECRET, stored(1), REVOKED).when(REVOKE).then()


def test_a_revoked_secret_takes_no_new_version_and_is_neither_lent_nor_confirmed() -> None:
    for command in (note(2), lend(1), confirm(1)):
        given(SECRET, stored(1), REVOKED).when(command).then_refused(SecretRevokedError, slug="secret-revoked")


def test_what_was_never_stored_is_not_found() -> None:
    for command in (lend(1), confirm(1), REVOKE):
        given(SECRET).when(command).then_refused(StreamNotFoundError, slug="not-found")


@pytest.mark.parametrize("secret_id", ["", "../acme/crm", "a/b", "a b", ".hidden", "a" * 129, "ä", "a\n"])
def test_an_id_that_would_lead_elsewhere_in_the_store_is_refused(secret_id: str) -> None:
    with pytest.raises(SecretIdInvalidError):
        path_of("acme", secret_id)
    with pytest.raises(SecretIdInvalidError):
        path_of(secret_id, "crm")


def test_the_platforms_own_secrets_are_the_platforms() -> None:
    assert path_of("platform", "oauth-google") == "platform/oauth-google"
    with pytest.raises(SecretIdReservedError):
        path_of("acme", "oauth-google")


def test_every_refusal_has_a_slug_of_its_own() -> None:
    found = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, DomainError)]
    found = [e for e in found if e.__module__ == errors.__name__]
    assert len({e.slug for e in found}) == len(found) == 10
