"""Overlap-tile: an image's prediction cut into boxes that can be computed in any order.

What a prediction *is* does not depend on tiles: a :class:`WindowFunction` is a translation-
covariant function of an image mirrored without end, and a tile is any box of its output. The
function says which input it needs for an output interval, the tiler reads exactly that. Whether
pixels are pooled in pairs (0, 1) or (1, 2) is decided by the function from absolute coordinates,
never from where a tile starts. Tile origins lie on a fixed grid all the same, so that few
different sizes occur.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_unet.core.resampling import bring_back, scaled_interval


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, half-open: rows ``top..bottom``, columns ``left..right``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def area(self) -> int:
        """Number of pixels."""
        return (self.bottom - self.top) * (self.right - self.left)


class WindowFunction(Protocol):
    """A function of an image without end, computable on any window of its output."""

    @property
    def outputs(self) -> int:
        """Number of channels of the result."""
        ...

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """Return the input interval that the outputs ``[start, stop)`` of an axis depend on."""
        ...

    def __call__(
        self, pixels: npt.NDArray[np.float32], rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[np.float32]:
        """Return ``(K, y, x)`` on ``rows`` x ``columns`` from the pixels these need."""
        ...


class InputReader(Protocol):
    """Where windows of the mirrored, scaled, normalised image come from."""

    def __call__(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        """Return a window ``(C, y, x)``."""
        ...


@dataclass(frozen=True)
class TileRequest:
    """One tile: the box on the image grid and its intervals on the network's grid."""

    box: Box
    rows: tuple[int, int]
    columns: tuple[int, int]
    factor: float

    @classmethod
    def of(cls, box: Box, factor: float = 1.0) -> TileRequest:
        """Translate a box of the image to the network's grid."""
        return cls(
            box,
            scaled_interval(box.top, box.bottom, factor),
            scaled_interval(box.left, box.right, factor),
            factor,
        )

    def read(self, read: InputReader, function: WindowFunction) -> npt.NDArray[np.float32]:
        """Read what ``function`` needs for this tile."""
        return read(*function.needs(*self.rows), *function.needs(*self.columns))

    def bring_back(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return ``(K, y, x)`` values of the network's grid on the image grid."""
        if self.factor == 1.0:
            return values
        box = self.box
        corners = (box.top, box.bottom, box.left, box.right)
        return bring_back(values, self.rows, self.columns, corners, self.factor)


def even_size(length: int, tile: int, multiple: int) -> int:
    """Return a tile side that cuts ``length`` into equal parts no longer than about ``tile``.

    The side is a multiple of ``multiple``; a last tile of a few pixels would cost a whole halo.
    """
    parts = max(1, -(-length // max(tile, multiple)))
    side = -(-length // parts)
    return -(-side // multiple) * multiple


def cut(region: Box, side: int | tuple[int, int], multiple: int = 1) -> list[Box]:
    """Cut a region into boxes with origins on multiples of ``multiple``, in reading order.

    ``side`` (height and width, or one for both) is rounded up to a multiple of ``multiple``.
    """
    height, width = (side, side) if isinstance(side, int) else side
    rows = _breaks(region.top, region.bottom, height, multiple)
    columns = _breaks(region.left, region.right, width, multiple)
    return [
        Box(top, bottom, left, right)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]


def _breaks(start: int, stop: int, side: int, multiple: int) -> list[int]:
    step = max(multiple, -(-side // multiple) * multiple)
    origin = start // multiple * multiple
    return [start, *range(origin + step, stop, step), stop]


class TileQueue:
    """Boxes still to be computed; the next one is the nearest to a moving focus."""

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._boxes: list[Box] = []
        self._corners = np.empty((0, 4))
        # Position in the order that holds without a focus; infinite once a box is taken out.
        self._rank = np.empty(0)
        self._left = 0
        listed = list(boxes)
        self._append(listed, np.arange(len(listed), dtype=np.float64))

    def _append(self, boxes: list[Box], rank: npt.NDArray[np.float64]) -> None:
        corners = [(b.top, b.bottom, b.left, b.right) for b in boxes]
        self._boxes.extend(boxes)
        self._corners = np.concatenate([self._corners, np.array(corners).reshape(-1, 4)])
        self._rank = np.concatenate([self._rank, rank])
        self._left += len(boxes)

    def __len__(self) -> int:
        return self._left

    def __iter__(self) -> Iterator[Box]:
        waiting = np.flatnonzero(np.isfinite(self._rank))
        return iter([self._boxes[int(i)] for i in waiting])

    def nearest(self, focus: tuple[float, float] | None) -> Box:
        """Return the box nearest to ``focus`` (y, x), or the first one in order without focus.

        Of boxes equally near, the one whose centre is nearer comes first.
        """
        if focus is None:
            return self._boxes[int(np.argmin(self._rank))]
        top, bottom, left, right = self._corners.T
        y, x = focus
        distance = np.maximum(np.maximum(top - y, y - bottom), 0) ** 2
        distance += np.maximum(np.maximum(left - x, x - right), 0) ** 2
        distance[np.isinf(self._rank)] = np.inf
        tied = np.flatnonzero(distance == distance.min())
        central = ((top + bottom)[tied] / 2 - y) ** 2 + ((left + right)[tied] / 2 - x) ** 2
        return self._boxes[int(tied[np.argmin(central)])]

    def put(self, boxes: Iterable[Box]) -> None:
        """Add boxes; without a focus they come before all others."""
        added = list(boxes)
        front = self._rank.min(initial=0.0)
        front = 0.0 if np.isinf(front) else front
        self._append(added, np.arange(len(added)) - float(len(added)) + front)

    def take(self, box: Box) -> None:
        """Take a box out."""
        row = np.array([box.top, box.bottom, box.left, box.right])
        held = np.flatnonzero((self._corners == row).all(axis=1) & np.isfinite(self._rank))
        self._rank[held[0]] = np.inf
        self._left -= 1
