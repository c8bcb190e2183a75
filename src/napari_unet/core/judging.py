"""Judge a model on painted cells the way it will be used: tiles, instances, objects compared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.events import Scores
from napari_unet.core.instances import at_scale, label_instances
from napari_unet.core.metrics import class_iou, match
from napari_unet.core.model import Model
from napari_unet.core.prediction import Predictor, iter_tiles
from napari_unet.core.preparation import JudgedRegion
from napari_unet.core.settings import InstanceSettings, TileSettings

Probabilities = npt.NDArray[np.float32]

#: Thresholds leave their defaults only for at least this gain: a handful of cells is noisy.
_WORTHWHILE_GAIN = 0.02
_CAREFUL_GAIN = 0.1
_CAREFUL_STEP = 0.11


def judge(
    model: Model,
    regions: Sequence[JudgedRegion],
    settings: TileSettings,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Scores, list[Probabilities]]:
    """Predict all regions; return the scores and the probabilities they were found with.

    Once ``cancelled`` returns True the rest is not predicted, and every score is nan.
    """
    found = predict_regions(model, regions, settings, cancelled)
    if cancelled is not None and cancelled():
        return Scores(*[math.nan] * 5), found
    return scores(found, regions, model), found


def predict_regions(
    model: Model,
    regions: Sequence[JudgedRegion],
    settings: TileSettings,
    cancelled: Callable[[], bool] | None = None,
) -> list[Probabilities]:
    """Return ``(K, y, x)`` class probabilities of the window of each region, 0 once cancelled."""
    predictor = Predictor(model, settings)
    return [_predict_region(predictor, region, cancelled) for region in regions]


def _predict_region(
    predictor: Predictor, region: JudgedRegion, cancelled: Callable[[], bool] | None
) -> Probabilities:
    rows, columns = region.window
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    result = np.zeros((predictor.network.outputs, *shape), np.float32)
    diameter = None
    if predictor.model.diameter is not None and region.factor != 1:
        diameter = predictor.model.diameter / region.factor
    for tile in iter_tiles(
        predictor,
        region.plane,
        diameter=diameter,
        region=region.window,
        scale=region.scale,
        cancelled=cancelled,
    ):
        y, x = tile.slices
        inside = (
            slice(y.start - rows.start, y.stop - rows.start),
            slice(x.start - columns.start, x.stop - columns.start),
        )
        result[:, *inside] = tile.probabilities
    return result


def scores(
    probabilities: Sequence[Probabilities],
    regions: Sequence[JudgedRegion],
    model: Model,
    instances: InstanceSettings | None = None,
) -> Scores:
    """Compare predictions with what was painted, pooled over regions.

    A predicted object counts only when most of it lies on compared pixels: what the network finds
    where nothing was painted is neither right nor wrong.
    """
    loss = _mean_loss(probabilities, regions)
    if model.task == "classes":
        return Scores(math.nan, math.nan, _mean_class_iou(probabilities, regions), math.nan, loss)
    settings = instances or model.instances
    found = {0.5: [0, 0, 0], 0.75: [0, 0, 0]}
    overlaps: list[float] = []
    for probability, region in zip(probabilities, regions, strict=True):
        truth = mostly_inside(region.labels, region.weight > 0)
        predicted = mostly_inside(
            label_instances(probability, at_scale(settings, region.factor)), region.weight > 0
        )
        for threshold, counts in found.items():
            matched = match(truth, predicted, threshold)
            counts[0] += matched.tp
            counts[1] += matched.fp
            counts[2] += matched.fn
        overlaps += best_overlaps(truth, predicted)
    ap50, ap75 = (_ratio(tp, tp + fp + fn) for tp, fp, fn in found.values())
    tp, fp, fn = found[0.5]
    overlap = float(np.mean(overlaps)) if overlaps else math.nan
    return Scores(ap50, ap75, _ratio(2 * tp, 2 * tp + fp + fn), overlap, loss)


def quality(result: Scores) -> float:
    """Return one number to choose models by.

    Average precision jumps when one of a few cells crosses the threshold; the mean overlap of the
    painted cells moves smoothly. Their mean is steady and still punishes false objects.
    """
    if math.isnan(result.ap50):
        return -1.0 if math.isnan(result.f1) else result.f1
    overlap = 0.0 if math.isnan(result.overlap) else result.overlap
    return (result.ap50 + 0.5 * result.ap75 + overlap) / 2.5


def fit_thresholds(
    probabilities: Sequence[Probabilities],
    regions: Sequence[JudgedRegion],
    model: Model,
    careful: bool = False,
) -> InstanceSettings:
    """Choose seed threshold, mask threshold and minimum size on what was painted.

    Parameters
    ----------
    careful
        The thresholds were found on many images already: they move by one step at most and the
        minimum size stays. What is wrong where nothing was painted cannot be seen here, so the
        painted cells alone would favour thresholds that find too much.
    """
    start = model.instances
    if model.task == "classes":
        return start
    if not careful:
        start = replace(start, min_size=_minimum_size(regions, start))
    best, best_quality = start, quality(scores(probabilities, regions, model, start))
    best_quality += _CAREFUL_GAIN if careful else _WORTHWHILE_GAIN
    for seed, mask in itertools.product((0.4, 0.5, 0.6, 0.7, 0.8), (0.3, 0.4, 0.5, 0.6)):
        step = max(abs(seed - start.seed_threshold), abs(mask - start.mask_threshold))
        if mask > seed or step == 0 or (careful and step > _CAREFUL_STEP):
            continue
        candidate = replace(start, seed_threshold=seed, mask_threshold=mask)
        reached = quality(scores(probabilities, regions, model, candidate))
        if reached > best_quality:
            best, best_quality = candidate, reached
    return best


def mostly_inside(
    labels: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Keep the labels of which more than half of the pixels lie inside ``mask``."""
    total = np.bincount(labels.ravel())
    inside = np.bincount(labels[mask], minlength=len(total))
    keep = inside * 2 > total
    keep[0] = False
    return np.where(keep[labels], labels, 0).astype(np.int32)


