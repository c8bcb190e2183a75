"""Label images as TIFF that ImageJ opens, with pixel size, unit and position."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.atomic import atomic_file
from napari_unet.core.errors import InputError
from napari_unet.core.overlap import as_labels
from napari_unet.io.grid import Grid, file_axes, grid_for
from napari_unet.io.images import ImageFile, read_labels
from napari_unet.io.tiff_calibration import imagej_metadata

_IMAGEJ_ORDER = "TZCYX"
_LARGEST_CLASSIC = 2**32 - 2**25


def write_masks(path: str | Path, labels: npt.ArrayLike, *, grid: Grid | None = None) -> None:
    """Write objects as unsigned integers; painted background (-1) becomes 0.

    Up to 65,535 the file is an ordinary 16-bit ImageJ TIFF. Beyond, it is 32-bit unsigned with the
    same ImageJ description: ImageJ opens that as 32-bit float, exact up to label 16,777,216; other
    programs read the integers. Larger than 4 GB it is BigTIFF, which ImageJ opens through
    Bio-Formats.

    Parameters
    ----------
    path
        File to write; replaced when it exists.
    labels
        Integer array ``(..., Y, X)`` with at most 5 axes.
    grid
        Axes, pixel size, position and units.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing file is left as it was.
    InputError
        If labels are not whole numbers, above 4,294,967,295 or have too many axes.
    """
    array: npt.NDArray[Any] = np.maximum(as_labels(labels, "labels"), 0)
    largest = int(array.max(initial=0))
    if largest > np.iinfo(np.uint32).max:
        raise InputError(f"Label {largest} does not fit into a TIFF file; renumber the labels.")
    _write(path, array.astype(np.uint16 if largest < 2**16 else np.uint32), grid)


def write_annotation(path: str | Path, labels: npt.ArrayLike, *, grid: Grid | None = None) -> None:
    """Write an annotation as it is, painted background (-1) included, as signed 32-bit TIFF.

    Parameters and errors are those of :func:`write_masks`.
    """
    array = as_labels(labels, "labels")
    limits = np.iinfo(np.int32)
    if array.size and not limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
        raise InputError("Labels beyond 2,147,483,647 do not fit into the file; renumber them.")
    _write(path, array.astype(np.int32), grid)


def read_masks(path: str | Path) -> ImageFile:
    """Read a file of :func:`write_masks` or :func:`write_annotation`, or any label image.

    Raises
    ------
    InputError
        As :func:`~napari_unet.io.images.read_labels`.
    """
    return read_labels(path)


def _write(path: str | Path, array: npt.NDArray[Any], grid: Grid | None) -> None:
    import tifffile

    grid = grid_for(array, grid)
    grid = replace(grid, axes=file_axes(grid.axes))
    hyperstack = _as_hyperstack(array, grid.axes)
    entries, resolution = imagej_metadata(grid)
    # The range ImageJ shows at first; else it stretches the first plane's labels.
    entries |= {"min": 0.0, "max": float(max(1, int(array.max(initial=0))))}
    with atomic_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            hyperstack,
            photometric="minisblack",
            resolution=resolution,
            description=_imagej_description(hyperstack.shape, entries).encode(),
            metadata=None,
            bigtiff=array.nbytes > _LARGEST_CLASSIC,
        )


def _as_hyperstack(array: npt.NDArray[Any], axes: str) -> npt.NDArray[Any]:
    """Bring an array into ImageJ's order of axes, TZCYX."""
    ordered = array.transpose([axes.index(letter) for letter in _IMAGEJ_ORDER if letter in axes])
    missing = tuple(i for i, letter in enumerate(_IMAGEJ_ORDER) if letter not in axes)
    return np.ascontiguousarray(np.expand_dims(ordered, missing))


def _imagej_description(shape: tuple[int, ...], entries: dict[str, Any]) -> str:
    frames, slices, channels = shape[:3]
    axes = {"channels": channels, "slices": slices, "frames": frames}
    lines: dict[str, Any] = {"ImageJ": "1.11a", "images": frames * slices * channels}
    lines |= {name: count for name, count in axes.items() if count > 1}
    if max(axes.values()) > 1:
        lines |= {"hyperstack": "true", "mode": "grayscale"}
    return "".join(f"{name}={value}\n" for name, value in {**lines, **entries}.items())
