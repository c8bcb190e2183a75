"""Scores of single pixels against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.errors import InputError
from napari_unet.core.metrics import class_iou, pixel_error

classes = hnp.arrays(np.int16, (4, 5), elements=st.integers(-1, 3))


@settings(deadline=None, max_examples=60)
@given(classes, classes, hnp.arrays(bool, (4, 5)))
def test_class_iou_is_its_definition(truth, prediction, mask):
    result = class_iou(truth, prediction, 4, mask=mask)
    t, p = np.maximum(truth, 0)[mask], np.maximum(prediction, 0)[mask]
    for index in range(4):
        union = ((t == index) | (p == index)).sum()
        shared = ((t == index) & (p == index)).sum()
        expected = shared / union if union else np.nan
        assert result[index] == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(classes, classes, hnp.arrays(bool, (4, 5)))
def test_pixel_error_is_the_squared_distance_of_the_maps(truth, prediction, mask):
    difference = (truth > 0).astype(float) - (prediction > 0)
    expected = (difference**2)[mask].mean() if mask.any() else np.nan
    assert pixel_error(truth, prediction, mask=mask) == pytest.approx(expected, nan_ok=True)


def test_an_unexpected_class_is_one_sentence():
    with pytest.raises(InputError, match=r"Class 3 was found, but only 2"):
        class_iou(np.array([[3]]), np.array([[0]]), 2)
