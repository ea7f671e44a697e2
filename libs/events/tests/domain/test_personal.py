"""Closed values: opened with the person's key, in any text, and by nothing else."""

import base64
import json
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bizosaas_events import Codec, Event, new_id
from bizosaas_events.personal import (
    CLOSED,
    ERASED,
    MasterKey,
    WrongMasterKeyError,
    close,
    closed,
    new_key,
    opened,
    person_in,
    persons_in,
)
from bizosaas_events.testing.account import Deposited, HolderNamed
from bizosaas_events.words import LONGEST, words_of

KEY, EVENT = new_key(), "0192aaaa-0000-7000-8000-000000000001"


@given(st.text(), st.from_regex(r"[\w.~@-]{1,40}", fullmatch=True).filter(str.isascii), st.text())
def test_what_was_closed_is_opened_in_whatever_text_it_stands(value: str, person: str, around: str) -> None:
    token = close(value, person, EVENT, KEY)

    assert persons_in(around + token) >= {person}
    assert opened(token, {person: KEY}) == value
    assert opened(token, {person: None}) == ERASED
    assert opened(token, {}) == token
    document = json.dumps({"said": [f"by {token}"], "other": "æ"})
    assert json.loads(opened(document, {person: KEY}, in_json=True)) == {"said": [f"by {value}"], "other": "æ"}


@given(st.text(min_size=4))
def test_a_value_is_not_in_what_it_was_closed_to(value: str) -> None:
    raw = CLOSED.fullmatch(close(value, "ann", EVENT, KEY))
    assert raw
    assert value.encode() not in base64.urlsafe_b64decode(raw[2])


@pytest.mark.parametrize("value", ["", "\0", "\0" * 31, "a\0", "Ann", "ä" * 15])
def test_how_long_a_value_is_cannot_be_seen_up_to_31_bytes(value: str) -> None:
    token = close(value, "ann", EVENT, KEY)
    assert len(token) == len(close("Bob", "bob", EVENT, KEY))
    assert opened(token, {"ann": KEY}) == value


def test_the_same_value_is_closed_to_another_one_each_time() -> None:
    assert close("Ann", "ann", EVENT, KEY) != close("Ann", "ann", EVENT, KEY)


@given(st.integers(min_value=0))
def test_what_was_changed_or_belongs_to_another_event_or_person_does_not_open(at: int) -> None:
    token = close("Ann", "ann", EVENT, KEY)
    found = CLOSED.fullmatch(token)
    assert found
    raw = bytearray(base64.urlsafe_b64decode(found[2]))
    raw[at % len(raw)] ^= 1  # the id of the event is at the beginning
    changed = f"closed(v1:ann:{base64.urlsafe_b64encode(raw).decode()})"

    assert opened(changed, {"ann": KEY}) == changed
    assert opened(token, {"ann": new_key()}) == token
    as_bobs = token.replace(":ann:", ":bob:")
    assert opened(as_bobs, {"ann": KEY, "bob": new_key()}) == as_bobs


@pytest.mark.parametrize("text", ["closed(v1:ann:)", "closed(v1:ann:AAAA)", "closed(v1:ann:A)", "closed(v2:ann:AAAA)"])
def test_what_only_looks_like_a_closed_value_stays(text: str) -> None:
    assert opened(text, {"ann": KEY}) == text


def test_a_value_that_was_opened_is_not_opened_again() -> None:
    inner = close("Ann", "ann", EVENT, KEY)
    assert opened(close(inner, "ann", EVENT, KEY), {"ann": KEY}) == inner


def test_only_the_marked_fields_of_an_event_are_closed() -> None:
    event = closed(HolderNamed(holder_id="ann", name="Ann", branch="North"), EVENT, KEY)

    assert isinstance(event, HolderNamed)
    assert opened(event.name, {"ann": KEY}) == "Ann"
    assert (event.holder_id, event.email, event.branch) == ("ann", None, "North")
    assert person_in(Deposited(cents=1)) == ""


@pytest.mark.parametrize("id", ["", "ann)", "a b", "ann:bob", "a" * 201])
def test_an_id_that_could_not_stand_in_a_closed_value_is_refused(id: str) -> None:
    with pytest.raises(ValueError, match=r"HolderNamed\.holder_id"):
        person_in(HolderNamed(holder_id=id, name="Ann"))


class Unknown(Event, frozen=True, kw_only=True, tag="account.holder.unknown.v1"):
    personal: ClassVar[tuple[str, ...]] = ("nam",)
    person: ClassVar[str] = "id"

    id: str
    name: str


class Nobodys(Event, frozen=True, kw_only=True, tag="account.holder.nobodys.v1"):
    personal: ClassVar[tuple[str, ...]] = ("name",)

    name: str


@pytest.mark.parametrize(("cls", "says"), [(Unknown, "Unknown has no field 'nam'"), (Nobodys, "Nobodys has to say")])
def test_a_wrong_mark_is_refused_when_the_codec_is_made(cls: type[Event], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Codec([cls])


def test_a_closed_value_in_words_is_not_cut() -> None:
    class Renamed(Event, frozen=True, kw_only=True, tag="account.holder.renamed.v1"):
        says = "now {name}"

        name: str

    from bizosaas_events.envelope import Envelope, now

    envelope = Envelope(
        id=new_id(), source="account-svc", type="account.holder.renamed.v1", subject="holder-1", time=now(),
        tenantid="acme", actorid="member:1", actorrole="tenant_user", correlationid="c", causationid="c",
    )  # fmt: skip
    name = "Ann " * 40

    words = words_of(Renamed(name=close(name, "ann", EVENT, KEY)), envelope, {})

    assert len(name) >= LONGEST
    assert opened(words, {"ann": KEY}) == f"now {name}"


def test_a_wrapped_key_opens_with_its_master_key_and_for_its_person_only() -> None:
    master = MasterKey(b"m" * 32)
    wrapped = master.wrap(KEY, "ann")

    assert master.unwrap(wrapped, "ann") == KEY
    for other, person in ((master, "bob"), (MasterKey(b"n" * 32), "ann")):
        with pytest.raises(WrongMasterKeyError):
            other.unwrap(wrapped, person)
    assert "mmm" not in repr(master)
    assert master.derive("one") != master.derive("other")


@pytest.mark.parametrize(("text", "says"), [("hunter2!", "not base64"), ("aGk=", "32 bytes, this has 2")])
def test_a_wrong_master_key_is_refused_without_being_shown(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        MasterKey.parse(text)
    assert text not in str(refused.value)
