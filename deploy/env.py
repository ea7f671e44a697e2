"""Writes `.env`, or the file named, from `.env.example` with fresh secrets: `python deploy/env.py`, or `make env`."""

import base64
import os
import secrets
import sys
from pathlib import Path

from nacl.public import PrivateKey

ROOT = Path(__file__).parents[1]
SEALING_KEY = "_SEALING_KEY"
PUBLIC_KEY = "_PUBLIC_KEY"
BYTES = ("_SIGNING_KEY", "_MASTER_KEY")


def filled(example: str) -> str:
    """The example with a value for every variable that is empty there; what has a value or is commented out stays.

    A name ending in _SEALING_KEY gets a private key, and the name that ends in _PUBLIC_KEY instead its public half;
    one ending in _SIGNING_KEY or _MASTER_KEY gets 32 bytes, which any such key is made of. Everything else
    gets 48 hexadecimal digits, which need no quoting in a URL or a shell.
    """
    lines = example.splitlines()
    empty = [line.removesuffix("=") for line in lines if line.endswith("=") and not line.startswith("#")]
    values: dict[str, str] = {}
    for name in empty:
        if name.endswith(SEALING_KEY):
            private = PrivateKey.generate()
            values[name] = _text(private.encode())
            values[name.removesuffix(SEALING_KEY) + PUBLIC_KEY] = _text(private.public_key.encode())
        elif name.endswith(BYTES):
            values[name] = _text(secrets.token_bytes(32))
    for name in empty:
        values.setdefault(name, secrets.token_hex(24))
    return "".join(line + values.get(line.removesuffix("="), "") + "\n" for line in lines)


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def main() -> int:
    """Write the file for this user's eyes only, and never over one that is there: its secrets may be in use."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".env"
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(
            ".env is there already and its secrets may be in use; remove it first if you want new ones", file=sys.stderr
        )
        return 1
    with os.fdopen(descriptor, "w") as file:
        file.write(filled((ROOT / ".env.example").read_text()))
    print(f"{target} written: look at ADMIN_EMAIL, ADMIN_PASSWORD and PUBLIC_URL in it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
