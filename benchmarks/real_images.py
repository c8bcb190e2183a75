"""The whole job on real images through the command line itself: train, segment, evaluate.

Ten painted cells of one image, four other images of the same look; then a network from scratch
on one densely annotated image, which has to beat Otsu's threshold clearly.

    python -m benchmarks.real_images                 about ten minutes
    python -m benchmarks.real_images --seconds 10 --dense-seconds 20 --kinds fluo_small
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from training.base_data import AnnotatedImage

from benchmarks import peers
from benchmarks.few_cells_data import DATA, KINDS, Case, Labels, case, count_cells
from benchmarks.report import conditions, table, write

PAINTED_CELLS = 10
DENSE_KIND = "fluo_large"
#: Otsu has to be beaten by so much AP50.
CLEARLY = 0.05


@dataclass(frozen=True)
class Scores:
    """What ``napari-unet evaluate`` says."""

    ap50: float
    ap75: float
    f1: float
    objects: int
    predicted: int


def command(*words: str | Path | float) -> tuple[str, float]:
    """Run ``napari-unet`` and return what it prints and the seconds it took.

    Raises
    ------
    RuntimeError
        If it fails; the message is what it wrote to standard error.
    """
    program = Path(sys.executable).with_name("napari-unet")
    start = time.perf_counter()
    done = subprocess.run(
        [str(program), *map(str, words)], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"napari-unet {words[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout, seconds


def lay_out(folder: Path, painted_on: AnnotatedImage, painted: Labels, task: Case) -> None:
    """Write the files a user would have: an image, painted labels, other images, their truth."""
    for name in ("images", "truth"):
        (folder / name).mkdir(parents=True)
    write_image(folder / "image.tif", painted_on.image)
    tifffile.imwrite(folder / "painted.tif", painted.astype(np.int32))
    write_others(folder, task.scored)


def write_others(folder: Path, others: Iterable[AnnotatedImage]) -> None:
    """Write images and their true labels."""
    for item in others:
        write_image(folder / "images" / f"{item.identifier}.tif", item.image)
        truth = folder / "truth" / f"{item.identifier}.tif"
        tifffile.imwrite(truth, item.labels.astype(np.int32))


def write_image(path: Path, image: Any) -> None:
    """Write a gray or RGB image."""
    colours = "rgb" if image.ndim == 3 else "minisblack"
    tifffile.imwrite(path, image, photometric=colours)


def evaluate(folder: Path, predictions: str) -> Scores:
    """Run ``napari-unet evaluate`` on two folders."""
    printed, _ = command("evaluate", folder / predictions, folder / "truth", "--json")
    found = json.loads(printed)
    at = {round(threshold, 2): position for position, threshold in enumerate(found["thresholds"])}
    precision = found["average_precision"]
    return Scores(
        precision[at[0.5]],
        precision[at[0.75]],
        found["f1"][at[0.5]],
        found["objects"],
        found["predicted"],
    )


def whole_job(folder: Path, *options: str | float) -> tuple[Scores, float, float, str]:
    """Train, segment and evaluate; return scores, both times and the decision."""
    model = folder / "model.safetensors"
    said, training = command(
        "train", folder / "image.tif", folder / "painted.tif", "--model", model, *options
    )
    _, segmenting = command("segment", folder / "images", "--model", model, "--output",
                            folder / "masks", "--device", "cpu")  # fmt: skip
    decision = said.strip().splitlines()[-2] if said.count("\n") > 1 else said.strip()
    return evaluate(folder, "masks"), training, segmenting, decision


def otsu_masks(folder: Path, painted_on: AnnotatedImage, painted: Labels, task: Case) -> Scores:
    """Score Otsu's threshold through the same command."""
    segment = peers.otsu(painted_on.image, painted)
    (folder / "otsu").mkdir()
    for item in task.scored:
        tifffile.imwrite(folder / "otsu" / f"{item.identifier}.tif", segment(item.image))
    return evaluate(folder, "otsu")


