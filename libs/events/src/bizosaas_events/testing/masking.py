"""Personal data out of a recording, pseudonyms in its place.

A pseudonym is a keyed hash: the same value has the same one throughout a
recording, and because the key is made for the one recording and never
written, nobody can try out which value it stands for.
"""

import hashlib
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import msgspec

from ..codec import Codec
from ..envelope import Envelope, Message

PERSONAL = frozenset({
    "account", "address", "bcc", "birthday", "body", "cc", "comment", "email", "excerpt", "iban", "label", "login",
    "message", "name", "password", "phone", "query", "recipient", "search", "secret", "sender", "settings", "slug",
    "subject", "surname", "text", "title", "to", "token", "username",
})  # fmt: skip
"""Fields whose text is masked, at any depth; `contact_email` is one because of its last word. THE list: add here."""

PSEUDONYM = re.compile(r"masked-[0-9a-f]{12}(?:@masked\.invalid|\.invalid)?")
OTHER = "(other text)"
SHORTEST = 3
"""Of a value that is looked for in other text, too: a shorter one would be found everywhere."""

_EMAIL = re.compile(r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>“”]+")
_WORD = re.compile(r"\w+")


class Masking(NamedTuple):
    """What is masked: text in `fields`, e-mail addresses and URLs wherever they stand, and what was found there again
    in all other text."""

    fields: frozenset[str] = PERSONAL
    kept: frozenset[str] = frozenset()
    """`<type>:<field>` of what is no person's although its field is called so, such as the name of a procedure."""

    def names(self, field: str) -> bool:
        return field.rpartition("_")[2].casefold() in self.fields or field.casefold() in self.fields


PERSONAL_DATA = Masking()


class Mask:
    """The masking of one recording. `found` counts by field what was masked."""

    def __init__(self, policy: Masking, codec: Codec) -> None:
        self.policy = policy
        self.found: Counter[str] = Counter()
        self._codec = codec
        self._key = secrets.token_bytes(32)
        self._pseudonyms: dict[str, str] = {}
        self._by_word: dict[str, set[tuple[int, int]]] = {}
        """By first word, how long values are and where in them it stands: few, however many values there are."""

    def envelopes(self, envelopes: list[Envelope]) -> list[Envelope]:
        """All of a recording at once, since a value may stand in other text before it stands in its own field."""
        for envelope in envelopes:
            self._learn(msgspec.json.decode(envelope.data), envelope.type, "", named=False)
        return [self._masked(envelope) for envelope in envelopes]

    def text(self, text: str) -> str:
        """Other text without the addresses and the values that were learnt."""
        for pattern in (_URL, _EMAIL):
            text = pattern.sub(lambda match: self._pseudonym(match[0]), text)
        return self._without_learnt(text)

    def _masked(self, envelope: Envelope) -> Envelope:
        data = self._changed(msgspec.json.decode(envelope.data), envelope.type, "", named=False)
        return msgspec.structs.replace(
            envelope, data=msgspec.json.encode(data), subject=self.text(envelope.subject),
            tenantid=self.text(envelope.tenantid), actorid=self.text(envelope.actorid),
        )  # fmt: skip

    def _learn(self, node: Any, type_name: str, path: str, *, named: bool) -> None:
        match node:
            case dict():
                for key, value in node.items():
                    self._learn(
                        value, type_name, _below(path, key), named=named or self._is_named(type_name, path, key)
                    )
            case list():
                for value in node:
                    self._learn(value, type_name, path, named=named)
            case str() if named and node.strip():
                self._pseudonym(node.strip())
            case str():
                for pattern in (_URL, _EMAIL):
                    for match in pattern.finditer(node):
                        self._pseudonym(match[0])

    def _changed(self, node: Any, type_name: str, path: str, *, named: bool) -> Any:
        match node:
            case dict():
                return {
                    _EMAIL.sub(lambda match: self._pseudonym(match[0]), key): self._changed(
                        value, type_name, _below(path, key), named=named or self._is_named(type_name, path, key)
                    )
                    for key, value in node.items()
                }
            case list():
                return [self._changed(value, type_name, path, named=named) for value in node]
            case str() if named and node.strip():
                self.found[path] += 1
                return self._pseudonym(node.strip())
            case str() if node != type_name and node not in _vocabulary(self._codec.types.get(type_name)):
                changed = self.text(node)
                if changed != node:
                    self.found[OTHER] += 1
                return changed
        return node

    def _is_named(self, type_name: str, path: str, key: str) -> bool:
        return self.policy.names(key) and not (not path and f"{type_name}:{key}" in self.policy.kept)

    def _pseudonym(self, value: str) -> str:
        if PSEUDONYM.fullmatch(value.rpartition("://")[2]):  # what was masked stays as it is
            return value
        if value not in self._pseudonyms:
            self._pseudonyms[value] = self._made(value)
            word = _WORD.search(value)
            if word and len(value) >= SHORTEST:
                self._by_word.setdefault(word[0], set()).add((len(value), word.start()))
        return self._pseudonyms[value]

    def _made(self, value: str) -> str:
        if _EMAIL.fullmatch(value):
            return f"{self._digest(value.casefold())}@masked.invalid"
        if _URL.fullmatch(value):
            scheme, _, rest = value.partition("://")
            netloc = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
            # The host by itself is what sentences about an outage name.
            self._place(netloc.partition(":")[0])
            return f"{scheme}://{self._place(netloc)}"
        return self._digest(value)

    def _place(self, netloc: str) -> str:
        self._pseudonym(netloc)
        self._pseudonyms[netloc] = f"{self._digest(netloc)}.invalid"
        return self._pseudonyms[netloc]

    def _digest(self, value: str) -> str:
        return f"masked-{hashlib.blake2b(value.encode(), key=self._key, digest_size=6).hexdigest()}"

    def _without_learnt(self, text: str) -> str:
        parts, done = [], 0
        for word in _WORD.finditer(text):
            for length, offset in sorted(self._by_word.get(word[0], ()), reverse=True):
                start, end = word.start() - offset, word.start() - offset + length
                known = self._pseudonyms.get(text[start:end]) if start >= done else None
                if known and _ends_there(text, start, end):
                    parts += [text[done:start], known]
                    done = end
                    break
        return "".join(parts) + text[done:]


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _ends_there(text: str, start: int, end: int) -> bool:
    """Whether no word goes on before or behind."""
    before, after = text[start - 1 : start + 1] if start else "", text[end - 1 : end + 1]
    return not (len(before) == 2 and before.isalnum()) and not (len(after) == 2 and after.isalnum())


@cache
def _vocabulary(cls: type[Message] | None) -> frozenset[str]:
    """The words a message's own fields are made of: a closed list in our code, so nobody's personal data."""
    return frozenset(_words(msgspec.json.schema(cls))) if cls else frozenset()


def _words(node: object) -> Iterator[str]:
    match node:
        case dict():
            yield from (word for word in node.get("enum", ()) if isinstance(word, str))
            for value in node.values():
                yield from _words(value)
        case list():
            for value in node:
                yield from _words(value)
