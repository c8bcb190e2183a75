"""Label arrays as users have them: any integer or whole-number type, read part by part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError
from napari_unet.core.planes import read_window

Labels = npt.NDArray[np.signedinteger]
Window = tuple[slice, slice]
Box = tuple[int, int, int, int]

# Whole planes are handled in parts of this side, so that temporary arrays stay small.
PART = 2048


def as_label_array(labels: Any) -> Any:
    """Return ``labels`` as an array with at least two axes, without reading its values.

    Raises
    ------
    InputError
        If it is not an array of real numbers, has fewer than two axes or is empty.
    """
    if not hasattr(labels, "shape") or not hasattr(labels, "dtype"):
        labels = np.asarray(labels)
    if np.dtype(labels.dtype).kind not in "buif":
        raise InputError(f"Labels must be whole numbers, not {labels.dtype}.")
    if len(labels.shape) < 2:
        raise InputError(f"Labels need at least 2 axes, this array has {len(labels.shape)}.")
    if 0 in labels.shape:
        raise InputError(f"The label array is empty (its shape is {tuple(labels.shape)}).")
    return labels


def read_labels(labels: Any, index: tuple[Any, ...] = ()) -> Labels:
    """Read ``labels[index]`` as signed integers: int32, or int64 where an id needs it.

    True of a boolean array is object 1. Floating-point labels are accepted when they are whole
    numbers.

    Raises
    ------
    InputError
        If they cannot be read, or a value is not a whole number, is below -1 or does not fit 64
        signed bits.
    """
    part = read_window(labels, index, "labels")
    kind = part.dtype.kind
    if kind == "b":
        return part.astype(np.int32)
    if kind == "f":
        _check_whole(part)
    # As Python's numbers, which compare exactly.
    low, high = part.min(initial=0).item(), part.max(initial=0).item()
    if low < -1:
        raise InputError(
            f"Labels must be -1 (background), 0 (unlabelled) or positive, not {int(low)}."
        )
    if high > np.iinfo(np.int64).max:
        raise InputError(f"The label {int(high)} is too large; renumber the objects.")
    fits = high <= np.iinfo(np.int32).max
    return part.astype(np.int32 if fits else np.int64, copy=False)


def _check_whole(part: npt.NDArray[np.floating]) -> None:
    if not np.isfinite(part).all():
        raise InputError("Labels must be whole numbers; this array holds NaN or infinity.")
    wrong = part[part != np.rint(part)]
    if wrong.size:
        raise InputError(f"Labels must be whole numbers; this array holds {wrong.flat[0]}.")


def plane_indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the index of every 2-D plane of a stack (one empty index for a single plane)."""
    yield from np.ndindex(*shape[:-2])


def parts(height: int, width: int, side: int = PART) -> Iterator[Window]:
    """Cut a plane into windows of at most ``side`` x ``side`` pixels."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def grown(window: Window, margin: int, height: int, width: int) -> Window:
    """Return ``window`` extended by ``margin`` pixels on all sides, inside the plane."""
    rows, columns = window
    return (
        slice(max(rows.start - margin, 0), min(rows.stop + margin, height)),
        slice(max(columns.start - margin, 0), min(columns.stop + margin, width)),
    )


def shifted(window: Window, rows: int, columns: int) -> Window:
    """Return ``window`` moved down and to the right."""
    return (
        slice(window[0].start + rows, window[0].stop + rows),
        slice(window[1].start + columns, window[1].stop + columns),
    )


def relative(window: Window, outer: Window) -> Window:
    """Return ``window`` in the coordinates of ``outer``."""
    return shifted(window, -outer[0].start, -outer[1].start)


def bounding_box(mask: npt.NDArray[np.bool_]) -> Box | None:
    """Return the half-open box ``y0, x0, y1, x1`` around the True pixels, None without any."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def bounding_window(mask: npt.NDArray[np.bool_]) -> Window:
    """Return the smallest window that holds every True pixel, an empty one without any."""
    y0, x0, y1, x1 = bounding_box(mask) or (0, 0, 0, 0)
    return slice(y0, y1), slice(x0, x1)
