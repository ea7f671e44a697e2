"""Personal data in a log that never forgets: each person's is encrypted under a key of their own, and erased with it.

An event class says which of its fields are a person's (`Event.personal`) and
which field has the person's id (`Event.person`). A store closes those fields
as it appends (AES-256-GCM), so what is hashed, relayed, journalled and
exported is the closed value: a string as the clear one is, which everybody
decodes without a key. The key is made with the first event about the person
and destroyed in the transaction of an event that erases them; the chain still
holds, because it covers what is closed.

    closed(v1:<person>:<base64url of: id of the event, nonce, ciphertext and tag>)

The id of the event is authenticated with the value, and the value is filled
up, so that its length says little about it. Needs `cryptography`: the
extra `personal`.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from .envelope import Event
from .errors import DomainError, Kind

ERASED = "(erased)"
"""What a closed value of an erased person is read as."""

PERSON = re.compile(r"[\w.~@-]{1,200}", re.ASCII)
"""What a person's id may look like."""

CLOSED = re.compile(rf"closed\(v1:({PERSON.pattern}):([\w-]+=*)\)", re.ASCII)

_KEY_BYTES = 32
_FILLED_TO = 32
_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 16, 12, 16


class PersonKey(NamedTuple):
    """A person's key and the tenant their data is of; None: the person was erased."""

    tenant: str
    key: bytes | None


class PersonErasedError(DomainError):
    """Nothing personal is recorded about somebody who was erased."""

    kind = Kind.CONFLICT
    slug = "person-erased"

    def __init__(self, person: str) -> None:
        super().__init__(f"{person} was erased.", remedy="Use a new id: an erased one is never used again.")
        self.person = person


class WrongMasterKeyError(ValueError):
    """A person's key was wrapped with another master key, or was changed."""


class MasterKey:
    """Wraps the persons' keys, so that they stand in the database in no form that opens anything."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a master key is {_KEY_BYTES} bytes, this has {len(key)}")
        self._key = key

    def __repr__(self) -> str:
        return "MasterKey(…)"

    @classmethod
    def parse(cls, text: str) -> "MasterKey":
        """Read a key from base64. Raises ValueError, without the text, when it is not 32 bytes."""
        try:
            return cls(base64.b64decode(text, validate=True))
        except binascii.Error as error:
            raise ValueError("not base64") from error

    def wrap(self, key: bytes, person: str) -> bytes:
        """A person's key as it may be kept."""
        return _encrypted(self._key, key, person.encode())

    def unwrap(self, wrapped: bytes, person: str) -> bytes:
        """The key that was wrapped for this person. Raises WrongMasterKeyError."""
        try:
            return _decrypted(self._key, wrapped, person.encode())
        except ValueError as error:
            raise WrongMasterKeyError("a person's key was wrapped with another master key") from error

    def derive(self, purpose: str) -> bytes:
        """A key for another purpose (HKDF-SHA256), 32 bytes, such as to look somebody up by a keyed digest."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=purpose.encode()).derive(self._key)


def new_key() -> bytes:
    """A person's key."""
    return os.urandom(_KEY_BYTES)


def person_in(event: Event) -> str:
    """The id of the person whose data an event holds or whom it erases; empty for every other event.

    Raises ValueError for an id that could not stand in a closed value.
    """
    if not event.person:
        return ""
    person = str(getattr(event, event.person))
    if not PERSON.fullmatch(person):
        raise ValueError(f"{type(event).__name__}.{event.person}: {person!r} is no id of a person ({PERSON.pattern})")
    return person


def closed(event: Event, event_id: str, key: bytes) -> Event:
    """The event with its personal values closed. A value that is None stays.

    Raises TypeError for a personal value that is no text.
    """
    person = person_in(event)
    values = {name: getattr(event, name) for name in event.personal}
    return msgspec.structs.replace(
        event, **{name: close(value, person, event_id, key) for name, value in values.items() if value is not None}
    )


def close(value: str, person: str, event_id: str, key: bytes) -> str:
    """One value of an event, closed. Another one each time."""
    if not isinstance(value, str):
        raise TypeError(f"personal values are text, not {type(value).__name__}")
    id = UUID(event_id).bytes
    clear = value.encode() + b"\x80"
    clear += bytes(-len(clear) % _FILLED_TO)
    said = base64.urlsafe_b64encode(id + _encrypted(key, clear, id)).decode()
    return f"closed(v1:{person}:{said})"


def persons_in(text: str) -> set[str]:
    """Whose closed values stand in a text, JSON or not."""
    return {match[1] for match in CLOSED.finditer(text)}


def opened(text: str, keys: Mapping[str, bytes | None], *, in_json: bool = False) -> str:
    """A text with its closed values opened; `in_json` for one that is encoded JSON.

    An erased person's (None) become `ERASED`. What no key is given for stays as
    it is, and so does what does not open: anybody can write something that
    looks like a closed value, and it must not spoil the rest.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in keys:
            return match[0]
        key = keys[match[1]]
        if key is None:
            return ERASED
        try:
            raw = base64.urlsafe_b64decode(match[2])
            clear = _decrypted(key, raw[_ID_BYTES:], raw[:_ID_BYTES]).rstrip(b"\0")[:-1].decode()
        except ValueError:
            return match[0]
        return json.dumps(clear)[1:-1] if in_json else clear

    return CLOSED.sub(value, text)


def check(types: Iterable[type[Any]]) -> None:
    """That what event classes say about persons fits their fields. Raises TypeError, naming class and field."""
    for cls in types:
        if not issubclass(cls, Event):
            continue
        named = [*cls.personal, *filter(None, [cls.person])]
        for name in named:
            if name not in cls.__struct_fields__:
                raise TypeError(f"{cls.__name__} has no field {name!r}, which it says is about a person")
        if (cls.personal or cls.erases) and not cls.person:
            raise TypeError(f"{cls.__name__} has to say in `person` whose data it is about")


def _encrypted(key: bytes, value: bytes, bound_to: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, value, bound_to)


def _decrypted(key: bytes, encrypted: bytes, bound_to: bytes) -> bytes:
    """Raises ValueError for another key, another place, or what was changed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(encrypted) < _NONCE_BYTES + _TAG_BYTES:
        raise ValueError("too short to be encrypted")
    try:
        return AESGCM(key).decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], bound_to)
    except InvalidTag as error:
        raise ValueError("encrypted with another key or for another place, or changed") from error
