"""The rules that turn painted labels into target, state and boundary term, window by window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from napari_unet.core.distances import Reach, boundary_term
from napari_unet.core.errors import InputError, SettingsError
from napari_unet.core.labels import (
    Box,
    Labels,
    Window,
    bounding_box,
    grown,
    read_labels,
    relative,
    shifted,
)
from napari_unet.core.separation import margin_radius, near_object, separate
from napari_unet.core.settings import AnnotationSettings, Area, Task, WeightMapSettings
from napari_unet.core.weight_map import checked_lengths

# Background is called emphasised where the boundary term adds more than this share of w0.
EMPHASIS_SHARE = 0.05

_LARGEST_CLASS = np.iinfo(np.uint16).max


class State(IntEnum):
    """What a pixel is trained as; every pixel is exactly one of these."""

    IGNORED = 0
    BACKGROUND = 1
    OBJECT = 2
    EMPHASISED = 3


@dataclass(frozen=True)
class Rules:
    """Settings with every length on the grid of the labels."""

    task: Task
    area: Area
    margin: float
    ridge: int
    reach: Reach | None
    spacing: tuple[float, float]
    boxes: tuple[Box, ...] = field(default=())

    @classmethod
    def of(
        cls,
        settings: AnnotationSettings,
        weights: WeightMapSettings,
        boxes: Any = None,
        spacing: Sequence[float] | None = None,
        scale: float = 1.0,
    ) -> Self:
        """Divide the lengths by ``scale`` (network pixels per image pixel) and check boxes.

        Raises
        ------
        InputError
            If boxes or scale are not usable.
        SettingsError
            If spacing is not usable.
        """
        if not (math.isfinite(scale) and scale > 0):
            raise SettingsError(f"The scale must be a positive number, not {scale}.")
        sigma, checked = checked_lengths(weights.w0, weights.sigma / scale, spacing)
        objects = settings.task == "objects"
        ridge = max(round(weights.ridge / scale), 1) if weights.ridge else 0
        return cls(
            task=settings.task,
            area=settings.area,
            margin=_scaled_margin(settings.margin, scale, checked or (1.0, 1.0)),
            ridge=ridge if objects else 0,
            reach=Reach.of(sigma, checked) if objects else None,
            spacing=checked or (1.0, 1.0),
            boxes=checked_boxes(boxes) if settings.area == "boxes" else (),
        )

    @property
    def halo(self) -> int:
        """Pixels beyond a window that its target, state and term can depend on."""
        far = max(self.reach.radius) + (self.ridge + 1) // 2 if self.reach else 0
        margin = max(margin_radius(self.margin, self.spacing)) if self.grows else 0
        return max(far, margin)

    @property
    def grows(self) -> bool:
        """Whether unlabelled pixels near an object are background."""
        return self.area == "around" and self.task == "objects"


def _scaled_margin(margin: float, scale: float, spacing: tuple[float, ...]) -> float:
    """Divide by the scale; objects of a few pixels keep a margin of a pixel as their background."""
    return max(margin / scale, min(margin, max(spacing)))


@dataclass(frozen=True)
class Part:
    """What a window of a plane is trained on.

    Attributes
    ----------
    target, state
        Class index and :class:`State` of each pixel.
    term
        Boundary term without ``w0``, 0 where ignored.
    reached
        Window of the plane, inside this one, that holds all object pixels; empty without any.
    painted, apart
        The labels there as painted and as they are after the ridge.
    """

    target: npt.NDArray[np.uint8 | np.uint16]
    state: npt.NDArray[np.uint8]
    term: npt.NDArray[np.float32]
    reached: Window
    painted: Labels
    apart: Labels


def checked_boxes(boxes: Any) -> tuple[Box, ...]:
    """Return boxes ``y0, x0, y1, x1`` as whole numbers, smaller corner first.

    Raises
    ------
    InputError
        If they are not ``(n, 4)`` finite numbers.
    """
    if boxes is None:
        return ()
    try:
        corners = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        corners = np.zeros(0)
        usable = False
    else:
        usable = corners.size == 0 or (corners.ndim == 2 and corners.shape[1] == 4)
    if not usable or not np.isfinite(corners).all():
        raise InputError("Boxes must be rows of four finite numbers: y0, x0, y1, x1.")
    rounded = np.rint(corners.reshape(-1, 2, 2)).astype(np.int64)
    ordered = np.concatenate([rounded.min(axis=1), rounded.max(axis=1)], axis=1)
    return tuple((y0, x0, y1, x1) for y0, x0, y1, x1 in ordered.tolist())


def interpret(labels: Any, window: Window, rules: Rules) -> Part:
    """Apply the rules to one window of a plane, reading only what they depend on.

    Parameters
    ----------
    labels
        ``(Y, X)`` array of any kind that :func:`napari_unet.core.labels.read_labels` reads.
    window
        Rows and columns.
    rules
        From :meth:`Rules.of`.

    Raises
    ------
    InputError
        If the labels are not whole numbers from -1 up, or too high for classes.
    """
    outer = grown(window, rules.halo, *labels.shape)
    near = read_labels(labels, outer)
    inner = relative(window, outer)
    trained = _trained(near[inner], window, rules)
    target: npt.NDArray[np.uint8 | np.uint16] = np.zeros(trained.shape, np.uint8)
    term = np.zeros(trained.shape, np.float32)
    reached = _reached(near, inner, rules.halo)
    here = relative(reached, inner)
    place = shifted(here, window[0].start, window[1].start)
    painted = apart = near[reached]
    state = trained.astype(np.uint8)
    if not painted.size:
        return Part(target, state, term, place, painted, apart)
    around = grown(reached, rules.halo, *near.shape)
    near, reached = near[around], relative(reached, around)
    if rules.grows:
        close = near_object(near, rules.margin, rules.spacing)[reached]
        np.logical_or(state[here], close, out=state[here], casting="unsafe")
    separated = separate(near, rules.ridge)
    apart = separated[reached]
    objects = (apart > 0) & (state[here] > 0)
    if rules.reach is None:
        classes = _class_target(apart, objects)
        target = target.astype(classes.dtype)
        target[here] = classes
    else:
        target[here] = objects
        term[here] = boundary_term(separated, rules.reach, reached) * (state[here] > 0)
    state[here] += objects
    state[here][term[here] > EMPHASIS_SHARE] = State.EMPHASISED
    return Part(target, state, term, place, painted, apart)


def _trained(painted: Labels, window: Window, rules: Rules) -> npt.NDArray[np.bool_]:
    """Return which pixels are trained whatever objects are near."""
    if rules.area == "all":
        return np.ones(painted.shape, bool)
    if rules.area != "boxes":
        marked: npt.NDArray[np.bool_] = painted != 0
        return marked
    inside = np.zeros(painted.shape, bool)
    top, left = window[0].start, window[1].start
    for y0, x0, y1, x1 in rules.boxes:
        rows = slice(max(y0 - top, 0), max(y1 - top, 0))
        inside[rows, max(x0 - left, 0) : max(x1 - left, 0)] = True
    return inside


def _reached(near: Labels, inner: Window, halo: int) -> Window:
    """Return the part of ``inner`` that objects can have an effect on."""
    box = bounding_box(near > 0)
    if box is None:
        return slice(inner[0].start, inner[0].start), slice(inner[1].start, inner[1].start)
    limits = zip(box[:2], box[2:], inner, strict=True)
    starts_stops = [
        (max(low - halo, axis.start), min(high + halo, axis.stop)) for low, high, axis in limits
    ]
    rows, columns = (slice(start, max(start, stop)) for start, stop in starts_stops)
    return rows, columns


def _class_target(
    labels: Labels, objects: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8 | np.uint16]:
    """Return the class index: the label where it is trained, else 0."""
    highest = int(labels.max(initial=0))
    if highest > _LARGEST_CLASS:
        raise InputError(
            f"The label {highest} is too high for a class; choose the task 'objects' "
            "if the labels number objects."
        )
    kept = np.where(objects, labels, 0)
    return kept.astype(np.uint8) if highest < 256 else kept.astype(np.uint16)
