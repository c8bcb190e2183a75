"""Exact Euclidean distances to labelled objects, computed only near the objects.

The boundary term of the weight map needs, at each background pixel, the distances to the nearest
and to the second nearest object, but only where both are short. So every object gets the window
that its bounding box covers when grown by the largest distance of interest; the squared distance
inside the window is a minimum over row offsets of (distance along the row)^2 + offset^2, which is
exact and is done for many windows at once. The cost follows the area of these windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_unet.core.labels import Labels, Window, relative

Squared = npt.NDArray[np.int16 | np.float32]

# The boundary term is taken as 0 where it is below this share of w0. The promise is 1e-4; the
# difference leaves room for float32 rounding at the cut.
TOLERANCE = 9e-5

# Elements of one batch of windows: the arrays of a batch stay in the processor's cache.
_BATCH_ELEMENTS = 100_000

# A part at least this long, which bounding boxes cover more often than this, is halved.
_MOST_OVERLAP = 4.0
_SMALLEST_HALVED = 256

# Squared distances of windows up to 91^2 + 90^2 and "far" below fit int16, with room for sums.
_LARGEST_INT16_CAP = 91
_FAR_INT16 = 20_000
_FAR_FLOAT32 = 1e12


@dataclass(frozen=True)
class ObjectTable:
    """The objects of one plane: ids ascending, half-open boxes ``y0, x0, y1, x1``, pixel counts."""

    ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def object_table(labels: Labels) -> ObjectTable:
    """List the objects (ids above 0) of a plane with their bounding boxes and pixel counts.

    Works on runs of equal labels along the rows, so large ids cost nothing extra.

    Parameters
    ----------
    labels
        ``(Y, X)`` signed integers, at least one pixel.
    """
    labels = np.ascontiguousarray(labels)
    starts_run = np.empty(labels.shape, bool)
    starts_run[:, 0] = True
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts_run[:, 1:])
    starts = np.flatnonzero(starts_run)
    lengths = np.diff(starts, append=labels.size)
    ids = labels.ravel()[starts]
    painted = ids > 0
    starts, lengths, ids = starts[painted], lengths[painted], ids[painted]
    if not len(ids):
        none = np.zeros(0, np.int64)
        return ObjectTable(none, np.zeros((0, 4), np.int64), none)
    order = np.argsort(ids, kind="stable")
    starts, lengths, ids = starts[order], lengths[order], ids[order]
    rows, columns = np.divmod(starts, labels.shape[1])
    first = np.flatnonzero(np.diff(ids, prepend=0))
    last = np.append(first[1:], len(ids)) - 1
    boxes = np.stack(
        [
            rows[first],  # runs of one id are in scan order
            np.minimum.reduceat(columns, first),
            rows[last] + 1,
            np.maximum.reduceat(columns + lengths, first),
        ],
        axis=1,
    )
    return ObjectTable(ids[first].astype(np.int64), boxes, np.add.reduceat(lengths, first))


@dataclass(frozen=True)
class Reach:
    """How far the boundary term reaches, and in which arithmetic distances are exact.

    Attributes
    ----------
    limit
        The term counts only where ``d1 + d2`` is below this, in units of ``spacing``.
    sigma
        Standard deviation of the term, in the same units.
    spacing
        Pixel size along y and x in these units.
    radius
        Pixels along y and x that a window extends beyond its object.
    cap
        Pixels along x that are beyond the limit for certain.
    """

    limit: float
    sigma: float
    spacing: tuple[float, float]
    radius: tuple[int, int]
    cap: int

    @classmethod
    def of(cls, sigma: float, spacing: tuple[float, float] | None = None) -> Reach:
        """Return the reach of a Gaussian of the sum of two distances.

        A background pixel is at least the smaller pixel size away from its nearest object, so
        the second distance counts only up to ``limit`` less that.
        """
        step = (1.0, 1.0) if spacing is None else spacing
        if step[0] == step[1]:
            sigma, step = sigma / step[0], (1.0, 1.0)
        limit = sigma * math.sqrt(-2.0 * math.log(TOLERANCE))
        longest = max(limit - min(step), 0.0)
        radius = int(longest / step[0]), int(longest / step[1])
        return cls(limit, sigma, step, radius, radius[1] + 1)

    def within(self, shape: tuple[int, int]) -> Reach:
        """Return the same reach with windows that extend no further than a plane is large."""
        ry, rx = self.radius
        return replace(self, radius=(min(ry, shape[0] - 1), min(rx, shape[1] - 1)))

    @property
    def dtype(self) -> type[np.int16] | type[np.float32]:
        """Type in which squared distances are kept: exact int16 for square pixels."""
        exact = self.spacing == (1.0, 1.0) and self.cap <= _LARGEST_INT16_CAP
        return np.int16 if exact else np.float32

    @property
    def far(self) -> float:
        """Squared distance that stands for "no object within reach"."""
        return _FAR_INT16 if self.dtype is np.int16 else _FAR_FLOAT32


def boundary_term(
    labels: Labels, reach: Reach, window: Window | None = None
) -> npt.NDArray[np.float32]:
    """Return ``exp(-(d1 + d2)^2 / (2 sigma^2))`` on background, 0 on objects.

    ``d1`` and ``d2`` are the distances from a pixel to the nearest pixel of the nearest and of
    the second nearest object (Ronneberger et al. 2015, eq. 2, without ``w0``); all pixels of one
    id are one object, connected or not. The term is exact down to ``TOLERANCE`` and 0 below, and
    0 everywhere where there are fewer than two objects.

    Parameters
    ----------
    labels
        ``(Y, X)`` signed integers, objects above 0. Objects outside ``window`` count.
    reach
        From :meth:`Reach.of`.
    window
        Part to compute, of which a float32 array of that shape is returned (default: all).
    """
    height, width = labels.shape
    reach = reach.within((height, width))
    rows, columns = window or (slice(0, height), slice(0, width))
    ry, rx = reach.radius
    top, left = max(rows.start - ry, 0), max(columns.start - rx, 0)
    near_part = labels[top : rows.stop + ry, left : columns.stop + rx]
    inner = (rows.start - top, columns.start - left, rows.stop - top, columns.stop - left)
    shape = (inner[2] - inner[0], inner[3] - inner[1])
    term = np.zeros(shape, np.float32)
    table = object_table(near_part)
    if len(table) < 2:
        return term
    if _is_worth_halving(table, near_part.shape, max(shape)):
        for half in _halves(rows, columns):
            term[relative(half, (rows, columns))] = boundary_term(labels, reach, half)
        return term
    nearest, second = _two_smallest(near_part, table, reach, inner)
    # Zero is inside an object; half of the limit bounds the smaller of two distances.
    usable = (nearest > 0) & (nearest < (reach.limit / 2) ** 2) & (second < reach.limit**2)
    picked = np.flatnonzero(usable)
    total = np.sqrt(nearest.ravel()[picked], dtype=np.float32)
    total += np.sqrt(second.ravel()[picked], dtype=np.float32)
    term_there = np.exp(np.square(total) * np.float32(-0.5 / reach.sigma**2))
    term_there[total >= reach.limit] = 0
    term.ravel()[picked] = term_there
    return term


def _is_worth_halving(table: ObjectTable, shape: tuple[int, ...], longest: int) -> bool:
    """Return whether ids in scattered pieces make bounding boxes overlap as cells never do.

    In half of the plane each of them has a smaller bounding box, or none.
    """
    boxes = (table.boxes[:, 2:] - table.boxes[:, :2]).prod(axis=1).sum()
    return longest >= _SMALLEST_HALVED and bool(boxes > _MOST_OVERLAP * shape[0] * shape[1])


def _halves(rows: slice, columns: slice) -> tuple[Window, Window]:
    """Cut a window across its longer side."""
    if rows.stop - rows.start >= columns.stop - columns.start:
        middle = (rows.start + rows.stop) // 2
        return (slice(rows.start, middle), columns), (slice(middle, rows.stop), columns)
    middle = (columns.start + columns.stop) // 2
    return (rows, slice(columns.start, middle)), (rows, slice(middle, columns.stop))


def _two_smallest(
    labels: Labels, table: ObjectTable, reach: Reach, inner: tuple[int, int, int, int]
) -> tuple[Squared, Squared]:
    """Return the squared distances to the nearest and second nearest object inside ``inner``."""
    ry, rx = reach.radius
    top, left, bottom, right = inner
    shape = (bottom - top, right - left)
    nearest = np.full(shape, reach.far, reach.dtype)
    second = np.full(shape, reach.far, reach.dtype)
    for members in _batches(table, reach):
        distances = _window_distances(labels, table, members, reach)
        for member, box in enumerate(table.boxes[members].tolist()):
            y0, x0, y1, x1 = box[0] - ry, box[1] - rx, box[2] + ry, box[3] + rx
            a, b = max(y0, top), min(y1, bottom)
            c, d = max(x0, left), min(x1, right)
            if a >= b or c >= d:
                continue
            own = distances[a - y0 : b - y0, member, c - x0 : d - x0]
            place = (slice(a - top, b - top), slice(c - left, d - left))
            first_here, second_here = nearest[place], second[place]
            np.minimum(second_here, np.maximum(first_here, own), out=second_here)
            np.minimum(first_here, own, out=first_here)
    return nearest, second


def _batches(table: ObjectTable, reach: Reach) -> Iterator[npt.NDArray[np.intp]]:
    """Group objects with boxes of similar size, so that little of a batch is padding."""
    heights = table.boxes[:, 2] - table.boxes[:, 0]
    widths = table.boxes[:, 3] - table.boxes[:, 1]
    order = np.lexsort((widths, heights // 4))
    ry, rx = reach.radius
    first = 0
    while first < len(order):
        tallest = widest = 0
        last = first
        while last < len(order):
            tallest = max(tallest, int(heights[order[last]]))
            widest = max(widest, int(widths[order[last]]))
            needed = (last + 1 - first) * (tallest + 2 * ry) * (widest + 2 * rx)
            if last > first and needed > _BATCH_ELEMENTS:
                break
            last += 1
        yield order[first:last]
        first = last


def _window_distances(
    labels: Labels, table: ObjectTable, members: npt.NDArray[np.intp], reach: Reach
) -> Squared:
    """Return squared distances to each member in its window, ``(y, members, x)``.

    Windows are padded at the bottom and right to the size of the largest of the batch. Rows come
    first so that a shift by rows is one contiguous block of the whole batch.
    """
    ry, rx = reach.radius
    boxes = table.boxes[members]
    tall = int((boxes[:, 2] - boxes[:, 0]).max())
    wide = int((boxes[:, 3] - boxes[:, 1]).max())
    inside = np.zeros((tall, len(members), wide), bool)
    numbers = table.ids[members].tolist()
    for member, (y0, x0, y1, x1) in enumerate(boxes.tolist()):
        mask = inside[: y1 - y0, member, : x1 - x0]
        np.equal(labels[y0:y1, x0:x1], numbers[member], out=mask)
    along = _squared_along_rows(inside, reach)
    result = np.full((tall + 2 * ry, len(members), wide + 2 * rx), reach.far, reach.dtype)
    result[ry : ry + tall] = along
    shifted = np.empty_like(along)
    for offset in range(1, ry + 1):
        np.add(along, reach.dtype((offset * reach.spacing[0]) ** 2), out=shifted)
        above = result[ry - offset : ry - offset + tall]
        below = result[ry + offset : ry + offset + tall]
        np.minimum(above, shifted, out=above)
        np.minimum(below, shifted, out=below)
    return result


def _squared_along_rows(inside: npt.NDArray[np.bool_], reach: Reach) -> Squared:
    """Return the squared distance to the nearest True of the same row.

    The rows are ``radius`` pixels longer at both ends. Distances beyond the limit, and those to
    nothing, are given as ``cap`` pixels.
    """
    rows, members, width = inside.shape
    radius = reach.radius[1]
    count = np.int16 if width + reach.cap < 10_000 else np.int32
    columns = np.arange(width, dtype=count)
    none = count(width + reach.cap)
    left = np.maximum.accumulate(np.where(inside, columns, -none), axis=2)
    right = np.minimum.accumulate(np.where(inside, columns, none)[:, :, ::-1], axis=2)[:, :, ::-1]
    beyond = np.arange(1, radius + 1, dtype=count)
    steps = np.empty((rows, members, width + 2 * radius), count)
    middle = steps[:, :, radius : radius + width]
    np.minimum(columns - left, right - columns, out=middle)
    np.add(middle[:, :, :1], beyond[::-1], out=steps[:, :, :radius])
    np.add(middle[:, :, -1:], beyond, out=steps[:, :, radius + width :])
    np.minimum(steps, count(reach.cap), out=steps)
    squared: Squared = steps.astype(reach.dtype)
    np.multiply(squared, reach.dtype(reach.spacing[1]), out=squared)
    return np.multiply(squared, squared, out=squared)
