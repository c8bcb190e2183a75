"""Objects of a plane too large for memory: labelled block by block, numbered as if at once.

The result equals :func:`napari_unet.core.instances.label_instances` of the whole map. Three facts
make that possible with bounded memory:

- seeds and holes are connected components: blocks label their own, and pairs that touch over a
  block border are joined in the end;
- a component of the mask is flooded independently of all others, so a block and enough context
  around it to hold every component that touches the block gives its exact labels;
- sizes and first pixels of objects can be summed up block by block.

Only a component of the mask that reaches further than the largest context (a continuous sheet of
touching cells) is flooded with that much context; how many blocks that concerned is reported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from napari_unet.core.events import BlocksDone
from napari_unet.core.instances import EVERYWHERE, beside, flood
from napari_unet.core.settings import InstanceSettings
from napari_unet.core.tiling import Box, cut

logger = logging.getLogger(__name__)

Labels = npt.NDArray[np.int32]
Values = npt.NDArray[np.float32]

#: Context that a block is flooded with at first; doubled while an object reaches beyond it.
FIRST_CONTEXT = 64
_NO_LABEL = np.iinfo(np.int32).max


class BlockArray(Protocol):
    """A 2-D array that is read and written window by window (zarr, memory map, numpy)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        ...

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        """Read a window."""
        ...

    def __setitem__(self, key: tuple[slice, slice], value: Any) -> None:
        """Write a window."""
        ...


def essential(values: Values, settings: InstanceSettings) -> Values:
    """Return a foreground map with only the differences that the labels depend on.

    Background becomes 0, and 1 what lies inside a seed; such a map compresses to almost nothing.
    Pixels at the border of the array, whose neighbours are unknown, keep their values.
    """
    seed_threshold = max(settings.seed_threshold, settings.mask_threshold)
    free = (values > settings.mask_threshold) & (values <= seed_threshold)
    near = free | beside(free)
    near[0] = near[-1] = True
    near[:, 0] = near[:, -1] = True
    if settings.mask_threshold >= seed_threshold:
        near[:] = False
    inside = np.where(values > seed_threshold, np.float32(1), np.float32(0))
    return np.where(near & (values > settings.mask_threshold), values, inside)


