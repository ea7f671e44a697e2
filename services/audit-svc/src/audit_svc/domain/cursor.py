"""The cursors between pages of the history: where an event stands in time."""

import base64
import binascii
from datetime import datetime
from uuid import UUID

from bizosaas_events import Envelope

from .errors import CursorInvalidError
from .ports import Cursor


def cursor_of(envelope: Envelope) -> str:
    """The cursor that this event is the last one before."""
    return base64.urlsafe_b64encode(f"{envelope.time.isoformat()}|{envelope.id}".encode()).decode().rstrip("=")


def parse_cursor(text: str, field: str = "before") -> Cursor:
    """Raises CursorInvalidError for what is none of ours."""
    try:
        padded = text + "=" * (-len(text) % 4)
        at, _, id = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition("|")
        cursor = Cursor(datetime.fromisoformat(at), str(UUID(id)))
    except (ValueError, binascii.Error) as error:
        raise CursorInvalidError(field) from error
    if cursor.at.tzinfo is None:
        raise CursorInvalidError(field)
    return cursor
