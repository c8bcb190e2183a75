"""Planes of label stacks, one after the other, and the numbers of objects in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError, stop_if
from napari_unet.core.overlap import as_labels
from napari_unet.core.planes import read_window
from napari_unet.io.grid import Grid


def label_planes(
    labels: Any, cancelled: Callable[[], bool] | None = None
) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
    """Yield the index along the leading axes and the labels ``(Y, X)`` of each plane.

    Parameters
    ----------
    labels
        Whole numbers ``(..., Y, X)``; only one plane at a time is read from zarr or dask.
    cancelled
        Asked before each plane.

    Raises
    ------
    InputError
        If there are fewer than 2 axes, or the labels cannot be read or are not whole numbers.
    StoppedError
        If ``cancelled`` says so.
    """
    if not hasattr(labels, "shape"):
        labels = np.asarray(labels)
    if len(labels.shape) < 2:
        raise InputError(f"Labels have at least 2 axes (Y and X), not {len(labels.shape)}.")
    for index in np.ndindex(*labels.shape[:-2]):
        stop_if(cancelled)
        yield index, as_labels(read_window(labels, index, "labels"), "labels")


def positions(grid: Grid, index: tuple[int, ...]) -> dict[str, int]:
    """Return the position of a plane by axis letter, such as ``{"T": 3, "Z": 0}``."""
    return dict(zip(grid.axes, index, strict=False))


def object_numbers(found: Sequence[int | None]) -> list[int]:
    """Return the labels of the objects of a file: their own numbers if all have one above 0.

    Otherwise they are counted from 1: an object 0 would be background, and a counted object among
    numbered ones could get the number of another.

    Raises
    ------
    InputError
        If a number does not fit into a label image.
    """
    numbers = [number or 0 for number in found]
    if min(numbers, default=1) < 1:
        return list(range(1, len(numbers) + 1))
    if max(numbers, default=1) > np.iinfo(np.int32).max:
        raise InputError(
            f"The file holds an object {max(numbers)}, beyond 2,147,483,647; renumber its objects."
        )
    return numbers
