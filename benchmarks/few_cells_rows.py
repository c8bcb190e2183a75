"""Results as rows of a CSV file that grows run by run, so that a grid can be interrupted."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One method on one case: what was run, what it found, how long it took.

    ``tp50, fp50, fn50`` are objects matched at IoU 0.5, found without partner and missed, pooled
    over the scored images; likewise at 0.75. ``base`` names the model that was started from, with
    a digest of its file: rows of another base are other rows.
    """

    kind: str
    seed: int
    cells: int
    budget: float
    method: str
    variant: str
    base: str
    device: str
    threads: int
    painted: int
    painted_on: str
    scored: int
    tp50: int = 0
    fp50: int = 0
    fn50: int = 0
    tp75: int = 0
    fp75: int = 0
    fn75: int = 0
    merges: int = 0
    splits: int = 0
    train_seconds: float = 0.0
    segment_seconds: float = 0.0
    note: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What has to be equal for a run to count as done."""
        return tuple(getattr(self, name) for name in KEY)

    @property
    def ap50(self) -> float:
        """TP / (TP + FP + FN) at IoU 0.5; nan when there is no object at all."""
        return _ratio(self.tp50, self.tp50 + self.fp50 + self.fn50)

    @property
    def ap75(self) -> float:
        """TP / (TP + FP + FN) at IoU 0.75."""
        return _ratio(self.tp75, self.tp75 + self.fp75 + self.fn75)


KEY = ("kind", "seed", "cells", "budget", "method", "base", "device", "threads")
_TYPES = {"int": int, "float": float, "str": str}


class Results:
    """The rows of one CSV file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = [_parse(record) for record in csv.DictReader(file)]

    def is_done(self, described: dict[str, Any]) -> bool:
        """Return whether there is a row of this run."""
        wanted = tuple(described[name] for name in KEY)
        return any(row.key == wanted for row in self.rows)

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows to the file at once; a run that is killed later keeps them."""
        rows = list(rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f.name for f in dataclasses.fields(Row)])
            if new:
                writer.writeheader()
            writer.writerows(dataclasses.asdict(row) for row in rows)
        self.rows += rows

    def write_report(self, text: str) -> None:
        """Write the tables beside the rows, and print them."""
        self.path.with_suffix(".md").write_text(text.rstrip() + "\n", encoding="utf-8")
        print(text)


def _parse(record: dict[str, str]) -> Row:
    return Row(**{f.name: _TYPES[str(f.type)](record[f.name]) for f in dataclasses.fields(Row)})


def pooled(rows: Iterable[Row], threshold: int = 50) -> float:
    """Return TP / (TP + FP + FN) of all rows together."""
    tp = fp = fn = 0
    for row in rows:
        tp += getattr(row, f"tp{threshold}")
        fp += getattr(row, f"fp{threshold}")
        fn += getattr(row, f"fn{threshold}")
    return _ratio(tp, tp + fp + fn)


def newest(rows: list[Row]) -> list[Row]:
    """Keep what belongs together: device and threads of the last row, and the last base.

    A run that was repeated counts once, with its last rows.
    """
    if not rows:
        return []
    last = rows[-1]
    bases = {row.method: row.base for row in rows}
    kept = {
        (row.key, row.variant): row
        for row in rows
        if (row.device, row.threads) == (last.device, last.threads)
        and row.base == bases[row.method]
    }
    return list(kept.values())


def select(rows: Iterable[Row], **values: Any) -> Iterator[Row]:
    """Yield the rows with these values; budget 0 (needs no training time) fits any budget."""
    for row in rows:
        if all(
            getattr(row, name) == value or (name == "budget" and row.budget == 0)
            for name, value in values.items()
        ):
            yield row


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
