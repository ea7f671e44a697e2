"""AES-256-GCM with the master key, each value bound to its place: moved elsewhere it cannot be read."""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12


class CipherError(ValueError):
    """Another key than the one it was encrypted with, or it was changed or moved."""


class Cipher:
    """Encrypts under one key; a random nonce each time is safe for some four billion values."""

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)

    def encrypt(self, value: bytes, place: str) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._aes.encrypt(nonce, value, place.encode())

    def decrypt(self, encrypted: bytes, place: str) -> bytes:
        """What was encrypted for this place. Raises CipherError."""
        try:
            return self._aes.decrypt(encrypted[:NONCE], encrypted[NONCE:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise CipherError("it was encrypted with another key, changed or moved") from error


def parse_key(text: str) -> bytes:
    """A 32-byte key from base64 or 64 hexadecimal digits. Raises ValueError, without the text."""
    try:
        key = bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError("the key is neither base64 nor hexadecimal") from error
    if len(key) != 32:
        raise ValueError(f"the key has {len(key)} bytes instead of 32")
    return key
