"""From foreground probabilities to numbered objects.

Seeds are the components of the foreground above the seed threshold. They grow by watershed over
the mask (foreground above the mask threshold), from probable to improbable pixels. Everything is
4-connected: a ridge of background one pixel wide separates two objects even where it runs
diagonally, which with 8-connectivity it would not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import watershed

from napari_unet.core.errors import InputError
from napari_unet.core.labels import bounding_window
from napari_unet.core.settings import InstanceSettings

Labels = npt.NDArray[np.int32]
Probabilities = npt.NDArray[np.floating[Any]]
Slices = tuple[slice, slice]

#: Structuring element of 8-connected components.
EVERYWHERE = np.ones((3, 3), dtype=bool)


def foreground(probabilities: Probabilities) -> npt.NDArray[np.float32]:
    """Return the probability of not being background, ``(Y, X)`` float32.

    Parameters
    ----------
    probabilities
        ``(K, Y, X)`` with class 0 the background, or the foreground ``(Y, X)`` itself.
    """
    if probabilities.ndim == 2:
        return np.asarray(probabilities, dtype=np.float32)
    if probabilities.ndim != 3 or len(probabilities) < 2:
        raise InputError(
            "Class probabilities have the shape (K, Y, X) with at least 2 classes, "
            f"not {tuple(probabilities.shape)}."
        )
    if len(probabilities) == 2:
        return np.asarray(probabilities[1], dtype=np.float32)
    return np.asarray(probabilities[1:].sum(axis=0), dtype=np.float32)


def label_instances(
    probabilities: Probabilities, settings: InstanceSettings | None = None
) -> Labels:
    """Turn a probability map into numbered objects.

    Parameters
    ----------
    probabilities
        ``(K, Y, X)`` with class 0 the background, or the foreground ``(Y, X)``. Pixels that are
        NaN (not predicted) are background.
    settings
        Thresholds, smallest size, hole filling.

    Returns
    -------
    ``(Y, X)`` int32, 0 for background, objects numbered in the order of their first pixel. An
    object is a seed grown over the mask; parts of the mask that hold no seed are background. With
    a mask threshold above the seed threshold the seeds are cut to the mask. A hole is filled when
    it is enclosed by one object and holds nothing else; dropped objects leave holes, too.
    """
    settings = settings or InstanceSettings()
    values = foreground(probabilities)
    labels = grown_seeds(values, settings)
    labels = without_small(labels, settings.min_size)
    if settings.fill_holes:
        fill_holes(labels)
    return in_scan_order(labels)


def at_scale(settings: InstanceSettings, factor: float) -> InstanceSettings:
    """Convert a minimum size in network pixels, as models hold it, to pixels of an image.

    Parameters
    ----------
    factor
        Network pixels per image pixel.
    """
    return replace(settings, min_size=round(settings.min_size / factor**2))


def label_classes(probabilities: Probabilities) -> Labels:
    """Return the most probable class of each pixel, ``(Y, X)`` int32; NaN pixels are 0."""
    classes = np.nan_to_num(probabilities, nan=0.0).argmax(axis=0)
    return np.asarray(classes, dtype=np.int32)


def grown_seeds(values: npt.NDArray[np.float32], settings: InstanceSettings) -> Labels:
    """Return the seeds of a foreground map grown over its mask, arbitrarily numbered."""
    seed_threshold = max(settings.seed_threshold, settings.mask_threshold)
    labels = np.empty(values.shape, np.int32)
    ndimage.label(values > seed_threshold, output=labels)
    if settings.mask_threshold >= seed_threshold:
        return labels
    return flood(values, labels, settings.mask_threshold)


def flood(values: npt.NDArray[np.float32], seeds: Labels, mask_threshold: float) -> Labels:
    """Grow labelled seeds in place over the pixels above a threshold, and return them.

    ``seeds`` must hold every pixel that is more probable than the most probable one to be grown
    over. What becomes of a component of the mask depends on nothing outside of it.
    """
    # Only pixels to be grown over and the rim of the seeds take part in the flood: the inside of
    # a seed has no unlabelled neighbour, so the result is that of flooding from whole seeds.
    free = (values > mask_threshold) & (seeds == 0)
    flooded = free | (beside(free) & (seeds > 0))
    rows, columns = bounding_window(flooded)
    if rows.stop == 0:
        return seeds
    inside = flooded[rows, columns]
    rim = np.where(inside, seeds[rows, columns], 0)
    grown = watershed(  # type: ignore[no-untyped-call]
        _elevation(values[rows, columns], rim), rim, connectivity=1, mask=inside
    )
    seeds[rows, columns][inside] = grown[inside]
    return seeds


def _elevation(values: npt.NDArray[np.float32], rim: Labels) -> npt.NDArray[np.float64]:
    """Return what is flooded: probable pixels low, the rim of the seeds lowest.

    Among equal pixels the flood takes the one it reached first, but starts from equal seed pixels
    in an order that depends on everything else in the array. Here they start in scan order: what
    happens in one component of the mask depends on nothing outside of it.
    """
    elevation = -values.astype(np.float64)
    start = np.flatnonzero(rim)
    by_height = start[np.argsort(elevation.ravel()[start], kind="stable")]
    elevation.ravel()[by_height] = np.linspace(-3, -2, len(start), endpoint=False)
    return elevation


def beside(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the 4-neighbours of marked pixels."""
    result = np.zeros_like(marked)
    result[1:] |= marked[:-1]
    result[:-1] |= marked[1:]
    result[:, 1:] |= marked[:, :-1]
    result[:, :-1] |= marked[:, 1:]
    return result


