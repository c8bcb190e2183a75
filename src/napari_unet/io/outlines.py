"""Outlines of objects along pixel edges, and back: exact, whatever the shape.

A pixel ``(y, x)`` covers the square from ``(x, y)`` to ``(x + 1, y + 1)``, as in ImageJ and
QuPath. Vertices are ``(x, y)`` integers. Objects are taken as 4-connected: parts that only touch at
a corner are polygons of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.errors import stop_if
from napari_unet.core.overlap import as_labels

IntArray = npt.NDArray[np.int64]

#: Objects painted at once; bounds the memory that :func:`paint` needs.
_BATCH = 4096

# Directions in which an edge runs, in the order of a right turn (y points down): the object is
# always on the right-hand side, so outer rings run clockwise on the screen.
_RIGHT, _DOWN, _LEFT, _UP = range(4)


@dataclass(frozen=True)
class Polygon:
    """One connected part of an object: a ring of vertices ``(n, 2)`` as ``(x, y)``, and its holes.

    Rings are not closed (the first vertex is not repeated), never touch themselves, and have a
    vertex only where they turn. The signed area (shoelace formula on x, y) of the outer ring is
    positive, that of a hole negative.
    """

    outer: IntArray
    holes: tuple[IntArray, ...] = ()

    @property
    def rings(self) -> tuple[IntArray, ...]:
        """The outer ring and the holes."""
        return (self.outer, *self.holes)


@dataclass(frozen=True)
class Outline:
    """All parts of one object."""

    label: int
    polygons: tuple[Polygon, ...]

    @property
    def rings(self) -> tuple[IntArray, ...]:
        """All rings of all parts."""
        return tuple(ring for polygon in self.polygons for ring in polygon.rings)


def outlines(
    labels: npt.ArrayLike, cancelled: Callable[[], bool] | None = None
) -> Iterator[Outline]:
    """Yield the outline of each object of a plane, in order of the labels.

    Parameters
    ----------
    labels
        Label image ``(Y, X)``; background is 0 or negative.
    cancelled
        Asked for each object.

    Raises
    ------
    InputError
        If the labels are not whole numbers.
    StoppedError
        If ``cancelled`` says so.
    """
    array = as_labels(labels, "labels")
    loops = _loops(array, cancelled)
    start = 0
    while start < len(loops):
        label = loops[start][0]
        stop = start
        while stop < len(loops) and loops[stop][0] == label:
            stop += 1
        rings = [ring for _, vertices in loops[start:stop] for ring in _simple_rings(vertices)]
        stop_if(cancelled)
        yield Outline(label, _polygons(array, label, rings))
        start = stop


def fill(rings: Sequence[npt.ArrayLike], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the pixels whose centre lies inside rings, by the even-odd rule.

    Parameters
    ----------
    rings
        Arrays ``(n, 2)`` of vertices ``(x, y)``, of any real numbers; closed or not.
    shape
        Height and width of the result. What lies beyond is cut off.

    Returns
    -------
    ndarray of bool
        Of the given shape.
    """
    inside = np.zeros(shape, dtype=bool)
    paint(inside, [(1, rings)])
    return inside


def paint(labels: npt.NDArray[Any], shapes: Iterable[tuple[int, Sequence[npt.ArrayLike]]]) -> None:
    """Write objects into a label image, in place; where they overlap, the later one stays.

    Parameters
    ----------
    labels
        Array ``(Y, X)``.
    shapes
        Pairs of a label and the rings of the object, as for :func:`fill`.
    """
    remaining = iter(shapes)
    while batch := list(itertools.islice(remaining, _BATCH)):
        # Each vertex with the object it belongs to, and where the ring goes on.
        rings = [
            np.asarray(ring, dtype=np.float64).reshape(-1, 2) for _, rs in batch for ring in rs
        ]
        rings_of = [len(rs) for _, rs in batch]
        sizes = np.array([len(ring) for ring in rings], dtype=np.int64)
        if not sizes.sum():
            continue
        owner = np.repeat(np.repeat(np.arange(len(batch)), rings_of), sizes)
        following = np.arange(1, sizes.sum() + 1)
        ends = np.cumsum(sizes)
        following[ends[sizes > 0] - 1] = (ends - sizes)[sizes > 0]
        names = np.array([label for label, _ in batch])
        _paint_polygons(labels, np.concatenate(rings), following, owner, names)


