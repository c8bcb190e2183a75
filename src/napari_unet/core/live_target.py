"""A training target that follows the brush: a stroke costs only its neighbourhood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.annotation import (
    Target,
    TrainingTarget,
    compose,
    interpret_plane,
    target_dtype,
)
from napari_unet.core.annotation_checks import (
    ObjectSummary,
    StateCounts,
    annotation_warnings,
    count_states,
    scattered_objects,
)
from napari_unet.core.annotation_rules import Part, Rules, State, interpret
from napari_unet.core.errors import InputError
from napari_unet.core.labels import (
    Box,
    Labels,
    Window,
    as_label_array,
    bounding_box,
    grown,
    parts,
    read_labels,
    relative,
    shifted,
)
from napari_unet.core.separation import separate
from napari_unet.core.settings import AnnotationSettings, WeightMapSettings
from napari_unet.core.weight_map import class_weights


class LiveTarget:
    """The training target of one plane, kept right while it is painted.

    Kept are class, state and boundary term of each pixel, and a copy of the labels; weights are
    put together for the part that is asked for, because one stroke changes the class balance
    and with it every weight. All results equal those of
    :func:`napari_unet.core.annotation.training_target` on the present labels.

    Parameters
    ----------
    labels
        ``(Y, X)`` whole numbers.
    settings, weights, boxes, spacing, scale
        As for :func:`napari_unet.core.annotation.training_target`.

    Raises
    ------
    InputError
        If the labels are not one plane or cannot be read.
    """

    def __init__(
        self,
        labels: Any,
        *,
        settings: AnnotationSettings | None = None,
        weights: WeightMapSettings | None = None,
        boxes: Any = None,
        spacing: Sequence[float] | None = None,
        scale: float = 1.0,
    ) -> None:
        labels = as_label_array(labels)
        if len(labels.shape) != 2:
            raise InputError(f"One plane has 2 axes, these labels have {len(labels.shape)}.")
        self._labels = read_labels(labels).copy()
        self._spacing, self._scale = spacing, scale
        self._rebuild(settings or AnnotationSettings(), weights or WeightMapSettings(), boxes)

    def _rebuild(
        self, settings: AnnotationSettings, weights: WeightMapSettings, boxes: Any
    ) -> None:
        """Compute everything; what cannot be used raises and leaves all as it was."""
        rules = self._resolved(settings, weights, boxes)
        target: Target = np.empty(self.shape, target_dtype(self._labels, rules))
        state = np.empty(self.shape, np.uint8)
        term = np.empty(self.shape, np.float32)
        self._tally = interpret_plane(self._labels, rules, target, state, term)
        self._target, self._state, self._term = target, state, term
        self._settings, self._weights, self._boxes = settings, weights, boxes
        self._rules = rules

    def _resolved(
        self, settings: AnnotationSettings, weights: WeightMapSettings, boxes: Any
    ) -> Rules:
        return Rules.of(settings, weights, boxes, self._spacing, self._scale)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._labels.shape[0], self._labels.shape[1]

    @property
    def settings(self) -> AnnotationSettings:
        """What unlabelled pixels mean."""
        return self._settings

    @property
    def blank(self) -> bool:
        """Whether nothing at all is painted."""
        return not len(self._tally.objects) and not self._labels.any()

    @property
    def counts(self) -> StateCounts:
        """Pixels per state and number of objects, of the whole plane."""
        return self._tally.counts(self._rules, self._weights.w0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what may spoil training."""
        return annotation_warnings(self._tally, self._rules)

    @property
    def diameter(self) -> float | None:
        """Median diameter of the objects, as ``median_diameter`` measures it on the plane.

        Known without a look at the pixels; None when no object is painted. For the task objects.
        """
        objects = self._tally.objects
        complete = (objects.boxes[:, :2] > 0) & (objects.boxes[:, 2:] < self.shape)
        kept = complete.all(axis=1)
        areas = objects.painted[kept] if kept.any() else objects.painted
        return float(np.median(2 * np.sqrt(areas / np.pi))) if areas.size else None

    def target(self, window: Window | None = None) -> Target:
        """Return the class of each pixel of a window (default: all), read-only."""
        return _read_only(self._target[window or _everything(self.shape)])

    def state(self, window: Window | None = None) -> npt.NDArray[np.uint8]:
        """Return the :class:`State` of each pixel of a window (default: all)."""
        part = self._state[window or _everything(self.shape)].copy()
        if self._weights.w0 == 0:
            part[part == State.EMPHASISED] = State.BACKGROUND
        return part

    def weight(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the weights of a window (default: all), put together now."""
        window = window or _everything(self.shape)
        per_class = class_weights(self._tally.classes(self._rules), self._weights.class_balance)
        weight = self._term[window].copy()
        compose(self._target[window], self.state(window), weight, self._weights.w0, per_class)
        return weight

    def snapshot(self) -> TrainingTarget:
        """Return the whole target as it is now, independent of later strokes."""
        return TrainingTarget(
            self._target.copy(), self.weight(), self.state(), self.counts, self.warnings
        )

    def changed(self, labels: Any, box: Sequence[int] | None = None) -> Box | None:
        """Return the box around the labels that differ from those taken over; parameters as below.

        Raises
        ------
        InputError
            If the shape changed or a label cannot be read.
        """
        labels = as_label_array(labels)
        if tuple(labels.shape) != self.shape:
            raise InputError(f"The labels must keep their shape {self.shape}.")
        height, width = self.shape
        y0, x0, y1, x1 = (0, 0, height, width) if box is None else (int(edge) for edge in box)
        asked = (
            slice(min(max(y0, 0), height), min(max(y1, 0), height)),
            slice(min(max(x0, 0), width), min(max(x1, 0), width)),
        )
        return self._differing(labels, asked)

    def cost(self, box: Box) -> int:
        """Return how many pixels are computed again when labels change in a box."""
        rows, columns = self._affected(box)
        return int((rows.stop - rows.start) * (columns.stop - columns.start))

    def update(self, labels: Any, box: Sequence[int] | None = None) -> Box | None:
        """Take over changed labels.

        Parameters
        ----------
        labels
            The whole plane as it is now, same shape as before.
        box
            ``y0, x0, y1, x1``, half open: where labels may have changed. None: anywhere; the
            change is looked for, which costs one comparison of the plane.

        Returns
        -------
        box or None
            Where class, state or boundary term may differ from before, or None when no label
            changed. The class balance, and with it the weights, may change everywhere.

        Raises
        ------
        InputError
            If the shape changed or a label cannot be read; nothing is taken over then.
        """
        found = self.changed(labels, box)
        if found is None:
            return None
        changed = slice(found[0], found[2]), slice(found[1], found[3])
        before = self._labels[changed].copy()
        now = read_labels(labels, changed).copy()  # it may be painted on meanwhile
        window = self._affected(found)
        old = self._part(window)
        if now.itemsize > self._labels.itemsize:
            self._labels = self._labels.astype(now.dtype)
        self._labels[changed] = now
        try:
            new = interpret(self._labels, window, self._rules)
        except InputError:
            self._labels[changed] = before
            raise
        self._replace(window, old, new)
        self._check_pieces(np.union1d(before, now))
        rows, columns = window
        return rows.start, columns.start, rows.stop, columns.stop

    def change_weights(self, weights: WeightMapSettings) -> bool:
        """Use other weights; ``w0`` and class balance cost no distance work.

        Returns
        -------
        bool
            Whether everything was computed again (another sigma or ridge).
        """
        if self._resolved(self._settings, weights, self._boxes) == self._rules:
            self._weights = weights
            return False
        self._rebuild(self._settings, weights, self._boxes)
        return True

    def change_settings(self, settings: AnnotationSettings, boxes: Any = None) -> bool:
        """Give unlabelled pixels another meaning, or draw other boxes.

        Returns
        -------
        bool
            Whether everything was computed again.

        Raises
        ------
        InputError
            If the boxes or, for the new task, the labels cannot be used; nothing changes then.
        """
        if self._resolved(settings, self._weights, boxes) == self._rules:
            self._settings, self._boxes = settings, boxes
            return False
        self._rebuild(settings, self._weights, boxes)
        return True

    def _part(self, window: Window) -> Part:
        """Return what a window was trained on up to now, with labels of its own."""
        outer = grown(window, (self._rules.ridge + 1) // 2, *self.shape)
        apart = separate(self._labels[outer], self._rules.ridge)[relative(window, outer)]
        return Part(
            self._target[window],
            self._state[window],
            self._term[window],
            window,
            self._labels[window].copy(),
            apart.copy(),
        )

    def _replace(self, window: Window, old: Part, new: Part) -> None:
        """Exchange a window and bring the totals up to date."""
        tally = self._tally
        tally.states += count_states(new.state) - count_states(old.state)
        objects = tally.objects.merged(ObjectSummary.of(new, window))
        objects = objects.without(ObjectSummary.of(old, window))
        tally.objects = objects.rows(objects.painted > 0)
        if new.target.itemsize > self._target.itemsize:
            self._target = self._target.astype(new.target.dtype)
        self._target[window] = new.target
        self._state[window] = new.state
        self._term[window] = new.term

    def _check_pieces(self, touched: Labels) -> None:
        """Bring bounding boxes and the list of scattered objects up to date."""
        if self._rules.task != "objects":
            return
        tally = self._tally
        rows = np.flatnonzero(np.isin(tally.objects.ids, touched))
        for row in rows:
            y0, x0, y1, x1 = tally.objects.boxes[row].tolist()
            bounds = bounding_box(self._labels[y0:y1, x0:x1] == tally.objects.ids[row])
            if bounds is not None:
                tally.objects.boxes[row] = np.add(bounds, (y0, x0, y0, x0))
        known = set(tally.scattered) - set(touched.tolist())
        found = scattered_objects(self._labels, tally.objects.rows(rows), self._rules)
        tally.scattered = tuple(sorted(known | set(found)))

    def _affected(self, box: Box) -> Window:
        y0, x0, y1, x1 = box
        return grown((slice(y0, y1), slice(x0, x1)), self._rules.halo, *self.shape)

    def _differing(self, labels: Any, asked: Window) -> Box | None:
        top, left = asked[0].start, asked[1].start
        found: list[Box] = []
        for window in parts(asked[0].stop - top, asked[1].stop - left):
            part = shifted(window, top, left)
            differs = read_labels(labels, part) != self._labels[part]
            bounds = bounding_box(differs)
            if bounds is not None:
                y, x = part[0].start, part[1].start
                found.append((bounds[0] + y, bounds[1] + x, bounds[2] + y, bounds[3] + x))
        if not found:
            return None
        edges = np.array(found)
        y0, x0 = edges[:, :2].min(axis=0).tolist()
        y1, x1 = edges[:, 2:].max(axis=0).tolist()
        return y0, x0, y1, x1


def _everything(shape: tuple[int, int]) -> Window:
    return slice(0, shape[0]), slice(0, shape[1])


def _read_only(array: Target) -> Target:
    view = array.view()
    view.flags.writeable = False
    return view
