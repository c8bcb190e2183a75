"""`napari-unet weight-map`: what would be trained on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.cli.console import OK, note, say
from napari_unet.cli.files import existing_file, writable_file
from napari_unet.cli.options import given
from napari_unet.core.atomic import atomic_file
from napari_unet.core.settings import AnnotationSettings, WeightMapSettings
from napari_unet.io.images import read_labels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.annotation import TrainingTarget
    from napari_unet.io.grid import Grid


def run(options: argparse.Namespace) -> int:
    """Write the weights and print how many pixels are in which state."""
    path = existing_file(options.labels)
    output = writable_file(options.output, [path], suffixes=(".tif", ".tiff"))

    from napari_unet.core.annotation import check_trainable, training_target

    labels = read_labels(path)
    target = training_target(
        labels.data,
        settings=given(options, AnnotationSettings()),
        weights=given(options, WeightMapSettings()),
    )
    check_trainable(target)
    for warning in target.warnings:
        note(warning)
    write_weights(output, target.weight, labels.grid)
    _tell(target)
    say(f"Saved {output}")
    return OK


def write_weights(path: Path, weight: npt.NDArray[np.float32], grid: Grid) -> None:
    """Write weights as a float32 TIFF that ImageJ opens.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing file is left as it was.
    """
    import tifffile

    from napari_unet.io.tiff_calibration import imagej_metadata

    entries, resolution = imagej_metadata(grid)
    ordered = [axis for axis in "TZCYX" if axis in grid.axes]
    imagej = "".join(ordered) == grid.axes and weight.nbytes < 2**32
    with atomic_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            weight,
            imagej=imagej,
            resolution=resolution,
            photometric="minisblack",
            metadata={"axes": grid.axes, **entries},
        )


def _tell(target: TrainingTarget) -> None:
    counts = target.counts
    everything = target.state.size
    objects = "1 object" if counts.objects == 1 else f"{counts.objects:,} objects"
    say(f"{objects}, {counts.trained / everything:.1%} of the pixels are trained on")
    for name, pixels in (
        ("object", counts.object_pixels),
        ("background", counts.background),
        ("gap between objects", counts.emphasised),
        ("ignored", counts.ignored),
    ):
        say(f"  {name:<20}{pixels:>12,} px")