def _paint_polygons(
    labels: npt.NDArray[Any],
    points: npt.NDArray[np.float64],
    following: IntArray,
    owner: IntArray,
    names: npt.NDArray[Any],
) -> None:
    """Find where edges cross the centre lines of rows and fill between pairs of crossings."""
    height, width = labels.shape
    x0, y0 = points.T
    x1, y1 = points[following].T
    # An edge crosses the rows whose centre line lies between its ends (upper one included).
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
    count = np.maximum(stop - first, 0)
    edge = np.repeat(np.arange(len(points)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    share = (row + 0.5 - y0[edge]) / (y1 - y0)[edge]
    crossing = x0[edge] + share * (x1 - x0)[edge]
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    # Rings are closed, so every object has an even number of crossings in a row.
    order = np.lexsort((column, row, owner[edge]))
    row, column, label = row[order], column[order], names[owner[edge][order]]
    begin, length = column[0::2], column[1::2] - column[0::2]
    skipped = np.cumsum(length) - length
    target = np.repeat(row[0::2] * width + begin - skipped, length) + np.arange(length.sum())
    labels[np.divmod(target, width)] = np.repeat(label[0::2], length)


def _loops(
    labels: npt.NDArray[Any], cancelled: Callable[[], bool] | None = None
) -> list[tuple[int, IntArray]]:
    """Return (label, vertices) of each closed walk along pixel edges, sorted by label.

    A walk turns right wherever it can; it may come back to a vertex.
    """
    owner, start, direction = _edges(labels)
    if not len(owner):
        return []
    width = labels.shape[1] + 1
    step = np.array([1, width, -1, -width])[direction]
    following = _link(owner, start, start + step, direction)
    is_corner = direction[following] != direction
    # Vertices in the middle of a straight run are left out.
    after = following.tolist()
    corner = is_corner.tolist()
    ends = (start + step).tolist()
    owners = owner.tolist()
    seen = bytearray(len(after))
    vertices: list[int] = []
    begins: list[int] = []
    names: list[int] = []
    for first in range(len(after)):
        if seen[first]:
            continue
        stop_if(cancelled)
        begins.append(len(vertices))
        names.append(owners[first])
        edge = first
        while not seen[edge]:
            seen[edge] = 1
            if corner[edge]:
                vertices.append(ends[edge])
            edge = after[edge]
    flat = np.array(vertices, dtype=np.int64)
    points = np.stack([flat % width, flat // width], axis=1)
    stops = [*begins[1:], len(vertices)]
    return [
        (name, points[begin:stop]) for name, begin, stop in zip(names, begins, stops, strict=True)
    ]


def _edges(labels: npt.NDArray[Any]) -> tuple[IntArray, IntArray, npt.NDArray[np.int8]]:
    """Return label, start vertex (flat index) and direction of all edges, sorted by both first.

    Each pixel side beyond which another label lies is one edge of the pixel's object.
    """
    padded = np.pad(np.maximum(labels, 0), 1)
    width = labels.shape[1] + 1
    inner = padded[1:-1, 1:-1]
    sides = {
        _RIGHT: (padded[:-2, 1:-1], 0),  # along the top side, from its left end
        _DOWN: (padded[1:-1, 2:], 1),
        _LEFT: (padded[2:, 1:-1], width + 1),
        _UP: (padded[1:-1, :-2], width),
    }
    owner, start, direction = [], [], []
    for heading, (neighbour, offset) in sides.items():
        rows, columns = np.nonzero((inner != neighbour) & (inner > 0))
        owner.append(inner[rows, columns].astype(np.int64))
        start.append(rows * width + columns + offset)
        direction.append(np.full(len(rows), heading, dtype=np.int8))
    owners, starts, headings = (np.concatenate(part) for part in (owner, start, direction))
    order = np.lexsort((starts, owners))
    return owners[order], starts[order], headings[order]


def _link(
    owner: IntArray, start: IntArray, end: IntArray, direction: npt.NDArray[np.int8]
) -> IntArray:
    """Return, for each edge, the next edge of the same object.

    Where two edges start (parts of the object touch at a corner) the right turn is taken.
    """
    # Rank of (owner, vertex) among the sorted starts.
    new = np.ones(len(owner), dtype=bool)
    new[1:] = (owner[1:] != owner[:-1]) | (start[1:] != start[:-1])
    first_at = np.flatnonzero(new)
    order = np.lexsort((end, owner))
    # The same vertices occur as ends, as often as they occur as starts.
    vertex_of_end = np.empty(len(owner), dtype=np.int64)
    vertex_of_end[order] = np.cumsum(new) - 1
    following = first_at[vertex_of_end]
    crowded = np.append(np.diff(first_at), len(owner) - first_at[-1])[vertex_of_end] > 1
    right_turn = (direction + 1) % 4
    other = crowded & (direction[following] != right_turn)
    following[other] += 1
    return following


def _simple_rings(vertices: IntArray) -> list[IntArray]:
    """Cut a walk at vertices it visits twice, into rings that visit each vertex once."""
    points = [tuple(point) for point in vertices.tolist()]
    if len(set(points)) == len(points):
        return [vertices]
    rings = []
    path: list[tuple[int, ...]] = []
    place: dict[tuple[int, ...], int] = {}
    for point in points:
        if point in place:
            cut = place[point]
            rings.append(np.array(path[cut:], dtype=np.int64))
            for gone in path[cut + 1 :]:
                del place[gone]
            del path[cut + 1 :]
        else:
            place[point] = len(path)
            path.append(point)
    rings.append(np.array(path, dtype=np.int64))
    return rings


def _polygons(labels: npt.NDArray[Any], label: int, rings: list[IntArray]) -> tuple[Polygon, ...]:
    """Give each hole to the part of the object that it is in."""
    if len(rings) == 1:
        return (Polygon(rings[0]),)
    outer = [ring for ring in rings if _signed_area(ring) > 0]
    holes = [ring for ring in rings if _signed_area(ring) < 0]
    if len(outer) == 1:
        return (Polygon(outer[0], tuple(holes)),)
    if not holes:
        return tuple(Polygon(ring) for ring in outer)
    corners = np.concatenate(outer)
    left, top = corners.min(axis=0)
    right, bottom = corners.max(axis=0)
    parts = ndimage.label(labels[top:bottom, left:right] == label)[0]
    members: dict[int, list[IntArray]] = {}
    for ring in holes:
        members.setdefault(_part_beside(parts, ring - (left, top)), []).append(ring)
    found = ((ring, _part_beside(parts, ring - (left, top))) for ring in outer)
    return tuple(Polygon(ring, tuple(members.get(part, ()))) for ring, part in found)


def _part_beside(parts: npt.NDArray[Any], ring: IntArray) -> int:
    """Return the connected part whose pixel lies right of the ring's first edge."""
    (x0, y0), (x1, y1) = ring[0].tolist(), ring[1].tolist()
    if y0 == y1:
        return int(parts[y0, x0] if x1 > x0 else parts[y0 - 1, x0 - 1])
    return int(parts[y0, x0 - 1] if y1 > y0 else parts[y0 - 1, x0])


def _signed_area(ring: IntArray) -> int:
    x, y = ring.T
    return int(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1])
