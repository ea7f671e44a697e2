"""Ed25519 signatures."""

import pytest

from bizosaas_ports.sealing import export_public, parse_public
from bizosaas_ports.signing import SigningKey, signed_by

KEY = SigningKey(bytes(range(32)))


def test_what_was_signed_is_recognised_with_the_public_key_alone() -> None:
    public = parse_public(export_public(KEY.public))
    assert signed_by(public, b"heads", KEY.sign(b"heads"))


def test_another_message_another_key_or_a_damaged_signature_is_not() -> None:
    signature = KEY.sign(b"heads")
    assert not signed_by(KEY.public, b"heads!", signature)
    assert not signed_by(SigningKey.generate().public, b"heads", signature)
    assert not signed_by(KEY.public, b"heads", signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not signed_by(KEY.public, b"heads", b"")
    assert not signed_by(b"short", b"heads", signature)


def test_a_key_is_the_same_after_a_settings_file() -> None:
    again = SigningKey.parse(KEY.export())
    assert (again.public, again.sign(b"x")) == (KEY.public, KEY.sign(b"x"))


@pytest.mark.parametrize("text", ["", "not base64!", "c2hvcnQ="])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"base64|32 bytes"):
        SigningKey.parse(text)


def test_a_key_does_not_show_itself() -> None:
    assert KEY.export() not in f"{KEY!r} {KEY}"
