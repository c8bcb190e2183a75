"""Warping error: disagreement that is left when the truth may be deformed.

Jain et al., "Boundary learning by optimization with topological constraints", CVPR 2010, and the
ISBI 2012 challenge (Arganda-Carreras et al. 2015). Foreground (inside of cells) is 4-connected,
background (borders) 8-connected.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.errors import InputError
from napari_unet.core.overlap import as_labels, ratio

BoolArray = npt.NDArray[np.bool_]

_OFFSETS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class WarpingErrors:
    """What deforming the truth cannot explain.

    Attributes
    ----------
    error
        Pixels that still disagree per scored pixel: the warping error of Jain et al. 2010. nan
        when no pixel is scored.
    mergers
        Connected groups of such pixels that join cells in the prediction. The challenge's "minimum
        splits and mergers" variant counts these and ``splits`` only.
    splits
        Groups that cut a cell.
    others
        Groups that add or delete a cell or a hole.
    """

    error: float
    mergers: int
    splits: int
    others: int


def warping_error(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    reach: float | None = None,
) -> float:
    """Return the warping error alone; see :func:`warping_errors`."""
    return warping_errors(truth, prediction, mask=mask, reach=reach).error


def warping_errors(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    reach: float | None = None,
) -> WarpingErrors:
    """Deform the truth towards the prediction and describe what is left.

    Parameters
    ----------
    truth, prediction
        Bool maps (True inside cells) or label images ``(Y, X)`` of the same shape; between
        touching objects of a label image a border is drawn. The challenge reported the smallest
        value over the thresholds of a probability map.
    mask
        True where a pixel is scored and may be changed.
    reach
        Geodesic mask: the truth may change only within this distance (pixels) of its own borders.
        Default: anywhere.

    Raises
    ------
    InputError
        If the arrays are not 2-D, shapes differ or values are not whole numbers.
    """
    source, target = inside_map(truth, "truth"), inside_map(prediction, "prediction")
    if source.shape != target.shape:
        raise InputError(
            f"Truth {source.shape} and prediction {target.shape} must have the same shape."
        )
    scored = np.ones(source.shape, bool) if mask is None else np.asarray(mask, dtype=bool)
    if scored.shape != source.shape:
        raise InputError(f"The mask {scored.shape} must have the labels' shape {source.shape}.")
    warped = warp(source, target, allowed=scored & _near_borders(source, reach))
    wrong = (warped != target) & scored
    mergers, added = _added_foreground(warped, wrong & target)
    splits, removed = _removed_foreground(warped, wrong & ~target)
    return WarpingErrors(
        error=ratio(int(wrong.sum()), int(scored.sum())),
        mergers=mergers,
        splits=splits,
        others=added + removed,
    )


def inside_map(labels: npt.ArrayLike, name: str = "labels") -> BoolArray:
    """Return True inside cells, with a border of 1 px between touching objects of a label image.

    The border takes the pixel above or left of the change.

    Raises
    ------
    InputError
        If the array is not 2-D or does not hold whole numbers.
    """
    array = as_labels(labels, name)
    if array.ndim != 2:
        raise InputError(f"The {name} must be one plane (2 axes), not {array.ndim} axes.")
    inside: BoolArray = array > 0
    result = inside.copy()
    for axis in (0, 1):
        here, there = _shifted(array, axis)
        touching = (here != there) & (here > 0) & (there > 0)
        first = [slice(None), slice(None)]
        first[axis] = slice(None, -1)
        result[tuple(first)] &= ~touching
    return result


def warp(source: BoolArray, target: BoolArray, *, allowed: BoolArray | None = None) -> BoolArray:
    """Change ``source`` towards ``target`` one simple point after the other.

    A simple point is a pixel whose change neither joins, cuts, adds nor deletes a component of
    foreground or background; so the result has the topology of ``source``. Beyond the image lies
    background. As in the publication only pixels that disagree are changed, and the result is a
    local optimum: a border that moved by more than its width is not followed.

    Parameters
    ----------
    source, target
        Bool maps ``(Y, X)``.
    allowed
        True where pixels may change (default: everywhere).

    Returns
    -------
    ndarray of bool
        The warped source, of the same shape.
    """
    width = source.shape[1] + 2
    pixels = np.pad(source, 1).ravel().astype(np.uint8)
    wanted = np.pad(target, 1).ravel().astype(np.uint8)
    free = np.pad(np.ones_like(source) if allowed is None else allowed, 1).ravel()
    simple = _simple_points()
    steps = [dy * width + dx for dy, dx in _OFFSETS]
    changed = True
    while changed:
        changed = False
        # Pixels of one class are never neighbours, so changing them at once equals changing them
        # one after the other.
        for parity in range(4):
            open_ = np.flatnonzero((pixels != wanted) & free)
            open_ = open_[(open_ // width % 2 * 2 + open_ % width % 2) == parity]
            code = np.zeros(len(open_), dtype=np.intp)
            for bit, step in enumerate(steps):
                code |= pixels[open_ + step].astype(np.intp) << bit
            flip = open_[simple[code]]
            pixels[flip] ^= 1
            changed |= bool(len(flip))
    return pixels.reshape(-1, width)[1:-1, 1:-1].astype(bool)


@functools.cache
def _simple_points() -> BoolArray:
    """Tell for each of the 256 neighbourhoods whether its centre is a simple point.

    Its foreground must form one 4-connected piece among those that touch the centre by an edge, and
    its background one 8-connected piece.
    """
    everywhere = np.ones((3, 3), dtype=int)
    result = np.zeros(256, dtype=bool)
    for code in range(256):
        ring = np.zeros((3, 3), dtype=bool)
        for bit, (dy, dx) in enumerate(_OFFSETS):
            ring[1 + dy, 1 + dx] = bool(code >> bit & 1)
        pieces = ndimage.label(ring)[0]
        by_edge = {int(pieces[y, x]) for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
        outside = ~ring
        outside[1, 1] = False
        result[code] = len(by_edge) == 1 and ndimage.label(outside, everywhere)[1] == 1
    return result


def _near_borders(source: BoolArray, reach: float | None) -> BoolArray:
    if reach is None:
        return np.ones_like(source)
    border = np.zeros_like(source)
    for axis in (0, 1):
        here, there = _shifted(source, axis)
        change = here != there
        first, second = [slice(None), slice(None)], [slice(None), slice(None)]
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        border[tuple(first)] |= change
        border[tuple(second)] |= change
    if not border.any():
        return border
    # A pixel at a border has distance 1: it is the first that may change.
    near: BoolArray = ndimage.distance_transform_edt(~border) + 1 <= reach
    return near


def _shifted(array: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    size = array.shape[axis]
    return array.take(range(size - 1), axis), array.take(range(1, size), axis)


def _added_foreground(warped: BoolArray, groups: BoolArray) -> tuple[int, int]:
    """Count groups of extra foreground that join cells, and those that do not."""
    cells = np.pad(ndimage.label(warped)[0], 1)
    group, count = ndimage.label(groups)
    rows, columns = np.nonzero(group)
    touched: list[set[int]] = [set() for _ in range(count)]
    index = group[rows, columns] - 1
    for dy, dx in ((0, 1), (1, 0), (1, 2), (2, 1)):
        cell = cells[rows + dy, columns + dx]
        for which, label in set(
            zip(index[cell > 0].tolist(), cell[cell > 0].tolist(), strict=True)
        ):
            touched[which].add(label)
    mergers = sum(len(labels) > 1 for labels in touched)
    return mergers, count - mergers


def _removed_foreground(warped: BoolArray, groups: BoolArray) -> tuple[int, int]:
    """Count groups of missing foreground that cut a cell, and those that do not."""
    cells = ndimage.label(warped)[0]
    boxes = ndimage.find_objects(cells)
    group, count = ndimage.label(groups, np.ones((3, 3)))
    splits = 0
    for which, box in enumerate(ndimage.find_objects(group), start=1):
        members = group[box] == which
        labels = np.unique(cells[box][members])
        pieces = 0
        for label in labels:
            window = boxes[label - 1]
            left = (cells[window] == label) & (group[window] != which)
            pieces = max(pieces, int(ndimage.label(left)[1]))
        splits += pieces > 1
    return splits, count - splits
