"""Scores of many images at once: counts are pooled, then divided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.metrics import THRESHOLDS, match_table, merges_and_splits_table
from napari_unet.core.overlap import overlap, ratio
from napari_unet.core.partition_metrics import partition_scores_table
from napari_unet.core.pixel_metrics import pixel_error_table

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """Pooled scores of label images; a score that has nothing to compare with is nan.

    Attributes
    ----------
    images, objects, predicted
        Number of images, of true objects and of predicted objects that count.
    thresholds
        IoU thresholds of ``average_precision`` and ``f1``.
    average_precision
        TP / (TP + FP + FN) of the pooled counts, at each threshold.
    f1
        2 TP / (2 TP + FP + FN) at each threshold.
    precision, recall
        TP / (TP + FP) and TP / (TP + FN) at the first threshold.
    mean_matched_iou
        Mean IoU of the pairs at the first threshold (segmentation quality).
    panoptic_quality
        Sum of IoU / (TP + FP/2 + FN/2) at the first threshold.
    foreground_iou
        IoU of the two foregrounds over all scored pixels.
    pixel_error
        Fraction of scored pixels whose foreground disagrees.
    rand_error
        Mean over the images of the foreground-restricted adapted Rand error.
    merges, splits
        See :func:`~napari_unet.core.metrics.merges_and_splits`.
    """

    images: int
    objects: int
    predicted: int
    thresholds: tuple[float, ...]
    average_precision: tuple[float, ...]
    f1: tuple[float, ...]
    precision: float
    recall: float
    mean_matched_iou: float
    panoptic_quality: float
    foreground_iou: float
    pixel_error: float
    rand_error: float
    merges: int
    splits: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; nan becomes None."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            return None if isinstance(value, float) and math.isnan(value) else value

        return {name: plain(value) for name, value in vars(self).items()}

    def table(self) -> str:
        """Return the scores as a table of text."""
        percent = [f"{threshold:.2f}" for threshold in self.thresholds]
        rows = [
            ["IoU threshold", *percent],
            ["average precision", *(_number(value) for value in self.average_precision)],
            ["F1", *(_number(value) for value in self.f1)],
        ]
        lines = ["  ".join([f"{row[0]:<18}", *(f"{cell:>5}" for cell in row[1:])]) for row in rows]
        first = self.thresholds[0]
        singles = {
            "images": str(self.images),
            "true objects": str(self.objects),
            "predicted objects": str(self.predicted),
            f"precision at {first:g}": _number(self.precision),
            f"recall at {first:g}": _number(self.recall),
            "mean matched IoU": _number(self.mean_matched_iou),
            "panoptic quality": _number(self.panoptic_quality),
            "foreground IoU": _number(self.foreground_iou),
            "pixel error": _number(self.pixel_error, 4),
            "Rand error": _number(self.rand_error, 4),
            "merges / splits": f"{self.merges} / {self.splits}",
        }
        return "\n".join([*lines, "", *(f"{name:<18}  {text}" for name, text in singles.items())])


@dataclass
class Evaluator:
    """Adds up the counts of several images.

    Parameters
    ----------
    thresholds
        IoU thresholds.

    Examples
    --------
    >>> import numpy as np
    >>> evaluator = Evaluator()
    >>> evaluator.add(np.array([[1, 1, 0]]), np.array([[2, 2, 0]]))
    >>> evaluator.result().average_precision[0]
    1.0
    """

    thresholds: Sequence[float] = THRESHOLDS
    _counts: IntArray = field(init=False, repr=False)
    _iou_sum: float = field(default=0.0, init=False, repr=False)
    _pixels: IntArray = field(init=False, repr=False)
    _errors: IntArray = field(init=False, repr=False)
    _rand: list[float] = field(default_factory=list, init=False, repr=False)
    _images: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._counts = np.zeros((len(self.thresholds), 3), dtype=np.int64)
        self._pixels = np.zeros(4, dtype=np.int64)
        self._errors = np.zeros(2, dtype=np.int64)

    def add(
        self,
        truth: npt.ArrayLike,
        prediction: npt.ArrayLike,
        *,
        mask: npt.ArrayLike | None = None,
    ) -> None:
        """Add one image.

        Parameters
        ----------
        truth, prediction
            Label images of the same shape, background 0 or negative.
        mask
            True where a pixel is scored; see :func:`~napari_unet.core.metrics.match`.

        Raises
        ------
        InputError
            If shapes differ or labels are not whole numbers.
        """
        table = overlap(truth, prediction, mask)
        matches = [match_table(table, threshold) for threshold in self.thresholds]
        self._counts += np.array([(m.tp, m.fp, m.fn) for m in matches])
        self._iou_sum += float(matches[0].ious.sum())
        real, found = table.truth > 0, table.prediction > 0
        union, shared = real | found, real & found
        self._pixels += [
            table.total,
            table.pixels[shared].sum(),
            table.pixels[union].sum(),
            round(pixel_error_table(table) * table.total) if table.total else 0,
        ]
        wrong = merges_and_splits_table(table)
        self._errors += [wrong.merges, wrong.splits]
        self._rand.append(partition_scores_table(table).rand_error)
        self._images += 1

    def result(self) -> Evaluation:
        """Return the scores of all images added so far."""
        tp, fp, fn = self._counts.T
        first = tuple(self._counts[0].tolist())
        total, shared, union, differing = self._pixels.tolist()
        rand = [value for value in self._rand if not math.isnan(value)]
        return Evaluation(
            images=self._images,
            objects=first[0] + first[2],
            predicted=first[0] + first[1],
            thresholds=tuple(float(threshold) for threshold in self.thresholds),
            average_precision=_ratios(tp, tp + fp + fn),
            f1=_ratios(2 * tp, 2 * tp + fp + fn),
            precision=ratio(first[0], first[0] + first[1]),
            recall=ratio(first[0], first[0] + first[2]),
            mean_matched_iou=ratio(self._iou_sum, first[0]),
            panoptic_quality=ratio(self._iou_sum, first[0] + 0.5 * (first[1] + first[2])),
            foreground_iou=ratio(shared, union),
            pixel_error=ratio(differing, total),
            rand_error=ratio(sum(rand), len(rand)),
            merges=int(self._errors[0]),
            splits=int(self._errors[1]),
        )


def evaluate(
    truths: Sequence[npt.ArrayLike],
    predictions: Sequence[npt.ArrayLike],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Evaluation:
    """Score several pairs of label images at once; see :class:`Evaluator`."""
    evaluator = Evaluator(thresholds)
    for truth, prediction in zip(truths, predictions, strict=True):
        evaluator.add(truth, prediction)
    return evaluator.result()


def _ratios(parts: IntArray, wholes: IntArray) -> tuple[float, ...]:
    return tuple(
        ratio(part, whole) for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)
    )


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
