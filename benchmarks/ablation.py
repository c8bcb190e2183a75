"""What each ingredient of training brings: the same runs with one of them taken away.

Images, painted cells and scoring are those of ``few_cells.py``. Differences are taken between
runs on the same cells and scored images.

    python -m benchmarks.ablation                          three kinds, three seeds, over an hour
    python -m benchmarks.ablation --kinds SEM --seeds 1 --budget 15 --variants "no ridge"
    python -m benchmarks.ablation --report                 table from what has been run

Finished runs are lines of ``results/ablation.csv`` and are not repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch

from benchmarks.few_cells import run_all
from benchmarks.few_cells_data import DATA, KINDS, case
from benchmarks.few_cells_methods import (
    Device,
    base_identity,
    score,
    starting_model,
    train,
    unet_segmenter,
)
from benchmarks.few_cells_report import mean_and_spread
from benchmarks.few_cells_rows import Results, Row, newest, select
from benchmarks.report import RESULTS, conditions, table
from napari_unet.core import optimization
from napari_unet.core.base_choice import AUTOMATIC
from napari_unet.core.segmentation import Diameter
from napari_unet.core.settings import TrainSettings

Start = Literal["fine-tuned", "from scratch"]
COMPLETE = "complete"
CELLS, BUDGET = 20, 60.0
DEFAULT_KINDS = ("fluo_small", "histology_purple", "SEM")


def _unchanged(settings: TrainSettings) -> TrainSettings:
    return settings


@dataclass(frozen=True)
class Variant:
    """Training with something taken away.

    Attributes
    ----------
    name
        What the table calls it.
    starts
        Where it makes a difference.
    change
        From the complete settings to those of the variant.
    matched
        Whether object sizes are matched.
    plain_norm
        Batch normalisation as usual, with the statistics of each batch until the end.
    """

    name: str
    starts: tuple[Start, ...] = ("fine-tuned", "from scratch")
    change: Callable[[TrainSettings], TrainSettings] = _unchanged
    matched: bool = True
    plain_norm: bool = False


VARIANTS = (
    Variant(COMPLETE),
    Variant(
        "no boundary weights",
        change=lambda s: replace(s, weights=replace(s.weights, w0=0.0)),
    ),
    Variant("no ridge", change=lambda s: replace(s, weights=replace(s.weights, ridge=0))),
    Variant(
        "neither weights nor ridge",
        change=lambda s: replace(s, weights=replace(s.weights, w0=0.0, ridge=0)),
    ),
    Variant(
        "no elastic deformation",
        change=lambda s: replace(s, augmentation=replace(s.augmentation, elastic=0.0)),
    ),
    Variant("sizes not matched", starts=("fine-tuned",), matched=False),
    Variant("no anchor to the base", starts=("fine-tuned",), change=lambda s: replace(s, anchor=0)),
    Variant("plain batch norm", plain_norm=True),
    Variant(
        "valid in place of same",
        starts=("from scratch",),
        change=lambda s: replace(s, network=replace(s.network, padding="valid")),
    ),
)
_BY_NAME = {variant.name: variant for variant in VARIANTS}


@dataclass(frozen=True)
class Job:
    """One variant on one case."""

    kind: str
    seed: int
    cells: int
    budget: float
    start: Start
    variant: str
    base: str = AUTOMATIC
    device: Device = "cpu"
    threads: int = 2

    def describe(self) -> dict[str, Any]:
        """Return the columns of a row that say what was run."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "cells": self.cells,
            "budget": self.budget,
            "method": f"{self.start}: {self.variant}",
            "base": base_identity(self.base) if self.start == "fine-tuned" else "",
            "device": self.device,
            "threads": self.threads,
        }


@contextlib.contextmanager
def plain_batch_norm() -> Iterator[None]:
    """Take the remedy for few cells away: statistics are never measured and fixed."""
    with (
        mock.patch.object(optimization, "NORM_FREEZE", 2.0),
        mock.patch.object(optimization, "freeze_norm", return_value=None),
    ):
        yield


