"""Object scores: matching, average precision, F1, panoptic quality, merges and splits.

Scores of partitions (Rand, information) are in ``partition_metrics``, scores of pixels in
``pixel_metrics``, the warping error in ``warping_error``; all are also importable from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet.core.errors import InputError
from napari_unet.core.overlap import IntArray, Overlap, look_up, overlap, ratio
from napari_unet.core.partition_metrics import (
    PartitionScores,
    border_thinned_scores,
    partition_scores,
    rand_error,
    thin_borders,
)
from napari_unet.core.pixel_metrics import class_iou, pixel_error
from napari_unet.core.warping_error import WarpingErrors, warping_error, warping_errors

__all__ = [
    "THRESHOLDS",
    "Match",
    "MergesAndSplits",
    "PartitionScores",
    "WarpingErrors",
    "average_precision",
    "border_thinned_scores",
    "class_iou",
    "match",
    "match_table",
    "merges_and_splits",
    "partition_scores",
    "pixel_error",
    "rand_error",
    "thin_borders",
    "warping_error",
    "warping_errors",
]

FloatArray = npt.NDArray[np.float64]

#: IoU thresholds of the usual table.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class Match:
    """Objects of two label images paired with each other.

    Attributes
    ----------
    threshold
        Smallest intersection over union (IoU) of a pair.
    tp, fp, fn
        Pairs, predicted objects without partner, true objects without partner.
    pairs
        ``(tp, 2)`` ids (truth, prediction), sorted by truth.
    ious
        IoU of each pair.
    """

    threshold: float
    tp: int
    fp: int
    fn: int
    pairs: IntArray
    ious: FloatArray

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN); nan when there is no object at all."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); nan when nothing was predicted."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); nan when there is no true object."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); nan when there is no object at all."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def mean_matched_iou(self) -> float:
        """Mean IoU of the pairs; nan when there are none."""
        return ratio(float(self.ious.sum()), self.tp)

    @property
    def panoptic_quality(self) -> float:
        """Sum of IoU / (TP + FP/2 + FN/2), Kirillov et al., CVPR 2019 (with threshold 0.5)."""
        return ratio(float(self.ious.sum()), self.tp + 0.5 * self.fp + 0.5 * self.fn)


def match(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    threshold: float = 0.5,
    *,
    mask: npt.ArrayLike | None = None,
) -> Match:
    """Pair true with predicted objects, one to one.

    Of all pairings with ``IoU >= threshold`` the one with the most pairs is taken, among these the
    one with the largest sum of IoU. (Above 0.5 only one pairing is possible.)

    Parameters
    ----------
    truth, prediction
        Label images of the same shape, any number of axes, background 0 or negative. A stack is
        one image: the same id in two planes is one object.
    threshold
        Smallest IoU, above 0 and at most 1.
    mask
        True where a pixel is scored. Ignored pixels count for no area. An object that lies for
        more than half on ignored pixels and has no partner is not counted as wrong or missed.

    Raises
    ------
    InputError
        If shapes differ, labels are not whole numbers or the threshold is out of range.
    """
    return match_table(overlap(truth, prediction, mask), threshold)


def average_precision(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    thresholds: float | Sequence[float] = THRESHOLDS,
    *,
    mask: npt.ArrayLike | None = None,
) -> FloatArray:
    """Return TP / (TP + FP + FN) at each IoU threshold.

    This is the "average precision" of the 2018 Data Science Bowl, StarDist and Cellpose. To pool
    several images add them to an :class:`~napari_unet.core.evaluation.Evaluator`.

    Parameters
    ----------
    truth, prediction, mask
        As in :func:`match`.
    thresholds
        One IoU threshold or several.

    Returns
    -------
    ndarray of float64
        One value per threshold; nan where neither image has an object.

    Raises
    ------
    InputError
        As :func:`match`.
    """
    table = overlap(truth, prediction, mask)
    values = [
        match_table(table, float(threshold)).average_precision
        for threshold in np.atleast_1d(np.asarray(thresholds, dtype=float))
    ]
    return np.array(values)


@dataclass(frozen=True)
class MergesAndSplits:
    """Objects wrongly joined or cut.

    Attributes
    ----------
    merges
        For each predicted object, the true objects it swallows less one, summed.
    splits
        For each true object, the predicted pieces of it less one, summed.
    """

    merges: int
    splits: int


def merges_and_splits(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    smallest: float = 0.1,
) -> MergesAndSplits:
    """Count wrong merges and splits, the errors that boundary weights are meant to prevent.

    A predicted object swallows a true one when it covers more than half of it. A predicted object
    is a piece of a true one when more than half of it lies inside and it covers at least
    ``smallest`` of it, so that specks are no splits.

    Parameters
    ----------
    truth, prediction, mask
        As in :func:`match`.
    smallest
        Smallest fraction of the true object that counts as a piece.

    Raises
    ------
    InputError
        If shapes differ or labels are not whole numbers.
    """
    return merges_and_splits_table(overlap(truth, prediction, mask), smallest)


def merges_and_splits_table(table: Overlap, smallest: float = 0.1) -> MergesAndSplits:
    """Count merges and splits in a table of overlaps; see :func:`merges_and_splits`."""
    both = (table.truth > 0) & (table.prediction > 0)
    truth, prediction, shared = table.truth[both], table.prediction[both], table.pixels[both]
    true_size = look_up(table.truth_sizes(), truth)
    predicted_size = look_up(table.prediction_sizes(), prediction)
    swallowed = np.unique(prediction[2 * shared > true_size], return_counts=True)[1]
    piece = (2 * shared > predicted_size) & (shared >= smallest * true_size)
    pieces = np.unique(truth[piece], return_counts=True)[1]
    return MergesAndSplits(merges=int((swallowed - 1).sum()), splits=int((pieces - 1).sum()))


def match_table(table: Overlap, threshold: float) -> Match:
    """Pair the objects of a table of overlaps; see :func:`match`."""
    if not 0 < threshold <= 1:
        raise InputError(f"An IoU threshold is above 0 and at most 1, not {threshold}.")
    truth, prediction, ious = candidate_pairs(table)
    good = ious >= threshold
    chosen = _one_to_one(truth[good], prediction[good], ious[good])
    pairs = np.stack([truth[good][chosen], prediction[good][chosen]], axis=1)
    return Match(
        threshold=threshold,
        tp=len(pairs),
        fp=_unmatched(table.prediction_sizes(), table.prediction_total, pairs[:, 1]),
        fn=_unmatched(table.truth_sizes(), table.truth_total, pairs[:, 0]),
        pairs=pairs,
        ious=ious[good][chosen],
    )


def candidate_pairs(table: Overlap) -> tuple[IntArray, IntArray, FloatArray]:
    """Return truth ids, predicted ids and IoU of all objects that share a scored pixel."""
    both = (table.truth > 0) & (table.prediction > 0)
    truth, prediction, shared = table.truth[both], table.prediction[both], table.pixels[both]
    union = (
        look_up(table.truth_sizes(), truth) + look_up(table.prediction_sizes(), prediction) - shared
    )
    return truth, prediction, shared / np.maximum(union, 1)


def _one_to_one(truth: IntArray, prediction: IntArray, ious: FloatArray) -> npt.NDArray[np.intp]:
    """Choose a largest one-to-one subset of candidate pairs; return their positions, sorted.

    Candidates fall apart into small groups that share no object; each group is solved alone.
    """
    if not len(truth):
        return np.empty(0, dtype=np.intp)
    rows = np.unique(truth, return_inverse=True)[1]
    columns = np.unique(prediction, return_inverse=True)[1]
    n_rows, n_columns = int(rows.max()) + 1, int(columns.max()) + 1
    graph = coo_array(
        (np.ones(len(rows), dtype=np.int8), (rows, columns + n_rows)),
        shape=(n_rows + n_columns, n_rows + n_columns),
    )
    group = connected_components(graph, directed=False)[1][rows]
    alone = np.bincount(group)[group] == 1
    chosen = [np.flatnonzero(alone)]
    order = np.argsort(group[~alone], kind="stable")
    crowded = np.flatnonzero(~alone)[order]
    borders = np.flatnonzero(np.diff(group[crowded])) + 1
    groups = np.split(crowded, borders) if len(crowded) else []
    chosen += [m[_assign(rows[m], columns[m], ious[m])] for m in groups]
    return np.sort(np.concatenate(chosen))


def _assign(rows: Any, columns: Any, ious: FloatArray) -> npt.NDArray[np.intp]:
    """Solve one group of candidates: most pairs first, then the largest sum of IoU."""
    row = np.unique(rows, return_inverse=True)[1]
    column = np.unique(columns, return_inverse=True)[1]
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    gain, position = np.zeros(shape), np.full(shape, -1)
    # The sum of all IoU terms stays below 1, the gain of one more pair.
    gain[row, column] = 1 + ious / (2 * min(shape))
    position[row, column] = np.arange(len(ious))
    picked: npt.NDArray[np.intp] = position[linear_sum_assignment(gain, maximize=True)]
    return picked[picked >= 0]


def _unmatched(sizes: tuple[IntArray, IntArray], total: IntArray, matched: IntArray) -> int:
    """Count objects without partner, leaving out those mostly on ignored pixels."""
    ids, pixels = sizes
    known, whole = total
    scored = np.zeros(len(known), dtype=np.int64)
    objects = ids > 0
    scored[np.searchsorted(known, ids[objects])] = pixels[objects]
    counts = 2 * scored >= whole
    counts[np.searchsorted(known, matched)] = False
    return int(counts.sum())
