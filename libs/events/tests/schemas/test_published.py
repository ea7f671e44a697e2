"""What is written down of the messages: kept up to date, never changed behind anybody's back."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bizosaas_events import Codec, Command, Event, Message, Result, Upcaster, messages
from bizosaas_events.codec import type_of
from bizosaas_events.published import IncompatibleError, check, record
from bizosaas_events.schemas import answer_to
from bizosaas_events.testing.account import Deposit

FOLDER = Path(__file__).parents[2] / "schemas"
GOLDEN = sorted(path.stem for path in FOLDER.glob("golden/*.json"))
EVENTS = sorted(type_of(cls) for cls in messages.codec().types.values() if issubclass(cls, Event))


class Weighed(Event, frozen=True, kw_only=True, tag="shop.parcel.weighed.v1"):
    says = "a parcel weighs {grams} g"

    grams: int
    at: str = ""


class HeavierWeighed(Event, frozen=True, kw_only=True, tag="shop.parcel.weighed.v1"):
    grams: int
    at: str = ""
    by: str = ""


class OtherWeighed(Event, frozen=True, kw_only=True, tag="shop.parcel.weighed.v1"):
    kilos: float
    at: str = ""


class WeighedInKilos(Event, frozen=True, kw_only=True, tag="shop.parcel.weighed.v2"):
    kilos: float


class TerseWeighed(Event, frozen=True, kw_only=True, omit_defaults=True, tag="shop.parcel.weighed.v1"):
    grams: int
    at: str = ""


def in_kilos(old: dict[str, Any]) -> dict[str, Any]:
    return {"kilos": old["grams"] / 1000}


UPCASTER = Upcaster("shop.parcel.weighed.v1", into="shop.parcel.weighed.v2", change=in_kilos)


def told(codec: Codec, folder: Path) -> list[tuple[str, str, bool]]:
    return [(change.type, change.what, change.breaks) for change in check(codec, folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`Weighed` and a command are written down."""
    record(Codec([Weighed, Deposit]), tmp_path)
    return tmp_path


def test_the_platforms_messages_break_nothing_that_is_written_down() -> None:
    assert [str(change) for change in check(messages.codec(), FOLDER) if change.breaks] == []


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_has_a_golden_file(name: str) -> None:
    assert name in GOLDEN, "bizos schemas export makes it"


@pytest.mark.parametrize("name", GOLDEN)
def test_an_event_as_it_was_stored_once_is_read_today_and_nothing_of_it_is_lost(name: str) -> None:
    codec, stored = messages.codec(), (FOLDER / "golden" / f"{name}.json").read_bytes()
    event = codec.decode_as(name, stored)
    assert isinstance(event, Event)
    if name in codec.types:
        read = msgspec.json.decode(codec.encode(event))
        assert msgspec.json.decode(stored).items() <= read.items()


def test_what_is_written_down_is_the_same_wherever_it_is_made(folder: Path, tmp_path: Path) -> None:
    record(Codec([Deposit, Weighed]), tmp_path / "again")
    first = {path.relative_to(folder): path.read_bytes() for path in folder.glob("[mg]*/*.json")}
    assert first == {
        path.relative_to(tmp_path / "again"): path.read_bytes() for path in tmp_path.glob("again/*/*.json")
    }
    assert [str(path) for path in sorted(first)] == [
        "golden/shop.parcel.weighed.v1.json",
        "messages/account.deposit.v1.json",
        "messages/shop.parcel.weighed.v1.json",
    ]
    assert first[Path("golden/shop.parcel.weighed.v1.json")] == (
        '{"type":"shop.parcel.weighed.v1","grams":7,"at":"at é"}'.encode()
    )


def test_nothing_changed_is_said_in_silence(folder: Path) -> None:
    assert check(Codec([Weighed, Deposit]), folder) == []
    assert record(Codec([Weighed, Deposit]), folder) == []


