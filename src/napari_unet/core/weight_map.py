"""The weight map of Ronneberger et al. 2015, eq. 2: class balance plus boundary emphasis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.distances import Reach, boundary_term
from napari_unet.core.errors import InputError, SettingsError
from napari_unet.core.labels import (
    as_label_array,
    grown,
    parts,
    plane_indices,
    read_labels,
    relative,
)

_IS_OBJECT = np.float32(-1)


def weight_map(
    labels: Any,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_balance: bool = True,
    spacing: Sequence[float] | None = None,
    mask: Any = None,
) -> npt.NDArray[np.float32]:
    """Return ``w(x) = m(x) (wc(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)))``.

    ``d1`` and ``d2`` are the Euclidean distances from a background pixel to the border of the
    nearest and of the second nearest object, measured to the nearest pixel of the object; the
    exponential term is 0 inside objects and where there are fewer than two objects. The result
    differs from the formula by less than ``1e-4 * w0`` everywhere.

    Parameters
    ----------
    labels
        ``(..., Y, X)`` whole numbers; objects are above 0, everything else is background. All
        pixels of one id are one object. Leading axes are independent planes.
    w0
        Weight of the exponential term.
    sigma
        Its reach, in pixels, or in the unit of ``spacing``.
    class_balance
        Whether ``wc`` gives objects and background the same total weight, see
        :func:`class_weights`; otherwise ``wc`` is 1.
    spacing
        Pixel size along y and x.
    mask
        ``m``: same shape as ``labels``, True where the pixel is trained (default: everywhere).
        Objects outside the mask still count as neighbours.

    Returns
    -------
    ndarray
        float32, same shape as ``labels``.

    Raises
    ------
    InputError
        If labels are not whole numbers or the mask has another shape.
    SettingsError
        If w0, sigma or spacing are not usable.
    """
    labels = as_label_array(labels)
    reach = Reach.of(*checked_lengths(w0, sigma, spacing))
    if mask is not None:
        mask = mask if hasattr(mask, "shape") else np.asarray(mask)
        if tuple(mask.shape) != tuple(labels.shape):
            raise InputError(
                f"The mask must have the shape of the labels, {tuple(labels.shape)}, "
                f"not {tuple(mask.shape)}."
            )
    weights = np.empty(tuple(labels.shape), np.float32)
    for index in plane_indices(weights.shape):
        chosen = None if mask is None else mask[index] if index else mask
        _weigh_plane(
            labels[index] if index else labels, chosen, reach, w0, class_balance, weights[index]
        )
    return weights


def _weigh_plane(
    labels: Any,
    mask: Any,
    reach: Reach,
    w0: float,
    class_balance: bool,
    out: npt.NDArray[np.float32],
) -> None:
    """Fill ``out`` part by part: first the boundary term, then the class weights on top."""
    height, width = out.shape
    counts = np.zeros(2, np.int64)
    for window in parts(height, width):
        outer = grown(window, max(reach.radius), height, width)
        near = read_labels(labels, outer)
        inner = relative(window, outer)
        term = boundary_term(near, reach, inner)
        inside = near[inner] > 0
        # The term is at least 0: a negative number carries the class to the second round, and no
        # other array of the size of the plane is needed.
        np.multiply(term, np.float32(w0), out=out[window])
        np.copyto(out[window], _IS_OBJECT, where=inside)
        total = inside.size
        if mask is not None:
            trained = np.asarray(mask[window], bool)
            total = int(np.count_nonzero(trained))
            inside &= trained
        objects = int(np.count_nonzero(inside))
        counts += (total - objects, objects)
    of_background, of_objects = class_weights(counts, class_balance)
    for window in parts(height, width):
        part = out[window]
        inside = part == _IS_OBJECT
        part += of_background
        np.copyto(part, of_objects, where=inside)
        if mask is not None:
            part *= np.asarray(mask[window], bool)


def class_weights(
    counts: npt.NDArray[np.integer] | Sequence[int], class_balance: bool = True
) -> npt.NDArray[np.float32]:
    """Return the class part ``wc`` of the weight map for each class.

    ``wc = N / (K n_c)`` for the ``K`` classes that occur, with ``n_c`` pixels of the class among
    ``N`` trained pixels: every class has the same total weight and the mean over the trained
    pixels is 1. Classes that do not occur, and all classes without balance, get 1.

    Parameters
    ----------
    counts
        Trained pixels per class.
    class_balance
        Whether to balance at all.
    """
    pixels = np.asarray(counts, np.float64)
    weights = np.ones(len(pixels))
    if class_balance:
        present = pixels > 0
        weights[present] = pixels.sum() / (present.sum() * pixels[present])
    return weights.astype(np.float32)


def checked_lengths(
    w0: float, sigma: float, spacing: Sequence[float] | None
) -> tuple[float, tuple[float, float] | None]:
    """Return ``sigma`` and ``spacing`` after checking them and ``w0``.

    Raises
    ------
    SettingsError
        If a number is not finite, or is negative or zero where it may not be.
    """
    if not (math.isfinite(w0) and w0 >= 0):
        raise SettingsError(f"w0 must be 0 or a positive number, not {w0}.")
    if not (math.isfinite(sigma) and sigma > 0):
        raise SettingsError(f"sigma must be a positive number, not {sigma}.")
    if spacing is None:
        return float(sigma), None
    sizes = tuple(float(size) for size in spacing)
    if len(sizes) != 2 or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise SettingsError(f"spacing must be two positive numbers (y, x), not {tuple(spacing)}.")
    return float(sigma), (sizes[0], sizes[1])
