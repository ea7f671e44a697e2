"""How many calls one connection may have in flight, so that a slow vendor slows only its own connections."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..domain.connection import State
from ..domain.errors import ConnectionBusyError


class Gate:
    """Counts the calls of this process. A connection whose vendor is down gets one at a time: enough to see it recover."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside: Counter[str] = Counter()

    @contextmanager
    def enter(self, connection_id: str, state: State) -> Iterator[None]:
        """Raises ConnectionBusyError at once when there are too many: a queue would only hide it."""
        down = state.status == "interrupted" and state.reason == "provider-down"
        limit = 1 if down else self._limit
        if self._inside[connection_id] >= limit:
            raise ConnectionBusyError(limit, 5.0 if down else 1.0)
        self._inside[connection_id] += 1
        try:
            yield
        finally:
            self._inside[connection_id] -= 1
            if not self._inside[connection_id]:
                del self._inside[connection_id]
