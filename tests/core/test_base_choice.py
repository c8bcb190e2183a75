"""Which model training starts from."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.core.small_training import nuclei, small

from napari_unet.core import base_choice, judging
from napari_unet.core.base_choice import GENERALIST, ChosenBase, choose_base
from napari_unet.core.events import Scores
from napari_unet.core.model import Model
from napari_unet.core.pairs import AnnotatedPlane, TrainingPair, annotated_planes
from napari_unet.core.settings import AnnotationSettings


def planes(cells: int) -> list[AnnotatedPlane]:
    image, labels = nuclei()
    return annotated_planes([(image, np.where(labels <= cells, labels, 0))])


def scored(quality: float) -> Scores:
    return Scores(quality, quality, quality, quality, 0.0)


@pytest.fixture
def able(bright_model: Model) -> Model:
    return replace(bright_model, diameter=14.0)


@pytest.fixture
def blind(able: Model) -> Model:
    """Finds nothing anywhere."""
    net = copy.deepcopy(able.net)
    with torch.no_grad():
        net.classifier.weight.zero_()
        assert net.classifier.bias is not None
        net.classifier.bias.copy_(torch.tensor([1.0, -1.0]))
    return replace(able, net=net)


def test_a_model_that_finds_the_cells_is_taken(able: Model, blind: Model) -> None:
    models = [replace(able, name="special"), replace(blind, name=GENERALIST)]
    chosen = choose_base(planes(9), small(), models)
    assert chosen is not None and chosen.model.name == "special"


@pytest.mark.parametrize("names", [("special", GENERALIST), (GENERALIST, "special")])
def test_of_equals_the_generalist_is_taken(able: Model, names: tuple[str, str]) -> None:
    chosen = choose_base(planes(9), small(), [replace(able, name=name) for name in names])
    assert chosen is not None and chosen.model.name == GENERALIST


@pytest.mark.parametrize(
    ("cells", "lead", "expected"),
    [
        # Real cases in which a special model led on the painted cells and found nothing elsewhere,
        (1, 0.54, GENERALIST),
        (3, 0.22, GENERALIST),
        (5, 0.06, GENERALIST),
        # and some in which it was the better one.
        (3, 0.36, "special"),
        (5, 0.23, "special"),
        (9, 0.14, "special"),
    ],
)
def test_a_lead_of_less_than_one_cell_is_a_coincidence(
    able: Model, monkeypatch: pytest.MonkeyPatch, cells: int, lead: float, expected: str
) -> None:
    def judged(model: Model, *_: object) -> tuple[Scores, int]:
        return scored(0.3 + lead if model.name == "special" else 0.3), cells

    monkeypatch.setattr(base_choice, "_judged", judged)
    models = [replace(able, name="special"), replace(able, name=GENERALIST)]
    chosen = choose_base(planes(cells), small(), models)
    assert chosen is not None and chosen.model.name == expected


def test_cells_outside_the_boxes_are_not_counted(
    able: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lead of less than one cell in the box, however many are painted beside it."""
    image, labels = nuclei()
    rows, columns = np.nonzero(labels == 1)
    box = np.array([[rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]])
    boxed = annotated_planes([TrainingPair(image, labels, boxes=box)])
    qualities = {"special": 0.5, GENERALIST: 0.3}
    monkeypatch.setattr(base_choice, "judge", lambda model, *_: (model.name, []))
    monkeypatch.setattr(base_choice, "quality", lambda name: qualities[name])
    models = [replace(able, name=name) for name in qualities]
    everywhere = small(annotation=AnnotationSettings(area="all"))
    chosen = choose_base(boxed, everywhere, models)
    assert chosen is not None and chosen.model.name == "special"
    in_boxes = small(annotation=AnnotationSettings(area="boxes"))
    chosen = choose_base(boxed, in_boxes, models)
    assert chosen is not None and chosen.model.name == GENERALIST


def test_who_stops_does_not_wait_for_the_election(
    able: Model, blind: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complaint 11: each candidate is judged on all painted cells."""
    asked: list[str] = []

    def judged(model: Model, *_: object) -> tuple[Scores, int]:
        asked.append(model.name)
        return scored(float(model.name == "special")), 9

    monkeypatch.setattr(base_choice, "_judged", judged)
    models = [replace(able, name="special"), replace(blind, name=GENERALIST)]
    chosen = choose_base(planes(9), small(), models, cancelled=lambda: len(asked) > 0)
    assert chosen is not None and chosen.model.name == GENERALIST
    assert asked == [GENERALIST]


def test_who_stops_does_not_wait_for_the_candidate_that_is_judged(
    able: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([False])  # asked before the candidate, and stopped while it predicts
    monkeypatch.setattr(judging, "scores", lambda *_: pytest.fail("judged to the end"))
    models = [replace(able, name=name) for name in ("special", GENERALIST)]
    chosen = choose_base(planes(9), small(), models, cancelled=lambda: next(calls, True))
    assert chosen is not None and chosen.model.name == GENERALIST


def test_models_of_other_channels_do_not_stand_for_election(able: Model) -> None:
    image, labels = nuclei()
    pair = annotated_planes([TrainingPair(np.stack([image] * 2, axis=-1), labels, channel_axis=-1)])
    assert choose_base(pair, small(), [able]) is None
    assert choose_base(planes(9), small(), [able]) == ChosenBase(able)


def test_classes_are_not_judged(able: Model, blind: Model) -> None:
    settings = small(annotation=AnnotationSettings(task="classes"))
    assert choose_base(planes(9), settings, [blind, able]) == ChosenBase(blind)
