"""What the benches share: servers of their own, rounds that take turns, and one table."""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from bizosaas_runtime.worker import collect_seldom
from bizosaas_sandbox.servers.postgres import THROW_AWAY, Postgres
from bizosaas_sandbox.servers.redis import Redis

Measure = Callable[[], Awaitable[float]]
"""Does it once and returns what was measured: a rate, mostly."""


class Servers(NamedTuple):
    """Started for one bench; Redis keeps an append-only file, but unless asked nothing waits for the disk."""

    postgres: Postgres
    redis: Redis

    def database(self, name: str) -> str:
        """A new database of this name."""
        return self.postgres.create_database(name, name, "bench")


@contextlib.asynccontextmanager
async def servers(*, fsync: bool = False) -> AsyncIterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="bizos-bench-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)  # PostgreSQL may run as another user
        with (
            Postgres(Path(folder) / "postgres", settings={} if fsync else THROW_AWAY) as postgres,
            Redis(Path(folder) / "redis", settings={} if fsync else {"appendfsync": "everysec"}) as redis,
        ):
            yield Servers(postgres, redis)


def processor_seconds(pid: int) -> float:
    """Of a process and all it has started that still runs."""
    total = 0.0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += float(times.user + times.system)
    return total


class Bar(NamedTuple):
    """A ratio that must hold: `what` is at least `ratio` times `base`."""

    what: str
    base: str
    ratio: float


async def interleave(variants: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Measure each variant once a round, so that whatever else the machine does meets all of them."""
    collect_seldom()  # as every service does
    measured: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            measured[name].append(await measure())
    return measured


def ratio(measured: Mapping[str, Sequence[float]], what: str, base: str) -> float:
    """The median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(measured[what], measured[base], strict=True))


def table(
    title: str, measured: Mapping[str, Sequence[float]], bars: Sequence[Bar] = (), *, unit: str = "events/s",
    began: float = 0.0,
) -> None:  # fmt: skip
    """Print a Markdown table: medians, ranges, and below it each bar with the ratio that was met."""
    load = os.getloadavg()[0]
    took = f", {time.perf_counter() - began:.0f} s" if began else ""
    print(f"### {title}\n\n{os.cpu_count()} cores, load {load:.1f}{took}\n")
    print(f"| variant | {unit} | lowest to highest |\n|---|---:|---:|")
    for name, values in measured.items():
        print(f"| {name} | {_number(statistics.median(values))} | {_number(min(values))} to {_number(max(values))} |")
    if bars:
        print("\n| ratio, within each round | measured | bar |\n|---|---:|---:|")
    for bar in bars:
        met = ratio(measured, bar.what, bar.base)
        missed = "" if met >= bar.ratio else " missed"
        print(f"| {bar.what} : {bar.base} | {met:.2f} | {bar.ratio:g}{missed} |")
    print()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
