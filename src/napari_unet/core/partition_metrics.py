"""Scores of whole partitions: Rand and information-theoretic, as in the ISBI 2012 challenge.

Definitions follow Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation
algorithms for connectomics", Frontiers in Neuroanatomy 9:142 (2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.overlap import IntArray, Overlap, as_labels, overlap, ratio

#: How predicted background inside true objects is taken: each pixel alone, or one big segment.
PredictedBackground = Literal["singletons", "segment"]


@dataclass(frozen=True)
class PartitionScores:
    """Agreement of two partitions; 1 is perfect, nan when no true object is scored.

    With ``p_ij`` the probability that a random foreground pixel lies in predicted segment ``i``
    and true segment ``j``, ``s_i`` and ``t_j`` its sums, ``H`` entropy and ``I`` mutual
    information:

    Attributes
    ----------
    rand_split, rand_merge, rand
        ``sum p_ij^2`` divided by ``sum t_j^2``, by ``sum s_i^2`` and by the mean of both (their
        harmonic mean, V^Rand). Splits lower the first, mergers the second.
    info_split, info_merge, info
        ``I / H(S)``, ``I / H(T)`` and ``2 I / (H(S) + H(T))`` (V^Info). Splits lower the first,
        mergers the second; 1 where the entropy is 0.
    conditional_split, conditional_merge
        ``H(S|T)`` and ``H(T|S)`` in bits; their sum is the variation of information.
    """

    rand_split: float
    rand_merge: float
    rand: float
    info_split: float
    info_merge: float
    info: float
    conditional_split: float
    conditional_merge: float

    @property
    def rand_error(self) -> float:
        """1 - V^Rand, the adapted Rand error."""
        return 1 - self.rand

    @property
    def variation_of_information(self) -> float:
        """``H(S|T) + H(T|S)`` in bits."""
        return self.conditional_split + self.conditional_merge


def rand_error(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    predicted_background: PredictedBackground = "singletons",
) -> float:
    """Return the foreground-restricted adapted Rand error, 1 - F-score of the Rand index.

    This is the Rand error of the ISBI 2012 challenge: background of the truth is not scored. The
    challenge reported the smallest value over the thresholds of a probability map.

    Parameters
    ----------
    truth, prediction, mask, predicted_background
        As in :func:`partition_scores`.

    Returns
    -------
    float
        0 (same partition) to 1; nan when no true object is scored.
    """
    scores = partition_scores(
        truth, prediction, mask=mask, predicted_background=predicted_background
    )
    return scores.rand_error


def partition_scores(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    predicted_background: PredictedBackground = "singletons",
) -> PartitionScores:
    """Compare two partitions on the true foreground.

    Parameters
    ----------
    truth, prediction
        Label images of the same shape, any number of axes, background 0 or negative.
    mask
        True where a pixel is scored.
    predicted_background
        ``"singletons"``: each predicted background pixel inside a true object is a segment of its
        own, as in the challenge's script. ``"segment"``: all together are one segment, as in
        ``skimage.metrics``.

    Raises
    ------
    InputError
        If shapes differ or values are not whole numbers.
    """
    table = overlap(truth, prediction, mask)
    return partition_scores_table(table, predicted_background)


def partition_scores_table(
    table: Overlap, predicted_background: PredictedBackground = "singletons"
) -> PartitionScores:
    """Compare two partitions by their table of overlaps; see :func:`partition_scores`."""
    inside = table.truth > 0
    truth, prediction, pixels = table.truth[inside], table.prediction[inside], table.pixels[inside]
    total = int(pixels.sum())
    if not total:
        return PartitionScores(*[float("nan")] * 8)
    loose = (prediction == 0) & (predicted_background == "singletons")
    joint = _Blocks(pixels[~loose], int(pixels[loose].sum()), total)
    predicted = _Blocks(_group(prediction[~loose], pixels[~loose]), int(pixels[loose].sum()), total)
    true = _Blocks(_group(truth, pixels), 0, total)
    shared = max(0.0, predicted.entropy + true.entropy - joint.entropy)
    return PartitionScores(
        rand_split=ratio(joint.squares, true.squares),
        rand_merge=ratio(joint.squares, predicted.squares),
        rand=ratio(2 * joint.squares, true.squares + predicted.squares),
        info_split=_share(shared, predicted.entropy),
        info_merge=_share(shared, true.entropy),
        info=_share(2 * shared, predicted.entropy + true.entropy),
        conditional_split=max(0.0, joint.entropy - true.entropy),
        conditional_merge=max(0.0, joint.entropy - predicted.entropy),
    )


def thin_borders(labels: npt.ArrayLike, *, max_border: float | None = None) -> npt.NDArray[Any]:
    """Give background pixels to the nearest segment, so that borders have no width.

    Parameters
    ----------
    labels
        Label image, background 0 or negative.
    max_border
        Only background this close to a segment (pixels) is given away. Default: all of it, right
        for tissue without gaps, such as the challenge's neurites.

    Returns
    -------
    ndarray
        Labels of the same shape and type, background 0.
    """
    array: npt.NDArray[Any] = np.maximum(as_labels(labels, "labels"), 0)
    background = array == 0
    if background.all():
        return array
    distance, nearest = ndimage.distance_transform_edt(background, return_indices=True)
    grown: npt.NDArray[Any] = array[tuple(nearest)]
    if max_border is not None:
        grown = np.where(distance <= max_border, grown, 0).astype(array.dtype)
    return grown


def border_thinned_scores(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    max_border: float | None = None,
) -> PartitionScores:
    """Compare two partitions without regard to the width of predicted borders.

    V^Rand and V^Info of the ISBI 2012 challenge's final ranking: the predicted borders are thinned
    away (:func:`thin_borders`), true border pixels are not scored (foreground restriction).

    Parameters
    ----------
    truth, prediction, mask
        As in :func:`partition_scores`.
    max_border
        As in :func:`thin_borders`.
    """
    return partition_scores(truth, thin_borders(prediction, max_border=max_border), mask=mask)


def segments_between_borders(inside: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Label the 4-connected regions of a binary map in which borders are False.

    With it a thresholded membrane map becomes a partition: borders are then 8-connected lines.

    Parameters
    ----------
    inside
        Bool array, True inside cells.
    """
    labels: npt.NDArray[np.int32] = ndimage.label(np.asarray(inside, dtype=bool))[0]
    return labels.astype(np.int32, copy=False)


class _Blocks:
    """A partition by the sizes of its blocks, of which ``loose`` have one pixel each."""

    def __init__(self, sizes: IntArray, loose: int, total: int) -> None:
        shares = sizes / total
        self.squares = float(shares @ shares) + loose / total**2
        self.entropy = -float(shares @ np.log2(shares)) + loose / total * float(np.log2(total))


def _group(ids: IntArray, pixels: IntArray) -> IntArray:
    found, position = np.unique(ids, return_inverse=True)
    return np.bincount(position, pixels, found.size).astype(np.int64)


def _share(part: float, whole: float) -> float:
    # One segment in both partitions: nothing to know, nothing missed.
    return part / whole if whole > 1e-12 else 1.0
