"""The heads of all chains, signed every minute and written outside the database."""

import asyncio
import base64
import contextlib
from collections.abc import Iterable, Iterator, Sequence

import structlog

from bizosaas_events.heads import Head, Line, Reading, Vector, read, seal
from bizosaas_events.outages import OUTAGES
from bizosaas_ports.clock import Clock
from bizosaas_ports.signing import SigningKey, signed_by

from ..domain.ports import Export, Ledger, Statements
from ..domain.signing import judge, positions

BATCH = 500
CLOSE_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class StatementError(Exception):
    """What is kept of the signed statements is not what was signed; `number` says from which one on."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


class Notary:
    """Signs the heads, keeps the statements in the database, and exports them.

    The database is where they are numbered, so that several processes make
    one row of them; each process exports to a place of its own or to a shared
    one. Both copies are held against each other: a database that was set back
    is refilled from the export, an export that lacks something from the
    database, and where they contradict each other nothing more is signed.
    """

    def __init__(
        self, ledger: Ledger, statements: Statements, export: Export, key: SigningKey, *, now: Clock,
        seconds: float, former: Sequence[bytes] = (),
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._statements = statements
        self._export = export
        self._key = key
        self._keys = (key.public, *former)
        self.checked = self.contradicting = 0
        """Signed heads that were held against the journal the last time, and how many of them contradict it."""
        self._now = now
        self._seconds = seconds
        self._vector = Vector()
        self._problem = ""
        # One at a time: what is known of the statements changes meanwhile, and the turn takes a connection.
        self._mine = asyncio.Lock()

    @property
    def vector(self) -> Vector:
        """The newest signed heads that this process knows."""
        return self._vector

    def problem(self) -> str:
        """For readiness: what the statements contradict, or why they cannot be written."""
        return self._problem

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether one of our keys signed this."""
        return any(signed_by(key, message, signature) for key in self._keys)

    async def close(self) -> None:
        """Sign what came since the last time: it may be long until somebody signs again. Outages are left as they are."""
        with contextlib.suppress(StatementError, TimeoutError, *OUTAGES):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.sign(due=True)

    async def run(self) -> None:
        """Sign until cancelled."""
        while True:
            try:
                self._note(await self.sign())
            except StatementError as error:
                self._note([str(error)])
            except OUTAGES as error:
                self._note([f"the heads are not signed for now: {error}"])
            await asyncio.sleep(self._seconds)

    async def sign(self, *, due: bool = False) -> list[str]:
        """Sign the heads of now, unless another process just did, and export. Returns what contradicts.

        `due`: sign in any case.

        Raises StatementError when the statements themselves are not what was signed.
        """
        async with self._mine, self._statements.exclusively() as alone:
            await self._catch_up(restore=alone)
            heads = [head for head in await self._ledger.heads() if head.position]
            wanted = positions(self._vector, heads)
            stands = dict(zip(wanted, await self._ledger.hashes(wanted), strict=True))
            said, contradictions = judge(self._vector, heads, stands)
            self.checked, self.contradicting = len(wanted), len(contradictions)
            if alone and (due or self._due()):
                await self._state(said)
            await self._write()
        return contradictions

    async def reading(self) -> Reading:
        """Everything that was exported, read again and checked. Raises as `sign`."""
        async with self._mine, self._statements.exclusively() as alone:
            await self._catch_up(restore=alone)
            await self._write()
        reading, number, digest = Reading(self.verify), self._vector.number, self._vector.digest

        def read_all() -> None:
            for raw in self._export.lines():
                reading.take(raw)

        await asyncio.to_thread(read_all)
        reading.end(number, digest)
        return reading

    def exported(self) -> Iterator[Line]:
        """What was exported, without what cannot be read; nobody has looked at the signatures."""
        return (line for _, line in _readable(self._export.lines()))

    def _due(self) -> bool:
        last = self._vector.time
        return last is None or (self._now() - last).total_seconds() > self._seconds / 2

    async def _state(self, heads: list[Head]) -> None:
        statement = self._vector.next(heads, self._now())
        raw = seal(statement, self._key.sign)
        line = read(raw)
        await self._add(line, raw)
        # Wherever the log goes, it is one more witness.
        _log.info(
            "heads signed", number=statement.number, moved=len(statement.heads), digest=line.digest,
            signature=base64.b64encode(line.signature).decode(),
        )  # fmt: skip

    async def _catch_up(self, *, restore: bool) -> None:
        """Read on in the database, and bring back there what only the export has."""
        await self._read_on()
        last = await self._last_exported()
        number = last.statement.number if last else 0
        if restore and number > self._vector.number:
            _log.warning("the database lacks signed statements; they come back from the export", until=number)
            for raw in await asyncio.to_thread(self._exported_after, self._vector.number):
                await self._add(self._following(raw, "the export"), raw)
        if last and number == self._vector.number and last.digest != self._vector.digest:
            raise StatementError(number, f"statement {number} of the export is not the one in the database")

    async def _read_on(self) -> None:
        number = self._vector.number
        # One's own last one is read again: if it is gone, the database was set back.
        found = await self._statements.after(max(number - 1, 0), BATCH) if number else []
        if not found or _digest(found.pop(0)) != self._vector.digest:
            found = await self._begin()
        while found:
            for raw in found:
                self._vector.apply(self._following(raw, "the database"))
            found = await self._statements.after(self._vector.number, BATCH)

    async def _begin(self) -> list[bytes]:
        """Begin with the last statement that names all heads: what was said before it, a verification reads."""
        found = await self._statements.at()
        self._vector = Vector.before(read(found[0])) if found and _digest(found[0]) else Vector()
        return found

    def _following(self, raw: bytes, where: str) -> Line:
        """The line, if it is signed and follows the last one. Raises StatementError."""
        expected = self._vector.number + 1
        try:
            line = read(raw)
        except ValueError as error:
            raise StatementError(expected, f"statement {expected} in {where}: {error}") from error
        if not self.verify(line.signed, line.signature):
            raise StatementError(expected, f"statement {expected} in {where} is not what was signed by this key")
        if (line.statement.number, line.statement.previous) != (expected, self._vector.digest):
            raise StatementError(expected, f"statement {expected} is missing in {where}, or another one stands there")
        return line

    async def _add(self, line: Line, raw: bytes) -> None:
        try:
            await self._statements.add(line, raw)
        except ValueError as error:
            raise StatementError(line.statement.number, str(error)) from error
        self._vector.apply(line)

    async def _last_exported(self) -> Line | None:
        raw = await asyncio.to_thread(self._export.last)
        try:
            return read(raw) if raw is not None else None
        except ValueError as error:
            raise StatementError(self._vector.number, f"the end of the export: {error}") from error

    def _exported_after(self, number: int) -> list[bytes]:
        return [raw for raw, line in _readable(self._export.lines()) if line.statement.number > number]

    async def _write(self) -> None:
        """Append to the export what it lacks."""
        raw = await asyncio.to_thread(self._export.last)
        number = read(raw).statement.number if raw else 0
        if raw is not None and number <= self._vector.number and await self._statements.after(number - 1, 1) != [raw]:
            raise StatementError(number, f"statement {number} of the export is not the one in the database")
        while lines := await self._statements.after(number, BATCH):
            if await asyncio.to_thread(self._export.append, raw, lines):
                raw, number = lines[-1], number + len(lines)
            else:  # another process writes there, too, and was faster
                raw = await asyncio.to_thread(self._export.last)
                number = read(raw).statement.number if raw else 0

    def _note(self, problems: Sequence[str]) -> None:
        said = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        if said and said != self._problem:
            _log.error("the signed heads contradict the journal, or cannot be kept", problems=said)
        self._problem = said


def _readable(lines: Iterable[bytes]) -> Iterator[tuple[bytes, Line]]:
    for raw in lines:
        try:
            yield raw, read(raw)
        except ValueError:
            continue


def _digest(raw: bytes) -> str:
    try:
        return read(raw).digest
    except ValueError:
        return ""
