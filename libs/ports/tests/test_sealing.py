"""Sealed boxes."""

import pytest

from bizosaas_ports.sealing import SealError, SealingKey, export_public, parse_public, seal, seal_text


def test_only_the_holder_of_the_key_opens_a_box() -> None:
    key, other = SealingKey.generate(), SealingKey.generate()
    box = seal(key.public, b"the credential")

    assert key.open(box) == b"the credential"
    with pytest.raises(SealError):
        other.open(box)


def test_every_box_is_another_one_and_hides_its_content() -> None:
    key = SealingKey.generate()

    boxes = {seal(key.public, b"the credential") for _ in range(10)}

    assert len(boxes) == 10
    assert all(b"credential" not in box for box in boxes)


@pytest.mark.parametrize("damage", [b"", b"short", bytes(80)])
def test_a_damaged_box_is_refused(damage: bytes) -> None:
    with pytest.raises(SealError):
        SealingKey.generate().open(damage)


def test_a_changed_byte_is_noticed() -> None:
    key = SealingKey.generate()
    box = bytearray(seal(key.public, b"the credential"))
    box[-1] ^= 1

    with pytest.raises(SealError):
        key.open(bytes(box))


def test_keys_survive_being_written_down_and_are_not_shown() -> None:
    key = SealingKey.generate()

    assert SealingKey.parse(key.export()).public == key.public
    assert parse_public(export_public(key.public)) == key.public
    assert key.export() not in repr(key)


@pytest.mark.parametrize("text", ["", "not base64!", "c2hvcnQ="])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"base64|32 bytes"):
        SealingKey.parse(text)


def test_a_sealed_text_is_text_and_opens_with_its_key_only() -> None:
    key = SealingKey.generate()
    sealed = seal_text(key.public, "Ann Møller")

    assert "Ann" not in sealed
    assert key.open_text(sealed) == "Ann Møller"
    assert key.open_text("Ann Møller") == "Ann Møller"
    for damaged in (sealed[:-6] + "AAAA)", "sealed(v1:A)", seal_text(SealingKey.generate().public, "x")):
        with pytest.raises(SealError):
            key.open_text(damaged)
