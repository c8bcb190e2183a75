"""The object size that the preview of the weights assumes."""

from __future__ import annotations

import pytest

from napari_unet.core.base_choice import GENERALIST, choose_base
from napari_unet.core.model_file import list_models, load_model
from napari_unet.core.pairs import annotated_planes
from napari_unet.core.settings import TrainSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.widgets._starting_size import starting_diameter


@pytest.mark.skipif(GENERALIST not in list_models(), reason="no base model is shipped")
def test_the_size_before_the_choice_is_that_of_the_model_mostly_chosen() -> None:
    planes = annotated_planes([simulate_nuclei((96, 112), diameter=16, seed=1)])
    chosen = choose_base(planes, TrainSettings(device="cpu"))
    assert chosen is not None
    assert starting_diameter("auto") == chosen.diameter
    for name in list_models():
        assert starting_diameter(name) == load_model(name).diameter


def test_what_is_not_known_is_left_open() -> None:
    assert starting_diameter(None) is None
    assert starting_diameter("no such model") is None
