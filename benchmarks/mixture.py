"""How much of the trained weights to mix into the base: one training, several shares.

Images, painted cells and scoring are those of ``few_cells.py``; every share is scored with the same
object sizes, those that the base finds. The number of steps is fixed, so that the machine does not
matter.

    python -m benchmarks.mixture                          six kinds, five seeds, an hour
    python -m benchmarks.mixture --kinds SEM --seeds 1 --steps 50
    python -m benchmarks.mixture --report                 table from what has been run

Finished runs are lines of ``results/mixture.csv`` and are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from training.base_data import AnnotatedImage

from benchmarks.few_cells_data import DATA, KINDS, Case, case
from benchmarks.few_cells_methods import Counts, Device, Labels, score, starting_model, train
from benchmarks.report import RESULTS, conditions, table, write
from napari_unet.core import delivery, training
from napari_unet.core.base_choice import AUTOMATIC
from napari_unet.core.delivery import Delivery
from napari_unet.core.diameter import estimate_diameter
from napari_unet.core.judging import quality
from napari_unet.core.model import Model
from napari_unet.core.planes import as_plane
from napari_unet.core.segmentation import segment
from napari_unet.core.settings import TileSettings, TrainSettings

#: Shares of the trained weights; 0 is the base.
SHARES = (0.0, 0.2, 0.35, 0.5, 0.7, 1.0)
_NOTABLE = 0.02
_TYPES = {"int": int, "float": float, "str": str}


@dataclass(frozen=True)
class Mixed:
    """What one share finds on the scored images of one case, at IoU 0.5 and 0.75.

    ``quality`` and ``loss`` are those on the painted cells that were held back.
    """

    kind: str
    seed: int
    cells: int
    steps: int
    share: float
    quality: float
    loss: float
    tp50: int
    fp50: int
    fn50: int
    tp75: int
    fp75: int
    fn75: int

    @property
    def case(self) -> tuple[str, int, int, int]:
        """Which training this is a result of."""
        return self.kind, self.seed, self.cells, self.steps

    @property
    def ap50(self) -> float:
        """TP / (TP + FP + FN) at IoU 0.5."""
        return self.tp50 / max(1, self.tp50 + self.fp50 + self.fn50)

    @property
    def ap75(self) -> float:
        """TP / (TP + FP + FN) at IoU 0.75."""
        return self.tp75 / max(1, self.tp75 + self.fp75 + self.fn75)


def delivered_with(share: float, *arguments: Any) -> Delivery:
    """Deliver a share of the trained weights, whatever the guard says of it."""
    wanted = {0.0: "base", 1.0: "tuned"}.get(share, "mixture")

    def margin(name: str, _trusted: float, *, held_back: bool) -> float:
        return -10.0 if name == wanted else 0.0

    with (
        mock.patch.object(delivery, "margin", margin),
        mock.patch.object(delivery, "MIXTURE", share),
    ):
        return delivery.deliver(*arguments)


def run(
    kind: str, seed: int, cells: int, steps: int, device: Device = "cpu", threads: int = 2
) -> list[Mixed]:
    """Train once, deliver and score each share."""
    torch.set_num_threads(threads)
    task = case(kind, seed, cells)
    settings = TrainSettings(steps=steps, seconds=None, device=device, seed=seed)
    base = starting_model(AUTOMATIC, task, settings)
    shares: dict[float, Delivery] = {}
    deliver = training.deliver

    def every_share(*arguments: Any, **options: Any) -> Delivery:
        shares.update({share: delivered_with(share, *arguments) for share in SHARES})
        return deliver(*arguments, **options)

    with mock.patch.object(training, "deliver", every_share):
        train(task, settings, base)
    assert base is not None
    sizes = {item.identifier: _size(base, item.image, device) for item in task.scored}
    results = []
    for share, found in shares.items():
        counts = vars(_counts(task, found.model, sizes, TileSettings(device=device)))
        wanted = {name: counts[name] for name in counts if name[:2] in ("tp", "fp", "fn")}
        judged = quality(found.scores), found.scores.loss
        results.append(Mixed(kind, seed, cells, steps, share, *judged, **wanted))
    return results


def _size(base: Model, image: Any, device: Device) -> float | None:
    return estimate_diameter(base, as_plane(image), settings=TileSettings(device=device))


def _counts(
    task: Case, model: Model, sizes: dict[str, float | None], tiles: TileSettings
) -> Counts:
    def segmented(item: AnnotatedImage) -> Labels:
        return segment(model, item.image, settings=tiles, diameter=sizes[item.identifier])

    return score(task.scored, segmented)[0]


def read(path: Path) -> list[Mixed]:
    """Read the finished runs."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Mixed(**{f.name: _TYPES[str(f.type)](row[f.name]) for f in fields(Mixed)})
            for row in csv.DictReader(file)
        ]


