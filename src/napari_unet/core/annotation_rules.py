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
from napari_unet.core.labels import Box, Labels, Window, grown, read_labels, relative
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
            margin=settings.margin / scale,
            ridge=ridge if objects else 0,
            reach=Reach.of(sigma, checked) if objects else None,
            spacing=checked or (1.0, 1.0),
            boxes=checked_boxes(boxes) if settings.area == "boxes" else (),
        )

    @property
    def halo(self) -> int:
        """Pixels beyond a window that its target, state and term can depend on."""
        far = max(self.reach.radius) + (self.ridge + 1) // 2 if self.reach else 0
        margin = max(margin_radius(self.margin, self.spacing)) if self._grows else 0
        return max(far, margin)

    @property
    def _grows(self) -> bool:
        return self.area == "around" and self.task == "objects"


@dataclass(frozen=True)
class Part:
    """What a window of a plane is trained on.

    ``painted`` are its labels, ``apart`` those after the ridge. ``term`` is the boundary term
    without ``w0``, 0 where ignored.
    """

    target: npt.NDArray[np.uint8 | np.uint16]
    state: npt.NDArray[np.uint8]
    term: npt.NDArray[np.float32]
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


def painted_and_apart(labels: Labels, window: Window, rules: Rules) -> tuple[Labels, Labels]:
    """Return the labels of a window as painted and as they are after the ridge."""
    outer = grown(window, (rules.ridge + 1) // 2, *labels.shape)
    inner = relative(window, outer)
    return labels[window], separate(labels[outer], rules.ridge)[inner]


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
        If the labels are not whole numbers from -1 up, or too many for classes.
    """
    height, width = labels.shape
    outer = grown(window, rules.halo, height, width)
    near = read_labels(labels, outer)
    inner = relative(window, outer)
    painted = near[inner]
    apart = separate(near, rules.ridge)
    kept = apart[inner]
    objects = kept > 0
    trained = _trained(near, painted, inner, window, rules)
    objects &= trained
    state = trained.view(np.uint8) + objects.view(np.uint8)
    if rules.reach is None:
        term = np.zeros(painted.shape, np.float32)
        target = _class_target(kept, objects)
    else:
        term = boundary_term(apart, rules.reach, inner)
        term *= trained
        state[term > EMPHASIS_SHARE] = State.EMPHASISED
        target = objects.view(np.uint8)
    return Part(target, state, term, painted, kept)


def _trained(
    near: Labels, painted: Labels, inner: Window, window: Window, rules: Rules
) -> npt.NDArray[np.bool_]:
    """Return which pixels of the window are not ignored."""
    if rules.area == "all":
        return np.ones(painted.shape, bool)
    if rules.area == "boxes":
        inside = np.zeros(painted.shape, bool)
        top, left = window[0].start, window[1].start
        for y0, x0, y1, x1 in rules.boxes:
            rows = slice(max(y0 - top, 0), max(y1 - top, 0))
            inside[rows, max(x0 - left, 0) : max(x1 - left, 0)] = True
        return inside
    marked: npt.NDArray[np.bool_] = painted != 0
    if rules.area == "around" and rules.task == "objects":
        radius = max(margin_radius(rules.margin, rules.spacing))
        height, width = near.shape
        around = grown(inner, radius, height, width)
        close = near_object(near[around], rules.margin, rules.spacing)
        np.logical_or(marked, close[relative(inner, around)], out=marked)
    return marked


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
