"""The export of the signed heads: a file outside the database, one line of JSON a statement."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

TAIL = 65_536


class HeadsFile:
    """See `Export`. Processes that share the file take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the file where there is none. Raises OSError when it cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab"):
            pass
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def last(self) -> bytes | None:
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            return _last(file.fileno())[0]

    def append(self, last: bytes | None, lines: Iterable[bytes]) -> bool:
        self.prepare()
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found, end = _last(file.fileno())
            if found != last:
                return False
            file.truncate(end)
            file.seek(end)
            file.writelines(line + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        return True

    def lines(self) -> Iterator[bytes]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]


def _last(descriptor: int) -> tuple[bytes | None, int]:
    """The last whole line, and where it ends."""
    begin = os.fstat(descriptor).st_size
    tail = b""
    while begin and tail.count(b"\n") < 2:
        size = min(begin, TAIL)
        begin -= size
        tail = os.pread(descriptor, size, begin) + tail
    whole, ended, _ = tail.rpartition(b"\n")
    if not ended:
        return None, 0
    return whole.rpartition(b"\n")[2], begin + len(whole) + 1
