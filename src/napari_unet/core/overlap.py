"""Which labels of two images meet where, and how often: the table behind every label score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import InputError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Overlap:
    """Sparse contingency table of two label images, background (id 0) included.

    Attributes
    ----------
    truth, prediction
        Ids of each pair of labels that share at least one pixel, sorted by truth, then prediction.
    pixels
        Number of shared pixels of each pair; the sum is the number of scored pixels.
    truth_total, prediction_total
        Ids and pixel counts over the whole images, ignored pixels included: ``(2, n)``, sorted.
        Background is left out.
    """

    truth: IntArray
    prediction: IntArray
    pixels: IntArray
    truth_total: IntArray
    prediction_total: IntArray

    @property
    def total(self) -> int:
        """Number of scored pixels."""
        return int(self.pixels.sum())

    def truth_sizes(self) -> tuple[IntArray, IntArray]:
        """Return the ids (0 included when present) and scored pixels of the truth's labels."""
        return _sums(self.truth, self.pixels)

    def prediction_sizes(self) -> tuple[IntArray, IntArray]:
        """Return the ids (0 included when present) and scored pixels of the predicted labels."""
        return _sums(self.prediction, self.pixels)


def overlap(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, mask: npt.ArrayLike | None = None
) -> Overlap:
    """Count the pixels shared by each pair of labels.

    Parameters
    ----------
    truth, prediction
        Integer (or bool) arrays of the same shape, any number of axes. Negative values are
        background, as painted background (-1) is.
    mask
        True where a pixel is scored (default: everywhere).

    Raises
    ------
    InputError
        If shapes differ or the arrays do not hold whole numbers.
    """
    first, second = as_labels(truth, "truth"), as_labels(prediction, "prediction")
    if first.shape != second.shape:
        raise InputError(
            f"Truth {first.shape} and prediction {second.shape} must have the same shape."
        )
    scored = _as_mask(mask, first.shape)
    flat = [first.ravel(), second.ravel()]
    if scored is not None:
        flat.append(scored.ravel())
    # Label images are mostly long runs of equal pixels: about a tenth is left to sort.
    start = _starts(*flat)
    lengths = np.diff(start, append=first.size)
    a, b = (np.maximum(values[start], 0).astype(np.int64) for values in flat[:2])
    in_mask = lengths if scored is None else np.where(flat[2][start], lengths, 0)
    rows, columns, pixels = _pair_sums(a, b, in_mask)
    return Overlap(
        truth=rows,
        prediction=columns,
        pixels=pixels,
        truth_total=_foreground_totals(a, lengths),
        prediction_total=_foreground_totals(b, lengths),
    )


def look_up(sizes: tuple[IntArray, IntArray], ids: IntArray) -> IntArray:
    """Return the sizes of some ids, all of which must be there."""
    known, pixels = sizes
    return pixels[np.searchsorted(known, ids)]


def ratio(part: float, whole: float) -> float:
    """Return ``part / whole``, nan when there is nothing to compare with."""
    return part / whole if whole else float("nan")


def as_labels(labels: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    """Return an integer array, or raise :class:`InputError` naming ``name``."""
    array = np.asarray(labels)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise InputError(f"The {name} must hold whole numbers (labels), not {array.dtype}.")
    if array.dtype == np.uint64:
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise InputError(f"The {name} holds labels above 2^63; renumber it first.")
        return array.astype(np.int64)
    return array


def _as_mask(mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    if mask is None:
        return None
    array = np.asarray(mask, dtype=bool)
    if array.shape != shape:
        raise InputError(f"The mask {array.shape} must have the shape of the labels {shape}.")
    return array


def _starts(*flat: npt.NDArray[Any]) -> IntArray:
    """Return where a run of pixels with the same values in all arrays begins."""
    size = flat[0].size
    begins = np.zeros(size, dtype=bool)
    begins[:1] = True
    for values in flat:
        begins[1:] |= values[1:] != values[:-1]
    return np.flatnonzero(begins).astype(np.int64)


def _pair_sums(a: IntArray, b: IntArray, pixels: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    used = pixels > 0
    a, b, pixels = a[used], b[used], pixels[used]
    order = np.lexsort((b, a))
    a, b, pixels = a[order], b[order], pixels[order]
    first = _starts(a, b)
    sums = np.add.reduceat(pixels, first) if first.size else pixels
    return a[first], b[first], sums.astype(np.int64)


def _sums(ids: IntArray, pixels: IntArray) -> tuple[IntArray, IntArray]:
    found, position = np.unique(ids, return_inverse=True)
    return found, np.bincount(position, pixels, found.size).astype(np.int64)


def _foreground_totals(ids: IntArray, pixels: IntArray) -> IntArray:
    found, sums = _sums(ids, pixels)
    return np.stack([found, sums])[:, found > 0]