def best_overlaps(truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32]) -> list[float]:
    """Return, for each true object, the largest IoU with any predicted object."""
    width = int(predicted.max(initial=0)) + 1
    pairs, counts = np.unique(truth.astype(np.int64) * width + predicted, return_counts=True)
    true_ids, predicted_ids = pairs // width, pairs % width
    true_areas = np.bincount(truth.ravel())
    predicted_areas = np.bincount(predicted.ravel())
    iou = counts / (true_areas[true_ids] + predicted_areas[predicted_ids] - counts)
    iou[predicted_ids == 0] = 0
    best = np.zeros(len(true_areas))
    np.maximum.at(best, true_ids, iou)
    return [float(best[i]) for i in np.unique(true_ids) if i > 0]


def _minimum_size(regions: Sequence[JudgedRegion], settings: InstanceSettings) -> int:
    """Return a quarter of the area of small painted objects (10th percentile), network pixels."""
    areas: list[npt.NDArray[Any]] = []
    for region in regions:
        _, counts = np.unique(region.labels[region.labels > 0], return_counts=True)
        areas.append(counts * region.factor**2)
    everything = np.concatenate(areas)
    if everything.size < 3:
        return settings.min_size
    return max(1, int(0.25 * np.percentile(everything, 10)))


def _mean_loss(probabilities: Sequence[Probabilities], regions: Sequence[JudgedRegion]) -> float:
    """Weighted cross entropy over the compared pixels."""
    total = weights = 0.0
    for probability, region in zip(probabilities, regions, strict=True):
        target = region.target.astype(np.intp)[None]
        chosen = np.take_along_axis(probability, target, axis=0)[0]
        total += float((-np.log(np.maximum(chosen, 1e-7)) * region.weight).sum())
        weights += float(region.weight.sum())
    return total / weights if weights else math.nan


def _mean_class_iou(
    probabilities: Sequence[Probabilities], regions: Sequence[JudgedRegion]
) -> float:
    truth = np.concatenate([r.target[r.weight > 0] for r in regions])
    predicted = np.concatenate(
        [p.argmax(axis=0)[r.weight > 0] for p, r in zip(probabilities, regions, strict=True)]
    )
    return float(np.nanmean(class_iou(truth, predicted)))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
