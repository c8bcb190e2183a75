"""`napari-unet demo`: the whole job on simulated nuclei, judged against the exact truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_unet.cli.console import INTERRUPTED, OK, Interruptible, note, say
from napari_unet.cli.files import output_folder
from napari_unet.cli.train import follow_training, report
from napari_unet.core.errors import InputError
from napari_unet.core.settings import TrainSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.samples import paint_cells

if TYPE_CHECKING:
    from napari_unet.cli.picture import Curves
    from napari_unet.core.events import TrainingFinished

PAINTED_CELLS = 8
PICTURE = "demo.png"
#: What is written, apart from the picture.
RESULTS = (
    "image.tif",
    "new.tif",
    "painted.tif",
    "new_truth.tif",
    "new_masks.tif",
    "new_measurements.csv",
    "model.safetensors",
)
_SHAPE = (512, 512)
_THRESHOLDS = (0.5, 0.75, 0.9)
_Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Field:
    """A simulated image and its exact labels."""

    image: npt.NDArray[np.uint16]
    labels: _Labels


def _simulate(seed: int) -> _Field:
    """Simulate dim, crowded nuclei with coarse chromatin.

    They differ from the images that the base model knows, so that there is something to learn.
    """
    image, labels = simulate_nuclei(
        _SHAPE, diameter=26, touching=0.5, texture=0.5, photons=60, seed=seed
    )
    return _Field(image, labels)


def run(options: argparse.Namespace) -> int:
    """Paint, train, segment, compare and write everything into one folder."""
    with output_folder(options.output) as folder:
        _keep_others_files(folder)
        return _run(folder, options.seconds)


def _keep_others_files(folder: Path) -> None:
    """Check that what will be written replaces nothing but an earlier demo."""
    found = [name for name in RESULTS if (folder / name).exists()]
    if found and not (folder / PICTURE).exists():
        raise InputError(
            f"The folder {str(folder)!r} holds a file {found[0]!r} that is not from a demo; choose "
            "another folder."
        )


def _run(folder: Path, seconds: float) -> int:
    begin = time.perf_counter()
    known, new = _simulate(seed=1), _simulate(seed=2)
    painted = paint_cells(known.labels, PAINTED_CELLS)
    note(f"painted {PAINTED_CELLS} of the {known.labels.max()} simulated nuclei of an image")
    settings = TrainSettings(seconds=seconds)

    from napari_unet.cli.picture import Curves
    from napari_unet.core.base_choice import AUTOMATIC
    from napari_unet.core.pairs import TrainingPair
    from napari_unet.core.segmentation import segment

    curves = Curves()
    pair = TrainingPair(known.image, painted, name="the demo image")
    with Interruptible("nothing will be written") as interrupted:
        finished = follow_training([pair], settings, AUTOMATIC, interrupted, curves.record)
    if finished.reason == "stopped":
        note("stopped before the end; nothing was written")
        return INTERRUPTED
    note("segmenting an image that was not trained on")
    found = segment(finished.model, new.image)
    compared = {f"after training on {PAINTED_CELLS} cells": found}
    if finished.base is not None:
        compared["the model it started from"] = segment(finished.base, new.image)
    compared["no network, Otsu's threshold"] = otsu(new.image)
    table = list(comparison(new.labels, compared))
    _write(folder, finished, known, painted, new, found)
    _draw(folder / PICTURE, settings, curves, known, painted, new, found)
    for line in (*report(finished), "", *table, ""):
        say(line)
    say(f"All of it took {time.perf_counter() - begin:.0f} s; look at {folder / PICTURE}")
    return OK


def _write(
    folder: Path,
    finished: TrainingFinished,
    known: _Field,
    painted: _Labels,
    new: _Field,
    found: _Labels,
) -> None:
    """Write everything that is needed to repeat the job with the other commands."""
    import tifffile

    from napari_unet.core.atomic import atomic_file
    from napari_unet.core.model_file import save_model
    from napari_unet.io.masks_tiff import write_annotation, write_masks
    from napari_unet.io.measurements import write_measurements

    for name, image in (("image.tif", known.image), ("new.tif", new.image)):
        with atomic_file(folder / name) as temporary:
            tifffile.imwrite(temporary, image, imagej=True)
    write_annotation(folder / "painted.tif", painted)
    write_masks(folder / "new_truth.tif", new.labels)
    write_masks(folder / "new_masks.tif", found)
    write_measurements(folder / "new_measurements.csv", found, new.image)
    save_model(finished.model.with_name("demo"), folder / "model.safetensors")


def _draw(
    path: Path,
    settings: TrainSettings,
    curves: Curves,
    known: _Field,
    painted: _Labels,
    new: _Field,
    found: _Labels,
) -> None:
    from napari_unet.cli.picture import Story, draw
    from napari_unet.core.annotation import training_target
    from napari_unet.core.metrics import average_precision

    target = training_target(painted, settings=settings.annotation, weights=settings.weights)
    scores = average_precision(new.labels, found, _THRESHOLDS)
    caption = "average precision: " + ", ".join(
        f"{score:.2f} at {threshold:g}"
        for score, threshold in zip(scores, _THRESHOLDS, strict=True)
    )
    story = Story(
        known.image, painted, target.weight, curves, new.image, found, new.labels, caption
    )
    draw(story, path)


def comparison(truth: _Labels, found: dict[str, _Labels]) -> Iterator[str]:
    """Yield the lines of a table: average precision of several results against the truth."""
    from napari_unet.core.metrics import average_precision

    head = "".join(f"{f'AP {threshold:g}':>9}" for threshold in _THRESHOLDS)
    yield f"{'Against the exact truth':<32}{head}{'cells':>9}"
    for name, labels in found.items():
        scores = average_precision(truth, labels, _THRESHOLDS)
        cells = "".join(f"{score:9.2f}" for score in scores)
        yield f"{name:<32}{cells}{len(np.unique(labels[labels > 0])):>9}"
    yield f"{'truth':<32}{'':{9 * len(_THRESHOLDS)}}{len(np.unique(truth[truth > 0])):>9}"


def otsu(image: npt.NDArray[np.uint16]) -> _Labels:
    """Segment without any training: smooth, threshold, connected components."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1)
    labels, _ = ndimage.label(smooth > threshold_otsu(smooth))  # type: ignore[no-untyped-call]
    return np.asarray(labels, dtype=np.int32)
