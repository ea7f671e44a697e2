"""An entry of the journal: an event exactly as it was recorded, and the hash that chains it to the one before."""

from typing import NamedTuple

from bizosaas_events import Envelope
from bizosaas_events.messages import log_of


class Entry(NamedTuple):
    """`meta` and `envelope.data` are the bytes that `hash` covers."""

    envelope: Envelope
    meta: bytes
    hash: bytes


class Head(NamedTuple):
    """The end of one chain."""

    category: str
    partition: int
    position: int
    hash: bytes


def position_of(envelope: Envelope) -> str:
    """Where an event is: `<category>/<partition>@<sequence>`."""
    return f"{log_of(envelope)}/{envelope.partition}@{envelope.sequence}"
