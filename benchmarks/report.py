"""What every benchmark needs: times taken in turn, tables, and on what they were measured."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def seconds_in_turn(
    candidates: dict[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time each candidate ``repeats`` times, taking turns, after one call each to warm up.

    Turns matter on a noisy machine: a slow minute hits all candidates alike, and a ratio of two
    times of the same turn stays fair. ``time.process_time`` as the clock leaves out what other
    programs take.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, run in candidates.items():
            start = clock()
            run()
            if turn:
                times[name].append(clock() - start)
    return times


def median_ratio(times: Sequence[float], of: Sequence[float]) -> float:
    """Return the median of the ratios turn by turn."""
    return statistics.median(mine / theirs for mine, theirs in zip(times, of, strict=True))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def conditions(*packages: str) -> str:
    """Return one line about date, versions and the type of hardware."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{dt.date.today().isoformat()}, Python {platform.python_version()}, {versions}; "
        f"{platform.system()} {platform.machine()}, {cores} CPU cores ({_processor()})."
    )


def _processor() -> str:
    """Return the processor's type as the system names it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "type unknown"


def write(name: str, text: str) -> Path:
    """Write ``results/NAME.md``, print it, and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.md"
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(text)
    return path
