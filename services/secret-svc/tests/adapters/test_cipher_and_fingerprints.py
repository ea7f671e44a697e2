"""The cipher binds a value to its place; the fingerprint tells values apart and gives none away."""

import base64
import hashlib

import pytest

from secret_svc.adapters.cipher import Cipher, CipherError, parse_key
from secret_svc.adapters.fingerprints import Fingerprints


def test_a_value_is_read_in_its_place_only() -> None:
    cipher = Cipher(b"k" * 32)
    encrypted = cipher.encrypt(b"value", "acme/crm@1")
    assert cipher.decrypt(encrypted, "acme/crm@1") == b"value"
    with pytest.raises(CipherError):
        cipher.decrypt(encrypted, "acme/crm@2")
    with pytest.raises(CipherError):
        Cipher(b"x" * 32).decrypt(encrypted, "acme/crm@1")


@pytest.mark.parametrize("position", [0, 11, 12, -1])
def test_one_changed_byte_is_noticed(position: int) -> None:
    cipher = Cipher(b"k" * 32)
    encrypted = bytearray(cipher.encrypt(b"value", "here"))
    encrypted[position] ^= 1
    with pytest.raises(CipherError):
        cipher.decrypt(bytes(encrypted), "here")


def test_too_little_is_noticed() -> None:
    with pytest.raises(CipherError):
        Cipher(b"k" * 32).decrypt(b"short", "here")


def test_a_key_is_read_from_base64_or_hexadecimal() -> None:
    key = bytes(range(32))
    assert parse_key(base64.b64encode(key).decode()) == parse_key(key.hex()) == key


@pytest.mark.parametrize("text", ["", "short", "c2hvcnQ=", "z" * 64, "ü" * 44])
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="the key") as refused:
        parse_key(text)
    assert not text or text not in str(refused.value)


def test_a_fingerprint_is_the_same_for_the_same_value_and_key_only() -> None:
    ours = Fingerprints(b"k" * 32)
    assert ours(b"value") == ours(b"value")
    assert len(ours(b"value")) == 12
    assert ours(b"value") != ours(b"other value")
    assert ours(b"value") != Fingerprints(b"x" * 32)(b"value")
    assert ours(b"value") != hashlib.sha256(b"value").hexdigest()[:12]
