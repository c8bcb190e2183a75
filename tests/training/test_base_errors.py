"""Each object that is not found is given the cause that a person would name."""

from __future__ import annotations

import numpy as np
import pytest
from training.base_errors import causes


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((40, 80), np.int32)
    for number, (top, left, bottom, right) in enumerate(corners, 1):
        labels[top:bottom, left:right] = number
    return labels


ONE = boxes((10, 10, 20, 20))
TWO = boxes((10, 10, 20, 20), (10, 21, 20, 31))


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        (ONE, ONE, {"found": 1}),
        (ONE, boxes((30, 50, 40, 60)), {"missed": 1}),
        (TWO, boxes((10, 10, 20, 31)), {"merged": 2}),
        (ONE, boxes((10, 10, 20, 13), (10, 13, 20, 16), (10, 16, 20, 20)), {"split": 1}),
        (ONE, boxes((10, 10, 20, 14)), {"outline": 1}),
        (boxes((10, 10, 20, 20), (30, 30, 32, 33)), ONE, {"found": 1, "speck": 1}),
        (np.zeros_like(ONE), ONE, {}),
    ],
)
def test_causes(truth: np.ndarray, predicted: np.ndarray, expected: dict[str, int]) -> None:
    assert causes(truth, predicted) == expected