def run(job: Job) -> list[Row]:
    """Train a variant and score it."""
    torch.set_num_threads(job.threads)
    variant = _BY_NAME[job.variant]
    task = case(job.kind, job.seed, job.cells)
    settings = variant.change(TrainSettings(seconds=job.budget, device=job.device, seed=job.seed))
    base = starting_model(job.base, task, settings) if job.start == "fine-tuned" else None
    if base is not None and not variant.matched:
        base = replace(base, diameter=None)
    with plain_batch_norm() if variant.plain_norm else contextlib.nullcontext():
        model, used, note = train(task, settings, base)
    diameter: Diameter = "auto" if job.start == "fine-tuned" else task.diameter
    counts, seconds = score(task.scored, unet_segmenter(model, diameter, job.device))
    row = Row(
        **job.describe(),
        variant="",
        painted=task.painted,
        painted_on=task.painted_on.identifier if task.painted_on else "",
        scored=len(task.scored),
        **vars(counts),
        train_seconds=round(used, 2),
        segment_seconds=round(seconds, 2),
        note=note,
    )
    return [row]


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Yield the runs, all variants of a seed before the next seed."""
    for seed in range(options.seeds):
        for kind in options.kinds:
            for start in options.starts:
                for variant in VARIANTS:
                    if start in variant.starts and variant.name in options.variants:
                        yield Job(
                            kind,
                            seed,
                            options.cells,
                            options.budget,
                            start,
                            variant.name,
                            options.base,
                            options.device,
                            options.threads,
                        )


def text(rows: list[Row], measured_on: str) -> str:
    """Return the report as Markdown."""
    rows = newest(rows)
    kinds = list(dict.fromkeys(row.kind for row in rows))
    last = rows[-1]
    bases = ", ".join(sorted({row.base for row in rows if row.base}))
    parts = [
        "# What each ingredient of training brings",
        measured_on,
        f"{last.cells} painted cells, {last.budget:g} s, device {last.device}, {last.threads} "
        f"threads; base {bases or 'none'}. Change: AP50 of the variant less AP50 of the complete "
        "training on the same painted cells and scored images, mean ± standard deviation over "
        "runs, and its mean for each kind. Merges and splits are per 100 true objects.",
    ]
    for start in ("fine-tuned", "from scratch"):
        complete = list(select(rows, method=f"{start}: {COMPLETE}"))
        if not complete:
            continue
        lines = [
            _line(variant, list(select(rows, method=f"{start}: {variant.name}")), complete, kinds)
            for variant in VARIANTS
            if any(select(rows, method=f"{start}: {variant.name}"))
        ]
        header = ("variant", "runs", "AP50", "AP75", "change", "merges", "splits", *kinds)
        parts += [f"## {start.capitalize()}", table(header, lines)]
    return "\n\n".join(parts)


def _line(variant: Variant, own: list[Row], complete: list[Row], kinds: Sequence[str]) -> list[str]:
    changes = {
        kind: [
            mine.ap50 - theirs.ap50
            for mine in select(own, kind=kind)
            for theirs in select(complete, kind=kind, seed=mine.seed, cells=mine.cells)
            if theirs.budget == mine.budget
        ]
        for kind in kinds
    }
    everything = [value for values in changes.values() for value in values]
    objects = sum(row.tp50 + row.fn50 for row in own)
    is_complete = variant.name == COMPLETE
    mean, spread = mean_and_spread(everything)
    return [
        variant.name,
        str(len(own)),
        f"{statistics.fmean(row.ap50 for row in own):.3f}",
        f"{statistics.fmean(row.ap75 for row in own):.3f}",
        "" if is_complete else f"{mean:+.3f} ± {spread:.3f}",
        f"{100 * sum(row.merges for row in own) / max(1, objects):.1f}",
        f"{100 * sum(row.splits for row in own) / max(1, objects):.1f}",
        *("" if is_complete else f"{mean_and_spread(changes[kind])[0]:+.3f}" for kind in kinds),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [variant.name for variant in VARIANTS]
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(DEFAULT_KINDS), metavar="KIND"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--cells", type=int, default=CELLS, metavar="K")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="S")
    starts = ("fine-tuned", "from scratch")
    parser.add_argument("--starts", nargs="+", choices=starts, default=list(starts))
    parser.add_argument("--variants", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--base", default=AUTOMATIC, help="base model: name, file or auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="per run (default: 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time (default: 1)")
    parser.add_argument("--minutes", type=float, help="start no run after so many minutes")
    parser.add_argument("--csv", type=Path, default=RESULTS / "ablation.csv")
    parser.add_argument("--report", action="store_true", help="run nothing, write the table")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    results = Results(options.csv)
    if not options.report:
        if not DATA.is_dir():
            print("The real annotated images (../shared/data) are not here: nothing to run.")
            return
        pending = [job for job in jobs(options) if not results.is_done(job.describe())]
        run_all(pending, results, run, options.jobs, options.minutes)
    if results.rows:
        measured_on = conditions("napari-unet-finetune", "torch")
        results.write_report(text(results.rows, measured_on))


if __name__ == "__main__":
    main()
