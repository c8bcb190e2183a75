"""The object size that the preview of the weights assumes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.core.base_choice import GENERALIST, choose_base
from napari_unet.core.diameter import median_diameter
from napari_unet.core.model import Model
from napari_unet.core.model_file import list_models, load_model
from napari_unet.core.pairs import annotated_planes
from napari_unet.core.preparation import scale_factors
from napari_unet.core.settings import TrainSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.size_match import SizeMatch
from napari_unet.widgets._starting_size import size_match


@pytest.mark.skipif(GENERALIST not in list_models(), reason="no base model is shipped")
def test_the_size_before_the_choice_is_that_of_the_model_mostly_chosen() -> None:
    planes = annotated_planes([simulate_nuclei((96, 112), diameter=16, seed=1)])
    chosen = choose_base(planes, TrainSettings(device="cpu"))
    assert chosen is not None and chosen.model.diameter is not None
    assert size_match("auto") == SizeMatch(chosen.model.diameter, chosen.model.diameter)
    for name in list_models():
        diameter = load_model(name).diameter
        assert diameter is not None
        assert size_match(name, 7.0) == SizeMatch(diameter, diameter, 7.0)


@pytest.mark.parametrize("side", [8, 20, 60])
@pytest.mark.parametrize("given", [None, 40.0])
@pytest.mark.parametrize("known", [None, 24.0])
def test_images_are_shown_at_the_scale_they_are_trained_at(
    bright_model: Model, side: int, given: float | None, known: float | None
) -> None:
    """From scratch as well, and with a size that the user gives."""
    labels = np.zeros((100, 100), np.int32)
    labels[5 : 5 + side, 5 : 5 + side] = 1
    base = None
    if known is not None:
        base = Model(bright_model.net, "of that size", diameter=known)
    planes = annotated_planes([(np.zeros((100, 100)), labels)])
    (trained,), _ = scale_factors(planes, TrainSettings(diameter=given), base)
    match = size_match(base, given)
    assert match is not None
    assert match.scale(median_diameter(labels)) == pytest.approx(trained)
    assert match.scale(None) == 1


def test_what_is_not_known_is_left_open(bright_model: Model) -> None:
    assert size_match(bright_model) is None  # images of such a model are not resampled
    assert size_match("no such model") is None
