"""Signing what is kept elsewhere: Ed25519 (PyNaCl). Keys are 32 bytes, written in base64 in settings."""

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey as _SigningKey
from nacl.signing import VerifyKey

from .sealing import export_public, parse_public


class SigningKey:
    """A private key, kept as its seed, and what it signs."""

    def __init__(self, seed: bytes) -> None:
        self._key = _SigningKey(seed)

    def __repr__(self) -> str:
        return "SigningKey(…)"

    @classmethod
    def generate(cls) -> "SigningKey":
        return cls(bytes(_SigningKey.generate()))

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """Read a key from base64. Raises ValueError when it is not 32 bytes."""
        return cls(parse_public(text))

    @property
    def public(self) -> bytes:
        return bytes(self._key.verify_key)

    def export(self) -> str:
        """The seed in base64: for a settings file, never for a log."""
        return export_public(bytes(self._key))

    def sign(self, message: bytes) -> bytes:
        """The same 64 bytes for the same message every time."""
        return self._key.sign(message).signature


def signed_by(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of the private key signed exactly these bytes."""
    try:
        VerifyKey(public).verify(message, signature)
    except (CryptoError, ValueError, TypeError):
        return False
    return True
