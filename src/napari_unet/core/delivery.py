"""The end of a training run: which weights are delivered, with which thresholds, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_unet.core.events import Scores
from napari_unet.core.fine_tuning import MIXTURE, Candidate, explain, margin, mixture
from napari_unet.core.judging import fit_thresholds, judge, predict_regions, quality
from napari_unet.core.model import Model
from napari_unet.core.optimization import Optimization, Weights
from napari_unet.core.preparation import JudgedRegion, PreparedData
from napari_unet.core.settings import TileSettings, TrainSettings

#: Thresholds are fitted on at most this many network pixels; beyond, on the validation cells.
_MOST_FITTED_PIXELS = 1_500_000
#: Who stops is waiting: then not on more than this.
_MOST_AFTER_STOP = 400_000


@dataclass(frozen=True)
class Delivery:
    """The chosen model, its scores on the judged cells, and the reason in one sentence."""

    model: Model
    scores: Scores
    decision: str


def deliver(
    run: Optimization,
    regions: Sequence[JudgedRegion],
    base: Model | None,
    before: Scores | None,
    data: PreparedData,
    *,
    stopped: bool = False,
) -> Delivery:
    """Choose between base, trained weights and mixtures of both; fit thresholds; explain.

    The base is among the candidates, so what is delivered is never worse than it on the judged
    cells. Of equals the mixture is taken: it has seen the painted cells and keeps what the base
    knew. Thresholds are fitted on all painted cells, of a large annotation on the judged ones, and
    not at all where that would let somebody who stopped the run wait (``stopped``).
    """
    tiles = TileSettings(device=run.settings.device)
    judged_on = _judged_on(data, run.settings)
    held_back = bool(data.validation)

    def judged(name: str, weights: Weights) -> Candidate:
        found = judge(run.model_with(weights), regions, tiles)[0]
        return Candidate(name, weights, found, quality(found))

    known = None
    if base is not None and before is not None:
        known = Candidate("base", base.net.state_dict(), before, quality(before))
    candidates = _candidates(run, known, judged)
    best = max(
        candidates,
        key=lambda one: (
            one.quality - margin(one.name, run.trust, held_back=held_back),
            one.name == "mixture",
        ),
    )
    model = run.model_with(best.weights)
    after = best.scores
    fitted = None
    if run.step:  # who stops before the first step wants the start as it is
        most = _MOST_AFTER_STOP if stopped else _MOST_FITTED_PIXELS
        painted = _fitted_regions(data, regions, most)
        if not stopped or _cost(painted) <= most:
            fitted = _with_fitted_thresholds(model, painted, tiles, run.fine_tuning)
    if fitted is not None:
        refitted = judge(fitted, regions, tiles)[0]
        if quality(refitted) >= best.quality:
            model, after = fitted, refitted
    decision = _with_cause(explain(best, known, after, judged_on), run, after, judged_on)
    model = replace(model, training=_summary(run, data, before, after))
    return Delivery(model, after, decision)


def _judged_on(data: PreparedData, settings: TrainSettings) -> str:
    """Say what the scores were measured on."""
    if settings.annotation.task == "classes":
        return "the held-back pixels" if data.validation else "the painted pixels"
    if data.validation:
        return f"{data.validation_objects} held-back {_cells(data.validation_objects)}"
    too_few = " (too few to hold any back)" if settings.validation else ""
    return f"the painted cells{too_few}"


def cost_in_judgements(data: PreparedData, regions: Sequence[JudgedRegion]) -> float:
    """Return how many times as long :func:`deliver` takes as judging one model on ``regions``."""
    fitted = _cost(_fitted_regions(data, regions, _MOST_FITTED_PIXELS)) / _cost(regions)
    # Two trained candidates and their mixture, then predicting once more and trying thresholds.
    return 3 + 1.4 * fitted + 1


def _fitted_regions(
    data: PreparedData, regions: Sequence[JudgedRegion], most: float
) -> Sequence[JudgedRegion]:
    return data.painted if _cost(data.painted) <= most else regions


def _cells(count: int) -> str:
    return "cell" if count == 1 else "cells"


def _candidates(
    run: Optimization,
    base: Candidate | None,
    judged: Callable[[str, Weights], Candidate],
) -> list[Candidate]:
    """Return what may be delivered: base, last and best average, and base and last one mixed.

    The best average is the best on a handful of cells, early and by chance as often as not; mixed
    with the base it does less well elsewhere than the last one. Without a base and a step it is
    what training started from.
    """
    found = [base] if base is not None else []
    if run.step:
        last = {name: value.cpu() for name, value in run.average.items()}
        if _is_finite(last):
            found.append(judged("tuned", last))
            if base is not None:
                found.append(judged("mixture", mixture(base.weights, last, MIXTURE)))
        best = {name: value.cpu() for name, value in run.best.items()}
        if run.best_quality is not None and _is_finite(best):
            found.append(judged("tuned", best))
    return found or [judged("start", run.start.net.state_dict())]


def _is_finite(weights: Weights) -> bool:
    return all(bool(np.isfinite(value.numpy()).all()) for value in weights.values())


def _cost(regions: Sequence[JudgedRegion]) -> float:
    return sum(region.cost for region in regions)


def _with_fitted_thresholds(
    model: Model, painted: Sequence[JudgedRegion], tiles: TileSettings, tuned: bool
) -> Model | None:
    if model.task == "classes":
        return None
    probabilities = predict_regions(model, painted, tiles)
    return replace(model, instances=fit_thresholds(probabilities, painted, model, tuned))


def _with_cause(decision: str, run: Optimization, after: Scores, judged_on: str) -> str:
    """Name what went wrong, so that an empty or broken result is never delivered silently."""
    if run.broken:
        return f"Training was ended early because {run.broken}. {decision}"
    empty = after.overlap == 0 or (math.isnan(after.ap50) and after.f1 == 0)
    if empty:
        otherwise = "" if run.fine_tuning else ", or start from a shipped model"
        return (
            f"The network finds nothing of {judged_on} yet: train longer or paint more "
            f"objects{otherwise}. {decision}"
        )
    return decision


def _summary(
    run: Optimization, data: PreparedData, before: Scores | None, after: Scores
) -> dict[str, Any]:
    """Return what the model file remembers about its training."""

    def plain(result: Scores | None) -> dict[str, float | None] | None:
        if result is None:
            return None
        figures = {
            name: getattr(result, name) for name in ("ap50", "ap75", "f1", "overlap", "loss")
        }
        return {name: None if math.isnan(v) else round(v, 4) for name, v in figures.items()}

    return {
        "base": run.start.name if run.fine_tuning else None,
        "steps": run.step,
        "objects": data.objects,
        "validation_objects": data.validation_objects,
        "trained_pixels": data.trained_pixels,
        "before": plain(before),
        "after": plain(after),
        "settings": run.settings.to_dict(),
    }