@dataclass
class _Pairs:
    """Pairs of ids that belong together, collected on the way."""

    found: list[npt.NDArray[np.int64]]

    def add(self, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
        """Join ids of two lines of pixels that touch; 0 joins nothing."""
        both = (a > 0) & (b > 0)
        if both.any():
            pairs = np.stack([a[both], b[both]]).astype(np.int64)
            self.found.append(np.unique(pairs, axis=1))

    def roots(self, count: int) -> Labels:
        """Return the smallest id of the group of each id ``0..count``."""
        if not self.found:
            return np.arange(count + 1, dtype=np.int32)
        a, b = np.concatenate(self.found, axis=1)
        graph = sparse.coo_array((np.ones(len(a), bool), (a, b)), shape=(count + 1, count + 1))
        groups, group = connected_components(graph, directed=False)
        smallest = np.full(groups, _NO_LABEL, np.int32)
        np.minimum.at(smallest, group, np.arange(count + 1, dtype=np.int32))
        return np.asarray(smallest[group])


class BlockwiseLabels:
    """Label a foreground map that lies on disk.

    Parameters
    ----------
    foreground
        ``(Y, X)`` float32 probabilities, or what :func:`essential` left of them.
    work
        ``(Y, X)`` int32, overwritten with intermediate labels.
    result
        ``(Y, X)`` int32, receives the final labels.
    settings
        Thresholds, smallest size, hole filling.
    block
        Side of the blocks that are held in memory.
    """

    def __init__(
        self,
        foreground: BlockArray,
        work: BlockArray,
        result: BlockArray,
        settings: InstanceSettings,
        block: int = 2048,
    ) -> None:
        self._foreground, self._work, self._result = foreground, work, result
        self._settings = settings
        self._seed_threshold = max(settings.seed_threshold, settings.mask_threshold)
        self._largest_context = max(FIRST_CONTEXT, block // 4)
        height, width = (int(n) for n in foreground.shape)
        self._whole = Box(0, height, 0, width)
        self._blocks = cut(self._whole, block)
        self._roots: Labels = np.zeros(1, np.int32)
        self._sizes: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        self._firsts: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        self._kept: Labels = np.zeros(1, np.int32)
        self._filling: Labels = np.zeros(1, np.int32)
        #: Number of objects, once everything is done.
        self.objects = 0
        #: Blocks whose mask components were larger than the largest context.
        self.shortened = 0

    def run(self, cancelled: Callable[[], bool] | None = None) -> Iterator[BlocksDone]:
        """Label everything; one event per block and stage. Ends early when ``cancelled``."""
        stages: list[tuple[str, Callable[[], Iterator[None]]]] = [
            ("seeds", self._label_seeds),
            ("growth", self._grow),
            ("holes", self._find_holes),
            ("numbers", self._write),
        ]
        for name, stage in stages:
            for done, _ in enumerate(stage(), start=1):
                yield BlocksDone(name, done, len(self._blocks))
                if cancelled is not None and cancelled():
                    return
        if self.shortened:
            logger.warning(
                "%d blocks hold masses of touching objects; growth looked %d px beyond the block.",
                self.shortened,
                self._largest_context,
            )

    # --- stages ------------------------------------------------------------------------------

    def _label_seeds(self) -> Iterator[None]:
        """Give numbers to the seeds of each block and remember which touch over a border."""
        pairs, used = _Pairs([]), 0
        above = np.zeros(self._whole.right, np.int32)
        left: Labels = np.zeros(0, np.int32)
        for box in self._blocks:
            columns = slice(box.left, box.right)
            labels = np.empty(box.shape, np.int32)
            count = ndimage.label(self._read(box) > self._seed_threshold, output=labels)
            labels[labels > 0] += np.int32(used)
            used += int(count)
            self._work[box.slices] = labels
            pairs.add(above[columns], labels[0])
            if box.left:
                pairs.add(left, labels[:, 0])
            above[columns], left = labels[-1], labels[:, -1].copy()
            yield
        self._roots = pairs.roots(used)

    def _grow(self) -> Iterator[None]:
        """Grow the seeds over the mask; sum up sizes and first pixels."""
        self._sizes = np.zeros(len(self._roots), np.int64)
        self._firsts = np.full(len(self._roots), np.iinfo(np.int64).max)
        for box in self._blocks:
            labels = self._grown(box)
            self._work[box.slices] = labels
            rows, columns = np.nonzero(labels)
            ids = labels[rows, columns]
            self._sizes += np.bincount(ids, minlength=len(self._sizes))
            positions = (rows + box.top) * self._whole.right + columns + box.left
            np.minimum.at(self._firsts, ids, positions)
            yield
        kept = self._sizes >= max(1, self._settings.min_size)
        self._kept = np.where(kept, np.arange(len(kept), dtype=np.int32), np.int32(0))

    def _grown(self, box: Box) -> Labels:
        """Return the grown labels of one block, with as much context as its objects need."""
        if self._settings.mask_threshold >= self._seed_threshold:
            return np.asarray(self._roots[np.asarray(self._work[box.slices])])
        context = FIRST_CONTEXT
        while True:
            window = _around(box, context, self._whole)
            values = self._read(window)
            inside = (
                slice(box.top - window.top, box.bottom - window.top),
                slice(box.left - window.left, box.right - window.left),
            )
            enough = self._whole_components(values > self._settings.mask_threshold, window, inside)
            if enough or context >= self._largest_context:
                self.shortened += not enough
                break
            context *= 2
        seeds = np.where(
            values > self._seed_threshold, self._roots[np.asarray(self._work[window.slices])], 0
        )
        labels = flood(values, seeds.astype(np.int32), self._settings.mask_threshold)
        return labels[inside]

    def _whole_components(
        self, mask: npt.NDArray[np.bool_], window: Box, inside: tuple[slice, slice]
    ) -> bool:
        """Return whether every part of the mask that touches the block ends in the window."""
        parts, _ = ndimage.label(mask)
        whole = self._whole
        rims = [
            parts[0] if window.top > whole.top else None,
            parts[-1] if window.bottom < whole.bottom else None,
            parts[:, 0] if window.left > whole.left else None,
            parts[:, -1] if window.right < whole.right else None,
        ]
        cut_off = [rim[rim > 0] for rim in rims if rim is not None]
        if not cut_off:
            return True
        core = parts[inside]
        touching = np.concatenate([core[0], core[-1], core[:, 0], core[:, -1]])
        return not np.intersect1d(np.concatenate(cut_off), touching).size

    def _find_holes(self) -> Iterator[None]:
        """Find which components of the background are holes of a single object.

        ``_filling`` has, for each background component in the order of blocks, the object that it
        becomes part of, or 0.
        """
        if not self._settings.fill_holes:
            return
        pairs, used = _Pairs([]), 0
        # Last rows of the blocks above and of this row of blocks, with room for diagonals.
        above, below = (np.zeros(self._whole.right + 2, np.int32) for _ in range(2))
        left: Labels = np.zeros(0, np.int32)
        parts = _HoleParts()
        for box in self._blocks:
            if box.left == 0:
                above, below = below, np.zeros_like(below)
                left = np.zeros(box.shape[0], np.int32)
            holes, count = self._background(box)
            parts.add(self._read_kept(_around(box, 1, self._whole)), box, holes, count, self._whole)
            ids = np.where(holes > 0, holes + np.int32(used), np.int32(0))
            used += count
            columns = box.shape[1]
            for step in (0, 1, 2):
                pairs.add(above[box.left + step : box.left + step + columns], ids[0])
            pairs.add(left, ids[:, 0])
            pairs.add(left[1:], ids[:-1, 0])
            pairs.add(left[:-1], ids[1:, 0])
            below[box.left + 1 : box.right + 1], left = ids[-1], ids[:, -1].copy()
            yield
        self._filling = parts.fillings(pairs.roots(used))

    def _write(self) -> Iterator[None]:
        """Fill holes, number the objects in scan order, and write the result."""
        ids = np.flatnonzero(self._kept)
        numbers = np.zeros(len(self._kept), np.int32)
        numbers[ids[np.argsort(self._firsts[ids])]] = np.arange(1, len(ids) + 1, dtype=np.int32)
        self.objects = len(ids)
        used = 0
        for box in self._blocks:
            labels = self._read_kept(box)
            if self._settings.fill_holes:
                holes, count = self._background(box)
                filled = np.concatenate(([0], self._filling[used + 1 : used + count + 1]))[holes]
                labels = np.where(filled > 0, filled, labels)
                used += count
            self._result[box.slices] = numbers[labels]
            yield

    # --- pieces ------------------------------------------------------------------------------

    def _read(self, box: Box) -> Values:
        return np.asarray(self._foreground[box.slices], dtype=np.float32)

    def _read_kept(self, box: Box) -> Labels:
        return np.asarray(self._kept[np.asarray(self._work[box.slices])])

    def _background(self, box: Box) -> tuple[Labels, int]:
        """Label the background components of one block."""
        holes = np.empty(box.shape, np.int32)
        count = ndimage.label(self._read_kept(box) == 0, structure=EVERYWHERE, output=holes)
        return holes, int(count)


class _HoleParts:
    """What is known of each background component of each block."""

    def __init__(self) -> None:
        self._lowest: list[Labels] = []
        self._highest: list[Labels] = []
        self._opened: list[npt.NDArray[np.bool_]] = []

    def add(self, labels: Labels, box: Box, holes: Labels, count: int, whole: Box) -> None:
        """Take the components of one block; ``labels`` has one pixel of context around it."""
        window = _around(box, 1, whole)
        inside = (
            slice(box.top - window.top, box.bottom - window.top),
            slice(box.left - window.left, box.right - window.left),
        )
        highest = ndimage.maximum_filter(labels, 3)[inside]
        lowest = ndimage.minimum_filter(np.where(labels > 0, labels, _NO_LABEL), 3)[inside]
        beside_object = (highest > 0) & (holes > 0)
        ids = holes[beside_object]
        low = np.full(count, _NO_LABEL, np.int32)
        high = np.zeros(count, np.int32)
        np.minimum.at(low, ids - 1, lowest[beside_object])
        np.maximum.at(high, ids - 1, highest[beside_object])
        opened = np.zeros(count + 1, bool)
        for reaches, line in (
            (box.top == whole.top, holes[0]),
            (box.bottom == whole.bottom, holes[-1]),
            (box.left == whole.left, holes[:, 0]),
            (box.right == whole.right, holes[:, -1]),
        ):
            if reaches:
                opened[line] = True
        self._lowest.append(low)
        self._highest.append(high)
        self._opened.append(opened[1:])

    def fillings(self, roots: Labels) -> Labels:
        """Return, for each component ``0..n``, the object that fills it, or 0."""
        groups = len(roots)
        low = np.full(groups, _NO_LABEL, np.int32)
        high = np.zeros(groups, np.int32)
        opened = np.zeros(groups, bool)
        np.minimum.at(low, roots[1:], np.concatenate(self._lowest))
        np.maximum.at(high, roots[1:], np.concatenate(self._highest))
        np.logical_or.at(opened, roots[1:], np.concatenate(self._opened))
        filled = np.where((low == high) & ~opened, high, np.int32(0))
        return np.asarray(filled[roots])


def _around(box: Box, context: int, whole: Box) -> Box:
    """Return a box grown on all sides, inside the whole."""
    return Box(
        max(whole.top, box.top - context),
        min(whole.bottom, box.bottom + context),
        max(whole.left, box.left - context),
        min(whole.right, box.right + context),
    )
