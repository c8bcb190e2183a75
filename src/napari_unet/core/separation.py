"""Which pixels of an annotation separate objects, and which lie near one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.labels import Labels

# Up to this radius a minimum over shifted views is faster than a distance transform.
_SMALL_RADIUS = 48


def separate(labels: Labels, ridge: int) -> Labels:
    """Return ``labels`` with a line of zeros, ``ridge`` pixels wide, between touching objects.

    Objects touch where they are 8-connected. A pixel is cleared when another object has a pixel
    within ``ridge / 2`` pixels of it, counted like a king's moves; of an odd width the object
    with the higher id gives the extra pixel. Two objects are never 8-connected afterwards when
    ``ridge`` is at least 1. Whether a pixel is cleared depends on nothing further away than
    ``(ridge + 1) // 2`` pixels, and not on the border of the array, where no object ends.

    Parameters
    ----------
    labels
        ``(Y, X)`` signed integers, objects above 0.
    ridge
        Width in pixels; 0 returns ``labels`` themselves.
    """
    if ridge <= 0:
        return labels
    highest = np.iinfo(labels.dtype).max
    painted = labels > 0
    lowest_near = _running(np.minimum, np.where(painted, labels, highest), (ridge + 1) // 2)
    cleared = labels > lowest_near
    if ridge > 1:
        cleared |= _running(np.maximum, labels, ridge // 2) > labels
    cleared &= painted
    return np.where(cleared, labels.dtype.type(0), labels)


def _running(extremum: np.ufunc, values: Labels, radius: int) -> Labels:
    """Return the extremum over the ``2 radius + 1`` square around each pixel."""
    for axis in (0, 1):
        source = np.moveaxis(values, axis, 0)
        values = values.copy()
        result = np.moveaxis(values, axis, 0)
        for offset in range(1, min(radius, len(source) - 1) + 1):
            extremum(result[offset:], source[:-offset], out=result[offset:])
            extremum(result[:-offset], source[offset:], out=result[:-offset])
    return values


def near_object(
    labels: Labels, margin: float, spacing: tuple[float, float] = (1.0, 1.0)
) -> npt.NDArray[np.bool_]:
    """Return where a pixel of an object is at most ``margin`` away (Euclidean, exact).

    Parameters
    ----------
    labels
        ``(Y, X)`` signed integers, objects above 0.
    margin
        Distance in the unit of ``spacing``.
    spacing
        Pixel size along y and x.
    """
    painted = labels > 0
    if not painted.any():
        return painted
    radius = margin_radius(margin, spacing)
    if max(radius) > _SMALL_RADIUS:
        distance = ndimage.distance_transform_edt(~painted, sampling=spacing)
        return np.asarray(distance <= margin)
    steps = _steps_along_columns(painted, radius[0])
    result = steps <= radius[0]
    for offset in range(1, min(radius[1], painted.shape[1] - 1) + 1):
        allowed = max(margin**2 - (offset * spacing[1]) ** 2, 0.0) ** 0.5 / spacing[0]
        close = steps <= int(allowed + 1e-9)
        result[:, offset:] |= close[:, :-offset]
        result[:, :-offset] |= close[:, offset:]
    return result


def margin_radius(margin: float, spacing: tuple[float, float] = (1.0, 1.0)) -> tuple[int, int]:
    """Return how many whole pixels along y and x fit into ``margin``."""
    return int(margin / spacing[0] + 1e-9), int(margin / spacing[1] + 1e-9)


def _steps_along_columns(painted: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.uint8]:
    """Return pixels to the nearest painted one of the same column, capped at ``radius + 1``."""
    steps = np.where(painted, np.uint8(0), np.uint8(radius + 1))
    one_more = np.empty(steps.shape[1], np.uint8)
    for rows in (range(1, len(steps)), range(len(steps) - 2, -1, -1)):
        before = rows.start - rows.step
        for row in rows:
            np.add(steps[before], np.uint8(1), out=one_more)
            np.minimum(steps[row], one_more, out=steps[row])
            before = row
    return steps
