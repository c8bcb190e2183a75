"""Counts of an annotation and sentences about what may spoil training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.annotation_rules import Part, Rules, State
from napari_unet.core.distances import object_table
from napari_unet.core.labels import Labels, Window, read_labels, relative

_MANY_CLASSES = 32
# Below this share of its bounding box an object may be several pieces far apart.
_SPARSE = 0.5
_EIGHT_CONNECTED = np.ones((3, 3), int)
_MOST_PIECES = 64

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StateCounts:
    """Pixels of each state, and how many objects have trained pixels.

    In task ``classes`` an "object" is a class above 0. ``classes`` holds the trained pixels of
    each class of the target, background first.
    """

    ignored: int
    background: int
    object_pixels: int
    emphasised: int
    objects: int
    classes: tuple[int, ...]

    @property
    def trained(self) -> int:
        """Pixels that are not ignored."""
        return sum(self.classes)


@dataclass(frozen=True)
class ObjectSummary:
    """One row per object: id, bounding box, and pixels painted, left by the ridge, trained.

    In one plane the ids are ascending.
    """

    ids: Counts
    boxes: Counts
    painted: Counts
    apart: Counts
    trained: Counts

    @classmethod
    def empty(cls) -> ObjectSummary:
        """Return a summary of nothing."""
        none = np.zeros(0, np.int64)
        return cls(none, np.zeros((0, 4), np.int64), none, none, none)

    @classmethod
    def of(cls, part: Part, window: Window) -> ObjectSummary:
        """Summarise a window; boxes are in coordinates of the plane."""
        if not part.painted.size:
            return cls.empty()
        table = object_table(part.painted)
        corner = np.array([part.reached[0].start, part.reached[1].start] * 2)
        apart = table.pixels - _count(table.ids, part.painted, part.apart != part.painted)
        state = part.state[relative(part.reached, window)]
        untrained = (part.apart > 0) & (state != State.OBJECT)
        trained = apart - _count(table.ids, part.apart, untrained)
        return cls(table.ids, table.boxes + corner, table.pixels, apart, trained)

    def __len__(self) -> int:
        return len(self.ids)

    def merged(self, other: ObjectSummary) -> ObjectSummary:
        """Add another part of the same plane: the same id is the same object."""
        result = self._with_rows_for(other)
        place = np.searchsorted(result.ids, other.ids)
        boxes = result.boxes.copy()
        boxes[place, :2] = np.minimum(boxes[place, :2], other.boxes[:, :2])
        boxes[place, 2:] = np.maximum(boxes[place, 2:], other.boxes[:, 2:])
        result = replace(result, boxes=boxes)
        result._add(place, other, 1)
        return result

    def without(self, other: ObjectSummary) -> ObjectSummary:
        """Take away a part of the same plane; boxes stay as large as they were."""
        result = self._with_rows_for(self.rows(slice(0, 0)))
        result._add(np.searchsorted(result.ids, other.ids), other, -1)
        return result

    def _with_rows_for(self, other: ObjectSummary) -> ObjectSummary:
        """Return a copy, by ascending id, that has a row for each id of both."""
        new = other.rows(~np.isin(other.ids, self.ids))
        none = np.zeros_like(new.ids)
        both = self.followed_by(replace(new, painted=none, apart=none, trained=none))
        return both.rows(np.argsort(both.ids, kind="stable"))

    def _add(self, place: npt.NDArray[np.intp], other: ObjectSummary, sign: int) -> None:
        self.painted[place] += sign * other.painted
        self.apart[place] += sign * other.apart
        self.trained[place] += sign * other.trained

    def followed_by(self, other: ObjectSummary) -> ObjectSummary:
        """List the objects of another plane after these, without joining equal ids."""
        return ObjectSummary(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.boxes, other.boxes]),
            np.concatenate([self.painted, other.painted]),
            np.concatenate([self.apart, other.apart]),
            np.concatenate([self.trained, other.trained]),
        )

    def rows(self, chosen: Any) -> ObjectSummary:
        """Return the rows that a mask, an index array or a slice picks."""
        return ObjectSummary(
            self.ids[chosen],
            self.boxes[chosen],
            self.painted[chosen],
            self.apart[chosen],
            self.trained[chosen],
        )


def _count(ids: Counts, labels: Labels, where: npt.NDArray[np.bool_]) -> Counts:
    """Return how many pixels of each id lie ``where`` (few, compared with the plane)."""
    found, pixels = np.unique(labels[where], return_counts=True)
    known = found > 0
    result = np.zeros(len(ids), np.int64)
    result[np.searchsorted(ids, found[known])] = pixels[known]
    return result


@dataclass
class Tally:
    """Running totals of an annotation: pixels per state and its objects."""

    states: Counts
    objects: ObjectSummary
    scattered: tuple[int, ...] = ()

    @classmethod
    def empty(cls) -> Tally:
        """Return totals of nothing."""
        return cls(np.zeros(len(State), np.int64), ObjectSummary.empty())

    def add(self, part: Part, window: Window) -> None:
        """Add one more window of the same plane."""
        self.states += count_states(part.state)
        self.objects = self.objects.merged(ObjectSummary.of(part, window))

    def append(self, plane: Tally) -> None:
        """Add another plane."""
        self.states += plane.states
        self.objects = self.objects.followed_by(plane.objects)
        self.scattered += plane.scattered

    def classes(self, rules: Rules) -> Counts:
        """Return the trained pixels of each class, background first."""
        background = self.states[State.BACKGROUND] + self.states[State.EMPHASISED]
        if rules.task == "objects":
            return np.array([background, self.states[State.OBJECT]])
        highest = int(self.objects.ids.max(initial=1))
        pixels = np.zeros(highest + 1, np.int64)
        pixels[0] = background
        np.add.at(pixels, self.objects.ids, self.objects.trained)
        return pixels

    def counts(self, rules: Rules, w0: float) -> StateCounts:
        """Return the totals as shown to the user; without ``w0`` nothing is emphasised."""
        ignored, background, objects, emphasised = self.states.tolist()
        if w0 == 0:
            background, emphasised = background + emphasised, 0
        classes = self.classes(rules)
        seen = int(np.count_nonzero(self.objects.trained))
        if rules.task == "classes":
            seen = int(np.count_nonzero(classes[1:]))
        return StateCounts(ignored, background, objects, emphasised, seen, tuple(classes.tolist()))


def count_states(state: npt.NDArray[np.uint8]) -> Counts:
    """Return the number of pixels of each :class:`State`."""
    counts = [int(np.count_nonzero(state == value)) for value in list(State)[1:]]
    return np.array([state.size - sum(counts), *counts], np.int64)


def scattered_objects(plane: Any, objects: ObjectSummary, rules: Rules) -> tuple[int, ...]:
    """Return ids painted in pieces that lie further apart than the largest piece is wide.

    Only objects that fill little of their bounding box are looked at, so the cost is small.
    """
    if rules.task != "objects" or not len(objects):
        return ()
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    sparse = np.flatnonzero(objects.painted < _SPARSE * sides.prod(axis=1))
    found = []
    for number, box in zip(objects.ids[sparse], objects.boxes[sparse].tolist(), strict=True):
        y0, x0, y1, x1 = box
        if _is_scattered(read_labels(plane, (slice(y0, y1), slice(x0, x1))) == number):
            found.append(int(number))
    return tuple(found)


def _is_scattered(inside: npt.NDArray[np.bool_]) -> bool:
    pieces, count = ndimage.label(inside, structure=_EIGHT_CONNECTED)
    if count < 2:
        return False
    table = object_table(pieces)
    largest_first = np.argsort(-table.pixels, kind="stable")[:_MOST_PIECES]
    boxes = table.boxes[largest_first]
    diameter = 2.0 * np.sqrt(table.pixels.max() / np.pi)
    gaps = np.maximum(boxes[:, None, :2] - boxes[None, :, 2:], 0).astype(float)
    gaps = np.hypot(*np.moveaxis(np.maximum(gaps, gaps.swapaxes(0, 1)), 2, 0))
    np.fill_diagonal(gaps, np.inf)
    return bool((gaps.min(axis=1) > diameter).any())


def annotation_warnings(tally: Tally, rules: Rules) -> tuple[str, ...]:
    """Return one sentence for each thing that may spoil training, worst first."""
    return tuple(_complaints(tally, rules))


def _complaints(tally: Tally, rules: Rules) -> Iterable[str]:
    objects = tally.objects
    background = int(tally.states[State.BACKGROUND] + tally.states[State.EMPHASISED])
    if not len(objects):
        thing = "object" if rules.task == "objects" else "class"
        yield f"No {thing} is painted yet: paint at least one."
    every_pixel = len(objects) > 1 and objects.painted.sum() == tally.states.sum()
    if rules.task == "objects" and every_pixel:
        yield (
            "Every pixel belongs to an object, so only the ridges between them are background: "
            "check that image and labels were not exchanged."
        )
    if rules.area == "boxes" and not rules.boxes:
        yield "No box is drawn, so every pixel is ignored: draw a box around an annotated area."
    elif objects.apart.any() and not tally.states[State.OBJECT]:
        yield "No painted pixel is trained: every painted object lies outside the boxes."
    one_class = rules.task == "objects" or len(np.unique(objects.ids[objects.trained > 0])) < 2
    if tally.states[State.OBJECT] and not background and one_class:
        yield (
            "There is no background to learn from: paint some background, or let unpainted "
            "pixels count as background."
        )
    if rules.task == "classes":
        classes = int(objects.ids.max(initial=0)) + 1
        if classes > _MANY_CLASSES:
            yield f"There are {classes} classes: if labels number objects, use task 'objects'."
        return
    yield from _object_complaints(objects, tally.scattered)


def _object_complaints(objects: ObjectSummary, scattered: tuple[int, ...]) -> Iterable[str]:
    single = objects.ids[objects.painted == 1]
    if len(single):
        yield (f"{_named(single, 'is', 'are')} a single pixel: erase what was painted by accident.")
    gone = objects.ids[(objects.apart == 0) & (objects.painted > 1)]
    if len(gone):
        yield (
            f"{_named(gone, 'is', 'are')} too thin and vanish{'es' * (len(gone) == 1)} under the "
            "ridge between touching objects: make the ridge narrower."
        )
    cut = objects.ids[(objects.trained > 0) & (objects.trained < objects.apart)]
    if len(cut):
        yield f"{_named(cut, 'is', 'are')} cut by a box: only the part inside is trained."
    if len(scattered):
        yield (
            f"{_named(np.array(scattered), 'has', 'have')} pieces far apart: "
            "give each object its own number."
        )


def _named(ids: Counts, singular: str, plural: str) -> str:
    """Return "Object 7 is" or "4 objects (3, 7, 9, ...) are"."""
    if len(ids) == 1:
        return f"Object {ids[0]} {singular}"
    shown = ", ".join(str(number) for number in ids[:3])
    more = ", ..." if len(ids) > 3 else ""
    return f"{len(ids)} objects ({shown}{more}) {plural}"