def test_a_new_field_is_recorded_and_the_golden_file_stays(folder: Path) -> None:
    golden = (folder / "golden/shop.parcel.weighed.v1.json").read_bytes()
    codec = Codec([HeavierWeighed, Deposit])
    assert ("shop.parcel.weighed.v1", "is new", False) in told(codec, folder)

    assert record(codec, folder) == [folder / "messages/shop.parcel.weighed.v1.json"]

    assert check(codec, folder) == []
    assert (folder / "golden/shop.parcel.weighed.v1.json").read_bytes() == golden


def test_a_new_type_is_to_be_recorded(folder: Path) -> None:
    codec = Codec([Weighed, WeighedInKilos, Deposit])
    assert told(codec, folder) == [("shop.parcel.weighed.v2", "the type is new", False)]
    assert len(record(codec, folder)) == 2
    assert check(codec, folder) == []


def test_an_incompatible_change_is_refused_and_nothing_is_written(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    codec = Codec([OtherWeighed, WeighedInKilos, Deposit])

    with pytest.raises(IncompatibleError, match=r"weighed\.v1: field grams: was removed\. .*weighed\.v2"):
        record(codec, folder)

    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


def test_a_removed_type_breaks_until_something_upcasts_it(folder: Path) -> None:
    assert ("shop.parcel.weighed.v1", "the type was removed or renamed, and nothing upcasts it", True) in told(
        Codec([WeighedInKilos, Deposit]), folder
    )

    codec = Codec([WeighedInKilos, Deposit], [UPCASTER])
    record(codec, folder)

    assert check(codec, folder) == []
    assert (folder / "messages/shop.parcel.weighed.v1.json").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        Upcaster("shop.parcel.weighed.v1", "shop.parcel.weighed.v2", lambda old: {"kilos": str(old["grams"])}),
        Upcaster("shop.parcel.weighed.v1", "shop.parcel.weighed.v2", lambda old: {"kilos": old["weight"]}),
        Upcaster("shop.parcel.weighed.v1", "shop.parcel.weighed.v9", in_kilos),
    ],
    ids=["wrong type", "wrong field", "into a type nobody knows"],
)
def test_an_upcaster_that_cannot_read_the_golden_file_is_found(folder: Path, wrong: Upcaster) -> None:
    record(Codec([Weighed, WeighedInKilos, Deposit]), folder)
    ((name, what, breaks),) = told(Codec([WeighedInKilos, Deposit], [wrong]), folder)
    assert (name, breaks) == ("shop.parcel.weighed.v1", True)
    assert what.startswith("its golden file cannot be read")


def test_a_schema_file_taken_away_does_not_hide_a_change_from_the_golden_file(folder: Path) -> None:
    (folder / "messages/shop.parcel.weighed.v1.json").unlink()
    assert any(breaks for _, _, breaks in told(Codec([OtherWeighed, Deposit]), folder))


def test_the_golden_file_of_a_retired_type_cannot_be_taken_away(folder: Path) -> None:
    codec = Codec([WeighedInKilos, Deposit], [UPCASTER])
    record(codec, folder)
    (folder / "golden/shop.parcel.weighed.v1.json").unlink()
    assert told(codec, folder) == [("shop.parcel.weighed.v1", "has no golden file", True)]


def test_options_that_the_rules_do_not_hold_with_are_refused(folder: Path) -> None:
    what = "TerseWeighed has omit_defaults, so a new field would not be understood"
    assert ("shop.parcel.weighed.v1", what, True) in told(Codec([TerseWeighed, Deposit]), folder)


@pytest.mark.parametrize("message", messages.codec().types.values(), ids=type_of)
def test_every_result_is_the_answer_to_a_command(message: type[Message]) -> None:
    types = messages.codec().types.values()
    if issubclass(message, Result):
        assert message in {answer_to(cls, types) for cls in types if issubclass(cls, Command)}
