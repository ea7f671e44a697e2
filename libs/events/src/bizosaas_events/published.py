"""The published language written down: one JSON Schema a message type, one golden file an event type.

`check` holds the code to what is written down; `record` writes down what is
new and compatible. A golden file is an event's payload as it is stored: made
once, when its type is recorded first, and never again, so that today's code
is always tried on yesterday's bytes. The folder belongs to the repository;
an installed library does not need it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from .codec import Codec
from .compatibility import Change, Schema, compare
from .envelope import Event, Message
from .schemas import example, schema_of, structs_in


class IncompatibleError(Exception):
    """Somebody would not understand the messages any more."""

    def __init__(self, changes: list[Change]) -> None:
        super().__init__("\n".join(map(str, changes)))
        self.changes = changes


def check(codec: Codec, folder: Path) -> list[Change]:
    """What the code says otherwise than the folder; `breaks` is set where that must not stay."""
    written = {path.stem: msgspec.json.decode(path.read_bytes()) for path in _files(folder / "messages")}
    changes = [change for name, cls in sorted(codec.types.items()) for change in _check_type(name, cls, written)]
    for name in sorted(written.keys() - codec.types.keys()):
        if not codec.knows(name):
            remedy = "Bring it back, or add an Upcaster from it to the UPCASTERS of its module."
            changes.append(Change(name, "", "the type was removed or renamed, and nothing upcasts it", remedy, True))
    return changes + list(_check_golden(codec, folder, written))


def record(codec: Codec, folder: Path) -> list[Path]:
    """Write down what is new and return the files written. Raises IncompatibleError, having written nothing."""
    if broken := [change for change in check(codec, folder) if change.breaks]:
        raise IncompatibleError(broken)
    files = {folder / "messages" / f"{name}.json": _text(schema_of(cls)) for name, cls in sorted(codec.types.items())}
    for name, cls in sorted(codec.types.items()):
        path = folder / "golden" / f"{name}.json"
        if issubclass(cls, Event) and not path.exists():
            files[path] = codec.encode(codec.decode_as(name, msgspec.json.encode(example(schema_of(cls)))))
    changed = [path for path, text in files.items() if not path.exists() or path.read_bytes() != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[path])
    return changed


def _check_type(name: str, cls: type[Message], written: Mapping[str, Schema]) -> Iterator[Change]:
    yield from _strictness(name, cls)
    if name not in written:
        yield Change(name, "", "the type is new", "Record it: bizos schemas export.", False)
        return
    schema = schema_of(cls)
    changes = compare(name, written[name], schema)
    yield from changes
    if not changes and written[name] != msgspec.json.decode(_text(schema)):
        yield Change(name, "", "is described in other words", "Record it: bizos schemas export.", False)


def _strictness(name: str, cls: type[Message]) -> Iterator[Change]:
    """What the rules of `compatibility` rest on: unknown fields are ignored, defaults are written out."""
    for struct in structs_in(msgspec.inspect.type_info(cls)):
        config = struct.cls.__struct_config__
        for option in ("forbid_unknown_fields", "omit_defaults", "array_like"):
            if getattr(config, option):
                what = f"{struct.cls.__name__} has {option}, so a new field would not be understood"
                yield Change(name, "", what, f"Remove {option}.", True)


def _check_golden(codec: Codec, folder: Path, written: Mapping[str, Schema]) -> Iterator[Change]:
    golden = {path.stem: path for path in _files(folder / "golden")}
    for name in sorted(name for name, schema in written.items() if schema["x-kind"] == "event" and name not in golden):
        remedy = "Restore it; for a type never published: bizos schemas export."
        yield Change(name, "", "has no golden file", remedy, name not in codec.types)
    for name, path in golden.items():
        try:
            codec.decode_as(name, path.read_bytes())
        except (LookupError, TypeError, ValueError) as error:  # the codec's own, and what a wrong upcaster raises
            remedy = "Read it again as it was stored: by the type as it was, or by an upcaster."
            yield Change(name, "", f"its golden file cannot be read ({error!r})", remedy, True)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _text(schema: Schema) -> bytes:
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"