def without_small(
    labels: Labels, min_size: int, spared: npt.NDArray[np.integer[Any]] | None = None
) -> Labels:
    """Return the labels without objects of fewer than ``min_size`` pixels (``spared`` ids stay)."""
    if min_size <= 1:
        return labels
    sizes = np.bincount(labels.ravel())
    dropped = sizes < min_size
    dropped[0] = False
    if spared is not None:
        dropped[spared] = False
    if not dropped.any():
        return labels
    kept = np.arange(len(sizes), dtype=np.int32)
    kept[dropped] = 0
    return kept[labels]


def fill_holes(labels: Labels) -> None:
    """Fill, in place, holes that are enclosed by a single object and hold nothing else.

    A hole is an 8-connected component (the counterpart of 4-connected objects) of the background
    that does not reach the border of the array and has one object only among the 8-neighbours of
    its pixels.
    """
    holes, count = ndimage.label(labels == 0, structure=EVERYWHERE)
    open_ids = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    closed = np.ones(count + 1, bool)
    closed[open_ids] = False
    closed[0] = False
    if not closed.any():
        return
    rows, columns = np.nonzero(closed[holes])
    ids = holes[rows, columns]
    lowest = np.full(count + 1, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(count + 1, np.int32)
    # No pixel of a closed hole lies on the border, so every neighbour exists.
    for step_y in (-1, 0, 1):
        for step_x in (-1, 0, 1):
            neighbours = labels[rows + step_y, columns + step_x]
            beside = neighbours > 0
            np.minimum.at(lowest, ids[beside], neighbours[beside])
            np.maximum.at(highest, ids[beside], neighbours[beside])
    enclosed = lowest == highest
    filled = enclosed[ids]
    labels[rows[filled], columns[filled]] = lowest[ids[filled]]


def in_scan_order(labels: Labels) -> Labels:
    """Return the labels renumbered 1, 2, ... in the order of their first pixel."""
    flat = labels.ravel()
    positions = np.flatnonzero(flat)
    if not positions.size:
        return labels
    values = flat[positions]
    first = np.full(int(values.max()) + 1, -1, np.int64)
    # Of repeated indices the last assignment stays: written backwards, that is the first pixel.
    first[values[::-1]] = positions[::-1]
    present = np.flatnonzero(first >= 0)
    number = np.zeros(len(first), np.int32)
    number[present[np.argsort(first[present])]] = np.arange(1, len(present) + 1, dtype=np.int32)
    return number[labels]


@dataclass(frozen=True)
class LabelPatch:
    """New label values for a box of the plane."""

    slices: Slices
    labels: Labels = field(repr=False, compare=False)


class StreamingInstances:
    """Objects of a plane whose probabilities arrive tile by tile, in any order.

    :meth:`add` returns provisional objects, stitched to those of tiles that are there already;
    :meth:`finish` returns exactly what :func:`label_instances` makes of the whole map, whatever
    the tiles and their order.

    Parameters
    ----------
    shape
        Height and width of the plane.
    settings
        Thresholds, smallest size, hole filling.
    """

    def __init__(self, shape: tuple[int, int], settings: InstanceSettings | None = None) -> None:
        self.settings = settings or InstanceSettings()
        self._foreground = np.zeros(shape, np.float32)
        self._labels = np.zeros(shape, np.int32)
        # Tiles that objects at the border of a tile lie on.
        self._places: dict[int, list[Slices]] = {}
        self._last_id = 0

    @property
    def foreground(self) -> npt.NDArray[np.float32]:
        """Foreground probability as far as it is known, 0 elsewhere."""
        return self._foreground

    @property
    def provisional(self) -> Labels:
        """The objects as far as they are known; ids are arbitrary."""
        return self._labels

    def add(self, slices: Slices, probabilities: Probabilities) -> list[LabelPatch]:
        """Take the probabilities of one tile and return the boxes whose labels changed.

        The first patch is the tile itself; others are objects that it connects.
        """
        values = foreground(probabilities)
        self._foreground[slices] = values
        tile = grown_seeds(values, self.settings)
        cut = np.unique(np.concatenate([tile[0], tile[-1], tile[:, 0], tile[:, -1]]))
        tile = without_small(tile, self.settings.min_size, spared=cut)
        if self.settings.fill_holes:
            fill_holes(tile)
        numbers, changed = self._stitched_ids(slices, tile, cut)
        tile = numbers[tile]
        self._labels[slices] = tile
        patches = [LabelPatch(slices, tile.copy())]
        patches += [LabelPatch(box, self._labels[box].copy()) for box in changed]
        return patches

    def finish(self) -> Labels:
        """Return the final labels of everything that was added."""
        return label_instances(self._foreground, self.settings)

    def _stitched_ids(
        self, slices: Slices, tile: Labels, cut: npt.NDArray[np.int32]
    ) -> tuple[Labels, list[Slices]]:
        """Return the plane's id of each of the tile's labels, and boxes where ids changed.

        An object takes the id of the one it continues; where it connects several, the oldest id
        replaces the others. ``cut`` are the labels at the border of the tile: only these can be
        renamed later, so their place is remembered.
        """
        count = int(tile.max(initial=0))
        numbers = np.arange(self._last_id, self._last_id + count + 1, dtype=np.int32)
        numbers[0] = 0
        self._last_id += count
        joined: dict[int, set[int]] = {}
        for inner, outer in self._touching(slices, tile):
            joined.setdefault(inner, set()).add(outer)
        changed: list[Slices] = []
        replaced: dict[int, int] = {}
        for inner, outers in joined.items():
            ids = sorted({_resolved(replaced, outer) for outer in outers})
            numbers[inner] = ids[0]
            for old in ids[1:]:
                replaced[old] = ids[0]
                changed += self._rename(old, ids[0])
        for label in cut.tolist():
            if label:
                number = _resolved(replaced, int(numbers[label]))
                numbers[label] = number
                self._places.setdefault(number, []).append(slices)
        return numbers, changed

    def _touching(self, slices: Slices, tile: Labels) -> set[tuple[int, int]]:
        """Return (label in the tile, id beyond its border) of seeds that continue over it."""
        rows, columns = slices
        height, width = self._labels.shape
        threshold = max(self.settings.seed_threshold, self.settings.mask_threshold)
        sides: list[tuple[bool, Any, Any, Any]] = [
            (rows.start > 0, (0, slice(None)), (rows.start, columns), (rows.start - 1, columns)),
            (rows.stop < height, (-1, slice(None)), (rows.stop - 1, columns), (rows.stop, columns)),
            (columns.start > 0, (slice(None), 0), (rows, columns.start), (rows, columns.start - 1)),
            (
                columns.stop < width,
                (slice(None), -1),
                (rows, columns.stop - 1),
                (rows, columns.stop),
            ),
        ]
        pairs: set[tuple[int, int]] = set()
        for exists, in_tile, inside, outside in sides:
            if not exists:
                continue
            continues = (self._foreground[inside] > threshold) & (
                self._foreground[outside] > threshold
            )
            inner, outer = tile[in_tile][continues], self._labels[outside][continues]
            both = (inner > 0) & (outer > 0)
            pairs.update(zip(inner[both].tolist(), outer[both].tolist(), strict=True))
        return pairs

    def _rename(self, old: int, new: int) -> list[Slices]:
        """Give an object another id and return the boxes it covers, one per tile."""
        boxes = []
        for place in self._places.pop(old):
            tile = self._labels[place]
            own = tile == old
            rows, columns = bounding_window(own)
            tile[own] = new
            boxes.append(_moved((rows, columns), place))
            self._places.setdefault(new, []).append(place)
        return boxes


def _resolved(replaced: dict[int, int], label: int) -> int:
    while label in replaced:
        label = replaced[label]
    return label


def _moved(box: tuple[slice, ...], origin: Slices) -> Slices:
    rows, columns = (
        slice(part.start + base.start, part.stop + base.start)
        for part, base in zip(box, origin, strict=True)
    )
    return rows, columns
