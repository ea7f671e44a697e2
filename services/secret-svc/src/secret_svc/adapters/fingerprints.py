"""Fingerprints: a keyed hash, so that whoever reads events cannot try out passwords against them."""

import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE = b"bizosaas secret-svc fingerprint v1"


class Fingerprints:
    """See `Fingerprint`: the beginning of HMAC-SHA256 under a key derived from one that never leaves this service."""

    def __init__(self, master: bytes) -> None:
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(master)

    def __call__(self, value: bytes) -> str:
        return hmac.digest(self._key, value, "sha256").hex()[:12]