def few_cells(kinds: Sequence[str], seconds: float, base: str) -> tuple[str, list[str]]:
    """Run ten painted cells of each kind; return the table and what training said."""
    lines, decisions = [], []
    for kind in kinds:
        task = case(kind, 0, PAINTED_CELLS)
        assert task.painted_on is not None
        assert task.labels is not None
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lay_out(folder, task.painted_on, task.labels, task)
            options = ("--base", base, "--seconds", seconds, "--device", "cpu")
            scores, training, segmenting, decision = whole_job(folder, *options)
            other = otsu_masks(folder, task.painted_on, task.labels, task)
        lines.append(
            (
                kind,
                task.painted,
                len(task.scored),
                f"{scores.objects} / {scores.predicted}",
                *(f"{value:.2f}" for value in (scores.ap50, scores.ap75, scores.f1)),
                f"{other.ap50:.2f}",
                f"{training:.0f}",
                f"{segmenting / max(1, len(task.scored)):.1f}",
            )
        )
        decisions.append(f"- {kind}: {decision}")
        print(lines[-1], decision, flush=True)
    header = (
        "kind", "painted", "images", "objects true / found", "AP50", "AP75", "F1", "Otsu AP50",
        "s training", "s per image",
    )  # fmt: skip
    return table(header, lines), decisions


def dense(seconds: float) -> tuple[str, str, bool]:
    """Train from scratch on one densely annotated image; return table, decision and verdict."""
    task = case(DENSE_KIND, 0, PAINTED_CELLS)
    assert task.painted_on is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, task.painted_on, task.painted_on.labels, task)
        options = ("--base", "none", "--area", "all", "--seconds", seconds, "--device", "cpu")
        scores, training, segmenting, decision = whole_job(folder, *options)
        other = otsu_masks(folder, task.painted_on, task.painted_on.labels, task)
    lines = [
        (
            label,
            f"{found.objects} / {found.predicted}",
            *(f"{value:.2f}" for value in (found.ap50, found.ap75, found.f1)),
            *times,
        )
        for label, found, times in (
            (
                f"U-Net from scratch, {count_cells(task.painted_on.labels)} cells",
                scores,
                (f"{training:.0f}", f"{segmenting / max(1, len(task.scored)):.1f}"),
            ),
            ("Otsu", other, ("", "")),
        )
    ]
    header = ("method", "objects true / found", "AP50", "AP75", "F1", "s training", "s per image")
    return table(header, lines), decision, scores.ap50 >= other.ap50 + CLEARLY


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, write the tables; return 1 when Otsu is not clearly beaten."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--seconds", type=float, default=60.0, help="training on a few cells")
    parser.add_argument("--dense-seconds", type=float, default=60.0, help="training from scratch")
    parser.add_argument("--base", default="auto", help="base model: name, file, auto or none")
    options = parser.parse_args(arguments)
    if not DATA.is_dir():
        print("The real annotated images (../shared/data) are not here: nothing to run.")
        return 0
    few, decisions = few_cells(options.kinds, options.seconds, options.base)
    full, decision, beaten = dense(options.dense_seconds)
    verdict = "clearly beats" if beaten else "does NOT clearly beat"
    parts = [
        "# The command line on real images",
        conditions("napari-unet-finetune", "torch"),
        f"`napari-unet train IMAGE PAINTED --model OUT --base {options.base} --seconds "
        f"{options.seconds:g} --device cpu`, then `segment` on other images of the same look that "
        "no model was trained on, then `evaluate`. Times are those of whole commands, start-up "
        "included.",
        "## A few painted cells of one image",
        few,
        "What training said:",
        "\n".join(decisions),
        f"## From scratch on one densely annotated image ({DENSE_KIND})",
        f"`--base none --area all --seconds {options.dense_seconds:g}`, scored on other images. "
        f"The network {verdict} Otsu (by at least {CLEARLY:.2f} AP50). {decision}",
        full,
    ]
    write("real_images", "\n\n".join(parts))
    return int(not beaten)


if __name__ == "__main__":
    sys.exit(main())
