"""Building the live target of one plane, here or in a thread."""

from __future__ import annotations

from collections.abc import Callable, Generator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.labels import Box
from napari_unet.core.live_target import LiveTarget
from napari_unet.core.settings import AnnotationSettings

if TYPE_CHECKING:
    from napari_unet.core.size_match import SizeMatch

#: What unpainted pixels mean, and what they mean while nothing is painted in the plane.
Meanings = tuple[AnnotationSettings, AnnotationSettings]


def scale_of(plane: Any, match: SizeMatch | None) -> float:
    """Return network pixels per image pixel, as training chooses them for these labels.

    Parameters
    ----------
    plane
        ``(Y, X)`` labels.
    match
        How images are resampled, if they are.
    """
    if match is None:
        return 1.0
    from napari_unet.core.diameter import median_diameter  # brings torch: not before it is needed

    return match.scale(median_diameter(plane))


def target_of(labels: Any, *, meanings: Meanings, boxes: Any, **arguments: Any) -> LiveTarget:
    """Return the target of labels that may be painted meanwhile."""
    painted, blank = meanings
    target = LiveTarget(labels, settings=painted, boxes=boxes, **arguments)
    if target.blank:
        target.change_settings(blank, boxes)
    return target


def build(
    plane: Any,
    arguments: dict[str, Any],
    match: SizeMatch | None,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[tuple[LiveTarget, float], None, None]:
    """Build a target in a thread; it is dropped when something newer was asked for meanwhile."""
    labels = np.asarray(plane)
    scale = scale_of(labels, match)
    target = target_of(labels, scale=scale, **arguments)
    if cancelled is None or not cancelled():
        yield target, scale


def follow(
    target: LiveTarget,
    plane: Any,
    box: Box,
    scale: float,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[tuple[LiveTarget, float], None, None]:
    """Update a copy of a target in a thread; the target itself may be looked at meanwhile."""
    fresh = deepcopy(target)
    fresh.update(plane, box)
    if cancelled is None or not cancelled():
        yield fresh, scale
