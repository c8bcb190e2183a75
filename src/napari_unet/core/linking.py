"""One number per object through a stack: objects of neighbouring planes are linked by overlap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet.core.errors import InputError

#: Intersection over union from which two objects of neighbouring planes are the same object.
DEFAULT_OVERLAP = 0.25


class PlaneLinker:
    """Renumbers planes one after the other so that overlapping objects share a number.

    Parameters
    ----------
    overlap
        Smallest intersection over union, above 0 and up to 1, at which an object continues.

    Notes
    -----
    Between two planes the pairing is one to one and has the largest sum of intersection over
    union (Kuhn-Munkres, solved per group of objects that touch each other). So a dividing cell
    hands its number to one daughter, and the other one gets a new number.
    """

    def __init__(self, overlap: float = DEFAULT_OVERLAP) -> None:
        if not 0 < overlap <= 1:
            raise InputError(f"The overlap must be above 0 and at most 1, not {overlap}.")
        self._overlap = overlap
        self._previous: npt.NDArray[np.int32] | None = None
        self._next = 1

    def add(self, plane: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """Return the next plane with its new numbers; values below 1 become 0.

        Raises
        ------
        InputError
            If its shape differs from the plane before.
        """
        ids, compact = np.unique(np.where(plane > 0, plane, 0), return_inverse=True)
        compact = compact.reshape(plane.shape)
        if not len(ids) or ids[0] != 0:  # no background in this plane
            ids = np.concatenate(([0], ids))
            compact = compact + 1
        numbers = np.zeros(len(ids), dtype=np.int32)
        if self._previous is not None:
            if self._previous.shape != plane.shape:
                raise InputError(
                    f"All planes of a stack must have the same shape, not {self._previous.shape} "
                    f"and then {plane.shape}."
                )
            for new, old in _pair(compact, self._previous, self._overlap):
                numbers[new] = old
        fresh = np.flatnonzero(numbers == 0)[1:]
        numbers[fresh] = np.arange(self._next, self._next + len(fresh))
        self._next += len(fresh)
        linked: npt.NDArray[np.int32] = numbers[compact]
        self._previous = linked
        return linked


def _pair(
    new: npt.NDArray[np.integer], old: npt.NDArray[np.integer], overlap: float
) -> list[tuple[int, int]]:
    """Return (new, old) numbers of the best one-to-one pairing."""
    both = (new > 0) & (old > 0)
    if not both.any():
        return []
    size = int(old.max()) + 1
    pairs, shared = np.unique(new[both].astype(np.int64) * size + old[both], return_counts=True)
    rows, columns = np.divmod(pairs, size)
    area_new, area_old = np.bincount(new.ravel()), np.bincount(old.ravel())
    iou = shared / (area_new[rows] + area_old[columns] - shared)
    keep = iou >= overlap
    rows, columns, iou = rows[keep], columns[keep], iou[keep]
    found: list[tuple[int, int]] = []
    for members in _groups(rows, columns):
        here_rows, row_index = np.unique(rows[members], return_inverse=True)
        here_columns, column_index = np.unique(columns[members], return_inverse=True)
        score = np.zeros((len(here_rows), len(here_columns)))
        score[row_index, column_index] = iou[members]
        for row, column in zip(*linear_sum_assignment(score, maximize=True), strict=True):
            if score[row, column] > 0:
                found.append((int(here_rows[row]), int(here_columns[column])))
    return found


def _groups(
    rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]
) -> list[npt.NDArray[np.intp]]:
    """Split the edges of a bipartite graph into its connected parts."""
    if not len(rows):
        return []
    nodes_left, left = np.unique(rows, return_inverse=True)
    nodes_right, right = np.unique(columns, return_inverse=True)
    count = len(nodes_left) + len(nodes_right)
    graph = coo_array((np.ones(len(rows)), (left, right + len(nodes_left))), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    order = np.argsort(part[left], kind="stable")
    borders = np.flatnonzero(np.diff(part[left][order])) + 1
    return np.split(order, borders)


def link_planes(
    labels: npt.NDArray[np.integer],
    *,
    axis: int = 0,
    overlap: float = DEFAULT_OVERLAP,
    cancelled: Callable[[], bool] | None = None,
) -> npt.NDArray[np.int32]:
    """Give objects that overlap in neighbouring planes the same number.

    Parameters
    ----------
    labels
        ``(..., Y, X)`` integers; each plane has its own numbers, values below 1 are not objects.
    axis
        The leading axis (depth or time) along which objects are linked. Positions along the
        other leading axes are linked on their own, with numbers that do not collide.
    overlap
        Smallest intersection over union at which an object continues, above 0 and up to 1.
    cancelled
        Asked before each plane; when it says True the planes not reached yet keep 0.

    Returns
    -------
    ndarray
        int32, same shape, numbered from 1 without gaps in the order of the planes.

    Raises
    ------
    InputError
        If there is no such leading axis.
    """
    if labels.ndim < 3 or not 0 <= axis < labels.ndim - 2:
        raise InputError(
            f"Objects are linked along a leading axis of a stack; this array has {labels.ndim} "
            f"axes and no leading axis {axis}."
        )
    linked = np.zeros(labels.shape, dtype=np.int32)
    source, result = np.moveaxis(labels, axis, 0), np.moveaxis(linked, axis, 0)
    first = 0
    for position in np.ndindex(*source.shape[1:-2]):
        linker = PlaneLinker(overlap)
        highest = first
        for index in range(source.shape[0]):
            if cancelled is not None and cancelled():
                return linked
            plane = linker.add(source[(index, *position)])
            target = result[(index, *position)]
            np.copyto(target, np.where(plane > 0, plane + first, 0))
            highest = max(highest, int(target.max(initial=0)))
        first = highest
    return linked
