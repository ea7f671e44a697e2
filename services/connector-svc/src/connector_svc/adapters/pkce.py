"""PKCE (RFC 7636) with verifiers that need not be stored: each follows from its state under a key of ours."""

import base64
import hashlib
import hmac

from bizosaas_ports.sealing import SealingKey

from ..domain.ports import Verifier


def verifier_of(key: SealingKey) -> Verifier:
    """PKCE verifiers that need not be stored: an HMAC of the state under a key derived from the service's own."""
    state_key = hmac.digest(base64.b64decode(key.export()), b"connector-svc oauth state 1", "sha256")
    return lambda state: _base64url(hmac.digest(state_key, state.encode(), "sha256"))


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier."""
    return _base64url(hashlib.sha256(verifier.encode()).digest())


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
