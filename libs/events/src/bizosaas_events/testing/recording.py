"""A recording: events of a log in one readable file, to be committed beside the test they make.

The file is NDJSON: a header, then one event a line as CloudEvents JSON. Data
stands in it as it was stored, so an old recording is read through today's
upcasters; what is a person's is masked.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import msgspec

from ..codec import Codec, UndecodableError
from ..envelope import SPECVERSION, Envelope, Event, now
from ..personal import opened, persons_in
from ..store.base import EventStore
from .folding import Into, Step, decoded, steps
from .masking import PERSONAL_DATA, Mask, Masking
from .replay import Loaded, RestorableStore, feed, load
from .selecting import Selection, matching, with_history

if TYPE_CHECKING:
    from ..consumer import Apply

VERSION = 1
MASKED = "Text in these fields, e-mail addresses and URLs were replaced by pseudonyms, here and in all other text."
NOT_MASKED = "Nothing was masked."


class RecordingError(Exception):
    """A recording cannot be made or read; the message says why and what to do."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    format: Literal["bizosaas-events/recording"] = "bizosaas-events/recording"
    version: int = VERSION
    recorded_at: datetime
    source: str
    selection: Selection
    events: int
    masked: dict[str, int] | None
    """How many values in which field; None: nothing was masked."""
    note: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """An event as CloudEvents JSON, what a person reads first in front."""

    time: datetime
    type: str
    subject: str
    streamversion: int
    actorid: str
    actorrole: str
    data: msgspec.Raw
    id: str
    source: str
    tenantid: str
    correlationid: str
    causationid: str
    traceparent: str = ""
    partition: int
    sequence: int
    specversion: str = SPECVERSION
    datacontenttype: str = "application/json"


@dataclass(frozen=True)
class Recording:
    """Recorded events in the order they happened, each partition's in its own."""

    header: Header
    envelopes: Sequence[Envelope]
    codec: Codec

    @classmethod
    def read(cls, path: Path, codec: Codec) -> "Recording":
        """Raises RecordingError, naming the line, for what is no recording or was cut off; OSError."""
        first, *lines = path.read_bytes().splitlines() or [b""]
        header = _header(path, first)
        envelopes = [_envelope(path, number, line) for number, line in enumerate(lines, 2) if line.strip()]
        if len(envelopes) != header.events:
            raise RecordingError(
                f"{path} holds {len(envelopes)} events and says it has {header.events}: take the whole file; "
                "if lines were left out on purpose, correct `events` in its first line."
            )
        return cls(header, envelopes, codec)

    def write(self, path: Path) -> None:
        """Write the file."""
        header = msgspec.structs.replace(self.header, events=len(self.envelopes))
        lines = [msgspec.json.encode(each) for each in (header, *map(_line, self.envelopes))]
        path.write_bytes(b"\n".join(lines) + b"\n")

    @property
    def streams(self) -> list[str]:
        """Their names, in the order of their first events."""
        return list(dict.fromkeys(envelope.subject for envelope in self.envelopes))

    def stream(self, name: str) -> "Recording":
        """Only this stream. Raises RecordingError when it is not there."""
        if name not in self.streams:
            raise RecordingError(f"There is no {name} in this recording; it has {', '.join(self.streams) or 'none'}.")
        return self._only(envelope for envelope in self.envelopes if envelope.subject == name)

    def until(self, *, version: int | None = None, time: datetime | None = None) -> "Recording":
        """Stop at a version of each stream, or at a time; both inclusive."""
        return self._only(
            envelope
            for envelope in self.envelopes
            if (version is None or envelope.streamversion <= version) and (time is None or envelope.time <= time)
        )

    def __len__(self) -> int:
        return len(self.envelopes)

    @overload
    def __getitem__(self, place: int) -> Envelope: ...
    @overload
    def __getitem__(self, place: slice) -> "Recording": ...
    def __getitem__(self, place: int | slice) -> "Envelope | Recording":
        """`incident[:4]`: only the first four events."""
        return self._only(self.envelopes[place]) if isinstance(place, slice) else self.envelopes[place]

    def events(self) -> list[Event]:
        """The decoded events, without those of types that are not known here."""
        return [event for envelope in self.envelopes if (event := decoded(envelope, self.codec)) is not None]

    def step(self, into: Into) -> Iterator[Step]:
        """Event after event, with the state of its stream before and after."""
        return steps(self.envelopes, self.codec, into)

    async def load(self, store: RestorableStore) -> Loaded:
        """Record the events in another store as they once were. Raises ReplayError where they do not fit there."""
        return await load(self.envelopes, store)

    async def feed(self, apply: "Apply", connection: Any = None, *, batch: int = 200) -> int:
        """Hand them to a consumer as it would get them; see `replay.feed`."""
        return await feed(self.envelopes, apply, connection, batch=batch)

    def _only(self, envelopes: Iterable[Envelope]) -> "Recording":
        return replace(self, envelopes=list(envelopes))


