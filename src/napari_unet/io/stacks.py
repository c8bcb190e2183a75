"""Planes of label stacks, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError
from napari_unet.core.overlap import as_labels
from napari_unet.io.grid import Grid


def label_planes(labels: Any) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
    """Yield the index along the leading axes and the labels ``(Y, X)`` of each plane.

    Parameters
    ----------
    labels
        Whole numbers ``(..., Y, X)``; only one plane at a time is read from zarr or dask.

    Raises
    ------
    InputError
        If there are fewer than 2 axes or the labels are not whole numbers.
    """
    if not hasattr(labels, "shape"):
        labels = np.asarray(labels)
    if len(labels.shape) < 2:
        raise InputError(f"Labels have at least 2 axes (Y and X), not {len(labels.shape)}.")
    for index in np.ndindex(*labels.shape[:-2]):
        yield index, as_labels(np.asarray(labels[index]), "labels")


def positions(grid: Grid, index: tuple[int, ...]) -> dict[str, int]:
    """Return the position of a plane by axis letter, such as ``{"T": 3, "Z": 0}``."""
    return dict(zip(grid.axes, index, strict=False))
