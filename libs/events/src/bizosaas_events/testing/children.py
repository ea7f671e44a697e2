"""Processes that a test starts in order to kill them, and the seed of when it does."""

import asyncio
import os
import random
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType

SEED = "BIZOS_TEST_SEED"
READY_SECONDS = 30


def dice() -> random.Random:
    """Randomness that can be had again: prints its seed, which BIZOS_TEST_SEED sets."""
    seed = os.environ.get(SEED) or secrets.token_hex(4)
    print(f"{SEED}={seed}")
    return random.Random(seed)


class Children:
    """Child processes of one program, a Python file; none outlives the `async with`.

    The program prints a line as soon as it works, and nothing before: only
    then is it worth killing. Its errors go to `log`, quoted when it ends early.
    """

    def __init__(self, program: Path, log: Path) -> None:
        self._program = program
        self._log = log
        self.alive: list[Process] = []
        self.killed = 0

    async def start(self, *arguments: str) -> Process:
        """Start one more and wait until it says that it works."""
        with self._log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-X", "faulthandler", self._program, *arguments, stdout=PIPE, stderr=errors
            )
        self.alive.append(child)
        assert child.stdout is not None
        line = await asyncio.wait_for(child.stdout.readline(), READY_SECONDS)
        assert line, f"{self._program.name} {arguments[0]} ended early:\n{self._log.read_text()[-30000:]}"
        return child

    async def kill(self, child: Process | None = None) -> None:
        """SIGKILL one, by default the oldest."""
        child = child or self.alive[0]
        self.alive.remove(child)
        self.killed += 1
        await _end(child, signal.SIGKILL)

    async def replace(self, *arguments: str) -> None:
        """SIGKILL the oldest as soon as a new one works."""
        oldest = self.alive[0]
        await self.start(*arguments)
        await self.kill(oldest)

    def all_alive(self) -> None:
        """Fail, quoting the log, when one has ended by itself."""
        __tracebackhide__ = True
        codes = [child.returncode for child in self.alive]
        assert codes == [None] * len(codes), f"exit codes {codes}:\n{self._log.read_text()[-30000:]}"

    async def stop(self, child: Process) -> int:
        """SIGTERM one and return its exit code."""
        self.alive.remove(child)
        return await _end(child, signal.SIGTERM)

    async def __aenter__(self) -> "Children":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self.alive:
            await _end(child, signal.SIGKILL)


async def _end(child: Process, how: signal.Signals) -> int:
    if child.returncode is None:
        child.send_signal(how)
    await asyncio.wait_for(child.communicate(), READY_SECONDS)
    assert child.returncode is not None
    return child.returncode
