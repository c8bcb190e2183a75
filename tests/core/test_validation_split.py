"""Which cells of which images are held back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.annotation_checks import StateCounts
from napari_unet.core.settings import AnnotationSettings, TrainSettings
from napari_unet.core.validation_split import (
    FEWEST_TO_HOLD_BACK,
    held_back,
    objects_to_hold_back,
)

SETTINGS = TrainSettings(validation=0.2)


def painted(*objects: int, background: bool = True) -> list[StateCounts]:
    return [
        StateCounts(900, 50 * background, 10 * n, 0, n, (50 * background, 10 * n)) for n in objects
    ]


@pytest.mark.parametrize("objects", [4, 5, 10, 23])
def test_one_image_gives_a_fifth_of_its_objects_and_few_give_none(objects: int) -> None:
    expected = round(objects / 5) if objects >= FEWEST_TO_HOLD_BACK else 0
    assert objects_to_hold_back(painted(objects), SETTINGS) == [expected]


def test_many_images_with_few_objects_each_give_whole_images_from_one_end() -> None:
    found = {
        tuple(objects_to_hold_back(painted(*[4] * 10), replace(SETTINGS, seed=seed)))
        for seed in range(8)
    }
    assert found == {(4, 4, *[0] * 8), (*[0] * 8, 4, 4)}


def test_two_images_with_few_objects_give_some_of_one() -> None:
    assert sorted(objects_to_hold_back(painted(4, 4), SETTINGS)) == [0, 2]


def test_images_with_many_and_with_few_objects_each_give_a_fifth() -> None:
    shares = objects_to_hold_back(painted(20, 3, 0, 3, 3), SETTINGS)
    assert shares[0] == 4 and sum(shares[1:]) == 2 and shares[2] == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_only_background_is_not_held_back(seed: int) -> None:
    first, *rest = painted(*[1] * 6)
    bare = painted(*[1] * 5, background=False)
    settings = replace(SETTINGS, seed=seed)
    assert objects_to_hold_back([first, *bare], settings)[0] == 0
    assert objects_to_hold_back([*bare, first], settings)[-1] == 0
    assert sum(objects_to_hold_back([first, *rest], settings)) == 1


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=20),
    st.floats(0.05, 0.5),
    st.integers(0, 100),
)
def test_what_is_left_teaches_and_what_is_held_back_is_about_the_fraction(
    objects: list[int], fraction: float, seed: int
) -> None:
    settings = replace(SETTINGS, validation=fraction, seed=seed)
    shares = objects_to_hold_back(painted(*objects), settings)
    assert all(0 <= share <= n for share, n in zip(shares, objects, strict=True))
    assert sum(shares) <= max(sum(objects) // 2 + len(objects), 0)
    if sum(objects):
        assert sum(shares) < sum(objects)
    if sum(objects) < FEWEST_TO_HOLD_BACK:
        assert not any(shares)
    few = [n for n in objects if n < FEWEST_TO_HOLD_BACK]
    if len(few) == len(objects) and sum(few) >= FEWEST_TO_HOLD_BACK:
        assert sum(shares) == max(1, round(fraction * sum(few)))


def test_nothing_is_held_back_without_a_fraction_or_for_classes() -> None:
    classes = replace(SETTINGS, annotation=AnnotationSettings(task="classes"))
    for settings in (replace(SETTINGS, validation=0.0), classes):
        assert objects_to_hold_back(painted(20, 4, 4), settings) == [0, 0, 0]


def test_a_whole_image_is_held_back_with_its_background() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[5:9, 5:9] = 3
    labels[12:15, 10:15] = 7
    weight = np.ones(labels.shape, np.float32)
    weight[:2] = 0
    held = held_back(labels, weight, 2, SETTINGS, seed=0)
    assert held.objects == 2
    np.testing.assert_array_equal(held.mask, weight > 0)