async def record(
    store: EventStore, selection: Selection | None = None, *, source: str = "", masking: Masking | None = PERSONAL_DATA
) -> Recording:  # fmt: skip
    """Record a part of a log, all of it without a selection.

    Streams are read directly; a correlation or a time range means reading the
    whole log once. Raises RecordingError when there is nothing to record.
    """
    selection = selection or Selection()
    found = [envelope async for envelope in matching(store, selection)]
    if not found:
        raise RecordingError("There are no such events: check the stream's name, the correlation id and the times.")
    if selection.history:
        found = await with_history(store, found)
    partitions: dict[int, list[Envelope]] = {}
    for envelope in sorted(found, key=attrgetter("partition", "sequence")):
        partitions.setdefault(envelope.partition, []).append(envelope)
    # Ids grow with time; merging by them keeps the order that each partition has by its positions.
    ordered = list(heapq.merge(*partitions.values(), key=attrgetter("id")))
    mask = Mask(masking, store.codec) if masking else None
    if mask:
        ordered = mask.envelopes(await _opened(store, ordered))
        _check_readable(ordered, store.codec)
        selection = msgspec.structs.replace(selection, streams=[mask.text(name) for name in selection.streams])
    header = Header(
        recorded_at=now(), source=source or store.category, selection=selection, events=len(ordered),
        masked=dict(sorted(mask.found.items())) if mask else None, note=MASKED if mask else NOT_MASKED,
    )  # fmt: skip
    return Recording(header, ordered, store.codec)


async def _opened(store: EventStore, envelopes: Sequence[Envelope]) -> list[Envelope]:
    """With personal values in clear where the store has the keys, so that they are found in other text, too."""
    texts = [envelope.data.decode() for envelope in envelopes]
    persons = sorted({person for text in texts for person in persons_in(text)})
    keys = {person: key for person, (_, key) in (await store.person_keys(persons)).items()}
    return [
        msgspec.structs.replace(envelope, data=opened(text, keys, in_json=True).encode())
        for envelope, text in zip(envelopes, texts, strict=True)
    ]


def _check_readable(envelopes: Iterable[Envelope], codec: Codec) -> None:
    for envelope in envelopes:
        try:
            decoded(envelope, codec)
        except UndecodableError as error:
            raise RecordingError(
                f"A masked event cannot be read any more ({error}): a field that holds no free text has the name of "
                "one that does; name it in `kept` of the Masking."
            ) from error


def _header(path: Path, line: bytes) -> Header:
    try:
        header = msgspec.json.decode(line, type=Header)
    except msgspec.DecodeError as error:
        raise RecordingError(
            f"{path} is no recording, its first line is no header ({error}): make one with `bizos replay record`."
        ) from error
    if header.version > VERSION:
        raise RecordingError(
            f"{path} has version {header.version} of the format, known here is {VERSION}: update bizosaas-events."
        )
    return header


def _line(envelope: Envelope) -> Line:
    attributes = {name: getattr(envelope, name) for name in Line.__struct_fields__ if hasattr(envelope, name)}
    return Line(**attributes | {"data": msgspec.Raw(envelope.data)})


def _envelope(path: Path, number: int, line: bytes) -> Envelope:
    try:
        read = msgspec.json.decode(line, type=Line)
    except msgspec.DecodeError as error:
        raise RecordingError(f"{path}, line {number}: {error}") from error
    attributes = {name: getattr(read, name) for name in Envelope.__struct_fields__ if hasattr(read, name)}
    return Envelope(**attributes | {"data": bytes(read.data)})