def append(path: Path, results: Sequence[Mixed]) -> None:
    """Add the results of one training."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Mixed)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(asdict(result) for result in results)


def least_loss(shares: Mapping[float, Mixed]) -> Mixed:
    """Return the share of one case with the least loss on the cells held back; 0 is the base."""
    return min(shares.values(), key=lambda one: one.loss)


def best_found(shares: Mapping[float, Mixed]) -> Mixed:
    """Return the share of one case that finds the cells held back best."""
    return max(shares.values(), key=lambda one: one.quality)


def text(results: Sequence[Mixed]) -> str:
    """Return the table: change against the base on the same images."""
    cases: dict[tuple[str, int, int, int], dict[float, Mixed]] = {}
    for result in results:
        cases.setdefault(result.case, {})[result.share] = result
    picks: dict[str, Callable[[Mapping[float, Mixed]], Mixed]] = {
        f"{share:g}": operator.itemgetter(share) for share in SHARES[1:]
    }
    lines = []
    picks |= {"of least loss": least_loss, "of best cells": best_found}
    for name, pick in picks.items():
        pairs = [(pick(shares), shares[0.0]) for shares in cases.values()]
        changes = [one.ap50 - base.ap50 for one, base in pairs]
        strict = [one.ap75 - base.ap75 for one, base in pairs]
        lines.append(
            [
                name,
                f"{statistics.fmean(changes):+.3f}",
                f"{min(changes):+.3f}",
                sum(change < -_NOTABLE for change in changes),
                sum(change > _NOTABLE for change in changes),
                f"{statistics.fmean(strict):+.3f}",
            ]
        )
    header = ["trained share", "AP50", "worst", "0.02 worse", "0.02 better", "AP75"]
    done = sorted({result.case[2:] for result in results})
    cells = ", ".join(f"{k} painted cells and {steps} steps" for k, steps in done)
    about = (
        f"Change against the base, {len(cases)} cases of {cells}, each share always delivered. In "
        "the last two lines the cells held back choose between base and shares in each case: by "
        "the loss there, and by how well objects are found."
    )
    return "\n\n".join(
        [
            "# How much of the trained weights",
            conditions("napari-unet-finetune", "torch"),
            about,
            table(header, lines),
        ]
    )


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mixture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--cells", type=int, default=20, metavar="K")
    parser.add_argument("--steps", type=int, default=150, metavar="S")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="per run (default: 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time (default: 1)")
    parser.add_argument("--csv", type=Path, default=RESULTS / "mixture.csv")
    parser.add_argument("--report", action="store_true", help="run nothing, write the table")
    options = parser.parse_args()
    results = read(options.csv)
    if not options.report and not DATA.is_dir():
        print("The real annotated images (../shared/data) are not here: nothing to run.")
        return
    done = {result.case for result in results}
    wanted = [
        (kind, seed, options.cells, options.steps)
        for seed in range(options.seeds)
        for kind in options.kinds
    ]
    pending = [] if options.report else [one for one in wanted if one not in done]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        runs = [pool.submit(run, *one, options.device, options.threads) for one in pending]
        for finished in as_completed(runs):
            append(options.csv, found := finished.result())
            results += found
            print(*found[0].case, *(f"{one.share:g}: {one.ap50:.3f}" for one in found), flush=True)
    if results:
        write("mixture", text(results))


if __name__ == "__main__":
    main()
