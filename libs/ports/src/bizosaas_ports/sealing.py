"""Sealing credentials to one recipient: X25519 sealed boxes (libsodium `crypto_box_seal`, PyNaCl).

Who seals keeps nothing that could open the box again; only the holder of the
private key can. Keys are 32 bytes, written in base64 in settings.
"""

import base64
import binascii
import re

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

_SEALED_TEXT = re.compile(r"sealed\(v1:([\w-]+=*)\)", re.ASCII)


class SealError(ValueError):
    """The box was not sealed to this key, or is damaged; or nothing can be sealed to this key."""


class SealingKey:
    """A private key and what it opens."""

    def __init__(self, private: bytes) -> None:
        self._key = PrivateKey(private)

    def __repr__(self) -> str:
        return "SealingKey(…)"

    @classmethod
    def generate(cls) -> "SealingKey":
        return cls(bytes(PrivateKey.generate()))

    @classmethod
    def parse(cls, text: str) -> "SealingKey":
        """Read a key from base64. Raises ValueError when it is not 32 bytes."""
        return cls(_key_bytes(text))

    @property
    def public(self) -> bytes:
        return bytes(self._key.public_key)

    def export(self) -> str:
        """The private key in base64: for a settings file, never for a log."""
        return base64.b64encode(bytes(self._key)).decode()

    def open(self, sealed: bytes) -> bytes:
        """What was sealed to this key. Raises SealError."""
        try:
            return SealedBox(self._key).decrypt(sealed)
        except (CryptoError, ValueError, TypeError) as error:
            raise SealError("this box was not sealed to this key, or is damaged") from error

    def open_text(self, text: str) -> str:
        """What was sealed by `seal_text`; other text as it is. Raises SealError."""
        found = _SEALED_TEXT.fullmatch(text)
        if not found:
            return text
        try:
            return self.open(base64.urlsafe_b64decode(found[1])).decode()
        except ValueError as error:
            raise SealError("this text was not sealed to this key, or is damaged") from error


def seal(public: bytes, value: bytes) -> bytes:
    """Seal a value so that only the holder of the private key can read it; another box every time.

    Raises SealError when `public` is not a key that anything can be sealed to.
    """
    try:
        return SealedBox(PublicKey(public)).encrypt(value)
    except (CryptoError, TypeError) as error:
        raise SealError("this is not an X25519 public key") from error


def seal_text(public: bytes, text: str) -> str:
    """Seal a text for a message whose field is text. Raises SealError as `seal`."""
    return f"sealed(v1:{base64.urlsafe_b64encode(seal(public, text.encode())).decode()})"


def parse_public(text: str) -> bytes:
    """Read a public key from base64. Raises ValueError when it is not 32 bytes."""
    return _key_bytes(text)


def export_public(public: bytes) -> str:
    return base64.b64encode(public).decode()


def _key_bytes(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if len(value) != 32:
        raise ValueError(f"a key is 32 bytes, this has {len(value)}")
    return value
