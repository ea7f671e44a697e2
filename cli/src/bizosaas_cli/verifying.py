"""Verifying the journal: asked of the platform, held against exported heads, or of a tenant's export alone."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bizosaas_events.export_check import ExportReading
from bizosaas_events.heads import Chain, Held, Reading, Verify, deviation, read
from bizosaas_ports.signing import signed_by

from .client import Client, ProblemError
from .output import errors

Break = dict[str, Any]
LOOKUP = 1000
LOOK_SECONDS = 0.3
PATIENCE = 60.0
"""So long a verification may take to begin."""

Advance = Callable[[int, int | None], None]
"""How far something is, and of how much, where that is known."""


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A bar on standard error, so that standard output is the result alone."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def by_keys(keys: Sequence[bytes]) -> Verify:
    """Whether one of these keys signed something."""
    return lambda message, signature: any(signed_by(key, message, signature) for key in keys)


def verify_journal(client: Client, advance: Advance) -> dict[str, Any]:
    """Let the platform recompute every chain. Raises ProblemError."""
    answer = client.ask("POST", "/v1/audit/verifications", {}, Prefer="wait=1")
    if answer["status"] == "done":
        result: dict[str, Any] = answer["result"]
        return result
    path, end = f"/v1/audit/verifications/{answer['command_id']}", time.monotonic() + PATIENCE
    while True:
        try:
            told = client.ask("GET", path)
        except ProblemError as error:
            if error.status != 404 or time.monotonic() > end:
                raise
        else:
            advance(told["events"], told["of_events"])
            if told["status"] == "done":
                found: dict[str, Any] = told["result"]
                return found
        time.sleep(LOOK_SECONDS)


def read_heads(path: Path, verify: Verify, advance: Advance) -> Reading:
    """Read exported heads and check every signature. Raises OSError."""
    reading, size, done = Reading(verify), path.stat().st_size, 0
    with path.open("rb") as file:
        for line in file:
            reading.take(line.rstrip(b"\n"))
            done += len(line)
            advance(done, size)
    return reading


def heads_breaks(reading: Reading) -> list[Break]:
    """What is wrong with the exported heads themselves."""
    return [_break("heads", 0, number, reason) for number, reason in reading.breaks]


def hold_against_journal(client: Client, path: Path, reading: Reading, known: Sequence[Break]) -> list[Break]:
    """Compare the newest signed head of each chain with the journal, and find where a chain became another.

    What is `known` is not told again.
    """
    held = reading.vector.heads
    stands = _hashes(client, [(*chain, each.position) for chain, each in held.items()])
    departing = {chain for chain, hash in zip(held, stands, strict=True) if hash != held[chain].hash}
    found = []
    for chain, signed in _heads_of(path, departing, reading).items():
        first, last, reason = deviation(signed, _hashes(client, [(*chain, each.position) for each in signed])) or (
            signed[-1].position, signed[-1].position, "it was another one a moment ago: the journal is being changed",
        )  # fmt: skip
        if not any((b["category"], b["partition"]) == chain and first <= b["position"] <= last for b in known):
            found.append(_break(*chain, first, reason))
    return found


def read_export(path: Path, verify: Verify | None, advance: Advance) -> ExportReading:
    """Read one tenant's export; `end` is still to be called. Raises OSError."""
    reading, size, done = ExportReading(verify), path.stat().st_size, 0
    with path.open("rb") as file:
        for line in file:
            reading.take(line.rstrip(b"\n"))
            done += len(line)
            advance(done, size)
    return reading


def hold_against_heads(export: ExportReading, heads: Path, verify: Verify) -> Reading:
    """Compare every signed head with what is in the export. Raises OSError."""
    reading = Reading(verify)
    with heads.open("rb") as file:
        for line in file:
            said = reading.take(line.rstrip(b"\n"))
            for head in said.statement.heads if said else ():
                export.hold_against(head)
    return reading


def export_breaks(reading: ExportReading) -> list[Break]:
    """What is wrong with an export."""
    return [_break(*found) for found in reading.breaks]


def _heads_of(path: Path, chains: set[Chain], reading: Reading) -> Mapping[Chain, list[Held]]:
    """Every signed head of some chains, by position."""
    found: dict[Chain, list[Held]] = {chain: [] for chain in sorted(chains)}
    refused = {number for number, _ in reading.breaks}
    if not chains:
        return found
    with path.open("rb") as file:
        for line in file:
            try:
                said = read(line.rstrip(b"\n")).statement
            except ValueError:
                continue
            for head in said.heads if said.number not in refused else ():
                if head.chain in found and (not found[head.chain] or found[head.chain][-1].position < head.position):
                    found[head.chain].append(Held(head.position, bytes.fromhex(head.hash), said.number, said.time))
    return found


def _hashes(client: Client, positions: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """What stands in the journal at these positions."""
    found: list[bytes | None] = []
    for n in range(0, len(positions), LOOKUP):
        wanted = [{"category": c, "partition": p, "position": at} for c, p, at in positions[n : n + LOOKUP]]
        told = client.ask("POST", "/v1/audit/hashes", {"positions": wanted})
        found += [bytes.fromhex(hash) or None for hash in told["hashes"]]
    return found


def _break(category: str, partition: int, position: int, reason: str) -> Break:
    return {"category": category, "partition": partition, "position": position, "reason": reason}
