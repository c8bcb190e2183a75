"""Which weights are judged in the end, and which of equals are delivered."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pytest
import torch

from napari_unet.core import delivery, judging, training
from napari_unet.core.events import Scores, TrainingStep
from napari_unet.core.fine_tuning import MIXTURE, Candidate
from napari_unet.core.judging import quality
from napari_unet.core.model import Model
from napari_unet.core.training import iter_training

from .networks import small_model
from .small_training import data_of, finished, largest_difference, nuclei, same_weights, small

EQUAL = Scores(ap50=0.5, ap75=0.2, f1=0.6, overlap=0.6, loss=0.1)
NOTHING = Scores(ap50=0.0, ap75=0.0, f1=0.0, overlap=0.0, loss=1.0)
WORSE = Scores(ap50=0.5, ap75=0.2, f1=0.6, overlap=0.59, loss=0.1)


@dataclass
class FakeRun:
    """What training leaves behind."""

    step: int
    average: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    best_quality: float | None
    start: Any


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((2,), value)}


def test_the_base_is_mixed_with_what_training_reached_in_the_end() -> None:
    base = Candidate("base", weights(0.0), EQUAL, quality(EQUAL))
    start: Any = type("Start", (), {"net": torch.nn.Identity()})
    run: Any = FakeRun(9, weights(2.0), weights(4.0), 0.7, start)

    def judged(name: str, found: dict[str, torch.Tensor]) -> Candidate:
        return Candidate(name, found, EQUAL, quality(EQUAL))

    def candidates(base: Candidate | None) -> list[tuple[str, float]]:
        found = delivery._candidates(run, base, judged)
        return [(one.name, float(next(iter(one.weights.values()), [nan])[0])) for one in found]

    mixed = ("mixture", pytest.approx(2 * MIXTURE))
    assert candidates(base) == [("base", 0.0), ("tuned", 2.0), mixed, ("tuned", 4.0)]
    assert candidates(None) == [("tuned", 2.0), ("tuned", 4.0)]
    run.average = weights(nan)
    assert candidates(base) == [("base", 0.0), ("tuned", 4.0)]
    run.step = 0
    assert candidates(base) == [("base", 0.0)]
    assert [name for name, _ in candidates(None)] == ["start"]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scores], None]:
    """Return a function that fixes the score of whatever is judged at the end."""

    def fix(scores: Scores) -> None:
        monkeypatch.setattr(delivery, "judge", lambda *arguments: (scores, []))

    monkeypatch.setattr("napari_unet.core.training.judge", lambda *arguments: (EQUAL, []))
    return fix


def trained(base: Model) -> Any:
    return finished(iter_training([nuclei()], small(learning_rate=1e-2), base))


def test_of_equals_the_mixture_is_delivered_and_a_worse_one_never(
    judged: Callable[[Scores], None],
) -> None:
    base = small_model()
    judged(EQUAL)
    last = trained(base)
    assert "mixture" in last.decision
    assert largest_difference(last.model, base) > 0
    judged(WORSE)
    last = trained(base)
    assert "The base model is kept" in last.decision
    assert same_weights(last.model, base)


def test_a_base_that_misses_the_cells_held_back_is_not_said_to_miss_all(
    judged: Callable[[Scores], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(NOTHING)
    monkeypatch.setattr("napari_unet.core.training.judge", lambda *arguments: (NOTHING, []))
    decision = trained(small_model()).decision
    assert re.match(r"The network finds nothing of \d held-back cells? yet", decision)
    assert "shipped model" not in decision


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_cells_are_too_few_only_where_some_were_to_be_held_back(validation: float) -> None:
    image, labels = nuclei()
    painted = np.where(labels <= (9 if validation == 0 else 2), labels, 0)
    settings = small(steps=1, validation=validation)
    decision = finished(iter_training([(image, painted)], settings)).decision
    assert "on the painted cells" in decision
    assert ("too few" in decision) == (validation > 0)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of regions that thresholds were fitted on, each time they were."""
    found: list[int] = []
    fit = delivery.fit_thresholds

    def noted(probabilities: Any, regions: Any, *arguments: Any) -> Any:
        found.append(len(regions))
        return fit(probabilities, regions, *arguments)

    monkeypatch.setattr(delivery, "fit_thresholds", noted)
    return found


def test_who_stops_before_the_first_step_does_not_wait_for_thresholds(fitted: list[int]) -> None:
    """Complaint 11: on a large annotation fitting takes longer than all the rest."""
    for base in (None, small_model()):
        finished(iter_training([nuclei()], small(), base, cancelled=lambda: True))
    assert not fitted
    finished(iter_training([nuclei()], small(steps=1)))
    assert fitted


def test_who_stops_a_run_on_a_large_annotation_does_not_wait_for_thresholds(
    fitted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complaint 11."""

    def stopped_after_two_steps() -> None:
        asked = iter(range(100))
        finished(iter_training([nuclei()], small(), cancelled=lambda: next(asked) >= 2))

    stopped_after_two_steps()
    assert len(fitted) == 1
    monkeypatch.setattr(delivery, "_MOST_AFTER_STOP", 100)
    stopped_after_two_steps()
    assert len(fitted) == 1
    finished(iter_training([nuclei()], small(steps=2)))
    assert len(fitted) == 2


def test_time_is_kept_for_what_is_predicted_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty seconds are sixty also where thresholds are fitted on hundreds of cells."""
    predicted = [0.0]
    predict, kept = judging.predict_regions, training.cost_in_judgements
    judged_once: list[float] = []

    def counted(model: Any, regions: Any, tiles: Any, cancelled: Any = None) -> Any:
        predicted[0] += sum(region.cost for region in regions)
        return predict(model, regions, tiles, cancelled)

    def noted(data: Any, regions: Any) -> float:
        judged_once.append(sum(region.cost for region in regions))
        predicted[0] = 0.0
        return kept(data, regions)

    monkeypatch.setattr(judging, "predict_regions", counted)
    monkeypatch.setattr(delivery, "predict_regions", counted)
    monkeypatch.setattr(training, "cost_in_judgements", noted)
    settings = small(learning_rate=1e-2)
    data = data_of(nuclei(), settings=settings)
    for event in iter_training([nuclei()], settings, small_model()):
        if isinstance(event, TrainingStep):
            predicted[0] = 0.0  # what validations cost is counted where it happens
    promised = kept(data, data.validation) * judged_once[0]
    assert 0.6 * promised < predicted[0] <= promised
