"""How good masks get from a few painted cells and a few seconds, against other methods.

k neighbouring cells of one image are "painted", everything else is unlabelled; a method may use
them for a number of seconds, and is scored on other images of the same look that no shipped model
was trained on. See ``few_cells_data.py`` for the images and ``peers.py`` for the other methods.

    python -m benchmarks.few_cells                       a first look: 20 cells, 60 s, one seed
    python -m benchmarks.few_cells --full                the whole grid, about two days on 2 cores
    python -m benchmarks.few_cells --full --cross        60 s or 20 cells only, about 16 hours
    python -m benchmarks.few_cells --kinds SEM phase --cells 5 20 --budgets 15 60 --seeds 3
    python -m benchmarks.few_cells --report              table and figure from what has been run

Every finished run is a line of ``results/few_cells.csv``; runs that are there are not repeated,
so the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.metadata
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.few_cells_data import DATA, KINDS
from benchmarks.few_cells_methods import METHODS, TIMED, Job, run
from benchmarks.few_cells_report import REFERENCE_BUDGET, REFERENCE_CELLS, figure, text
from benchmarks.few_cells_rows import Results, Row
from benchmarks.report import RESULTS, conditions

CELLS = (1, 3, 5, 10, 20, 50)
BUDGETS = (15.0, 30.0, 60.0, 180.0)
SEEDS = 5
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "few_cells.png"
_PACKAGES = ("napari-unet-finetune", "torch", "scikit-learn", "cellpose")

AnyJob = TypeVar("AnyJob")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.few_cells",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--full", action="store_true", help="all cells, budgets and 5 seeds")
    parser.add_argument(
        "--cross",
        action="store_true",
        help=f"only runs with {REFERENCE_CELLS} cells or {REFERENCE_BUDGET:g} s",
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--cells", nargs="+", type=int, metavar="K")
    parser.add_argument("--budgets", nargs="+", type=float, metavar="S")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--base", default="auto", help="base model: name, file or auto")
    parser.add_argument("--device", default="cpu", help="for the U-Net (default: cpu)")
    parser.add_argument("--threads", type=int, default=2, help="per run (default: 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time (default: 1)")
    parser.add_argument("--minutes", type=float, help="start no run after so many minutes")
    parser.add_argument("--csv", type=Path, default=RESULTS / "few_cells.csv")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--report", action="store_true", help="run nothing, write the report")
    options = parser.parse_args(arguments)
    options.cells = options.cells or list(CELLS if options.full else (REFERENCE_CELLS,))
    options.budgets = options.budgets or list(BUDGETS if options.full else (REFERENCE_BUDGET,))
    options.seeds = options.seeds or (SEEDS if options.full else 1)
    return options


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Yield the runs of a grid, the most telling first, so that a part of it is balanced."""
    fixed = {"base": options.base, "device": options.device, "threads": options.threads}
    if "base" in options.methods:
        for kind in options.kinds:
            yield Job(kind, 0, 0, 0.0, "base", **fixed)
    cells = sorted(options.cells, key=lambda k: (k != REFERENCE_CELLS, k != 5, k))
    budgets = sorted(options.budgets, key=lambda s: (s != REFERENCE_BUDGET, s))
    for budget in budgets:
        for count in cells:
            if options.cross and REFERENCE_CELLS != count and budget != REFERENCE_BUDGET:
                continue
            for seed in range(options.seeds):
                for kind in options.kinds:
                    for method in options.methods:
                        timed = method in TIMED
                        if timed or budget == budgets[0]:
                            yield Job(kind, seed, count, budget if timed else 0.0, method, **fixed)


def run_all(
    pending: Sequence[AnyJob],
    results: Results,
    run: Callable[[AnyJob], list[Row]],
    workers: int = 1,
    minutes: float | None = None,
) -> None:
    """Run jobs and write each one's rows as soon as they are there."""
    end = time.monotonic() + 60 * (minutes or 1e9)
    if workers == 1:
        for number, job in enumerate(pending, start=1):
            if time.monotonic() > end:
                return
            _record(run(job), results, number, len(pending))
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: set[concurrent.futures.Future[list[Row]]] = set()
        queue = list(reversed(pending))
        number = 0
        while True:
            while queue and len(waiting) < workers and time.monotonic() < end:
                waiting.add(pool.submit(run, queue.pop()))
            if not waiting:
                return
            done, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for finished in done:
                number += 1
                _record(finished.result(), results, number, len(pending))


def _record(rows: list[Row], results: Results, number: int, total: int) -> None:
    results.append(rows)
    for row in rows:
        print(
            f"[{number}/{total}] {row.kind} k={row.cells} seed={row.seed} {row.budget:g} s "
            f"{row.method} {row.variant}: AP50 {row.ap50:.2f}, AP75 {row.ap75:.2f}, "
            f"{row.train_seconds:.0f} + {row.segment_seconds:.0f} s. {row.note}",
            flush=True,
        )


def report(results: Results, path: Path) -> None:
    """Write table and figure."""
    if not any(row.cells > 0 for row in results.rows):
        print(f"{results.path.name} holds no runs yet.")
        return
    figure(results.rows, path)
    results.write_report(text(results.rows, conditions(*_installed())))


def _installed() -> list[str]:
    known = {distribution.name for distribution in importlib.metadata.distributions()}
    return [name for name in _PACKAGES if name in known]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing of the grid, then report."""
    options = parse(arguments)
    logging.basicConfig(level=logging.WARNING)
    results = Results(options.csv)
    if not options.report:
        if not DATA.is_dir():
            print("The real annotated images (../shared/data) are not here: nothing to run.")
            return
        pending = [job for job in jobs(options) if not results.is_done(job.describe())]
        run_all(pending, results, run, options.jobs, options.minutes)
    report(results, options.figure)


if __name__ == "__main__":
    main()
