"""Scores that look at pixels one by one: class overlap and pixel error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError
from napari_unet.core.overlap import Overlap, overlap, ratio

FloatArray = npt.NDArray[np.float64]


def class_iou(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    n_classes: int | None = None,
    *,
    mask: npt.ArrayLike | None = None,
) -> FloatArray:
    """Return the intersection over union of each class.

    Parameters
    ----------
    truth, prediction
        Class index per pixel, of the same shape; negative counts as class 0.
    n_classes
        Length of the result (default: largest class found + 1).
    mask
        True where a pixel is scored.

    Returns
    -------
    ndarray of float64
        One value per class, nan for a class that is in neither image.

    Raises
    ------
    InputError
        If shapes differ, values are not whole numbers or a class is beyond ``n_classes``.
    """
    return class_iou_table(overlap(truth, prediction, mask), n_classes)


def class_iou_table(table: Overlap, n_classes: int | None = None) -> FloatArray:
    """Return the IoU of each class from a table of overlaps; see :func:`class_iou`."""
    largest = int(max(table.truth.max(initial=0), table.prediction.max(initial=0)))
    count = largest + 1 if n_classes is None else n_classes
    if largest >= count:
        raise InputError(f"Class {largest} was found, but only {count} classes are expected.")
    same = table.truth == table.prediction
    shared = np.bincount(table.truth[same], table.pixels[same], count)
    in_truth = np.bincount(table.truth, table.pixels, count)
    predicted = np.bincount(table.prediction, table.pixels, count)
    union = in_truth + predicted - shared
    return np.where(union > 0, shared / np.maximum(union, 1), np.nan)


def pixel_error(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, *, mask: npt.ArrayLike | None = None
) -> float:
    """Return the fraction of pixels at which foreground and background disagree.

    This is the pixel error of the ISBI 2012 challenge in its first definition, the squared
    Euclidean distance of the two binary maps per pixel (Arganda-Carreras et al. 2015, table 2).
    The challenge reported the smallest value over the thresholds of a probability map.

    Parameters
    ----------
    truth, prediction
        Label images or bool maps of the same shape; foreground is above 0.
    mask
        True where a pixel is scored.

    Returns
    -------
    float
        0 to 1; nan when no pixel is scored.

    Raises
    ------
    InputError
        If shapes differ or values are not whole numbers.
    """
    return pixel_error_table(overlap(truth, prediction, mask))


def pixel_error_table(table: Overlap) -> float:
    """Return the pixel error from a table of overlaps; see :func:`pixel_error`."""
    differ = (table.truth > 0) != (table.prediction > 0)
    return ratio(int(table.pixels[differ].sum()), table.total)
