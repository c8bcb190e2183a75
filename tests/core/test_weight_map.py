"""The weight map against brute force on randomly drawn label images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_unet.core.distances import Reach, boundary_term, object_table
from napari_unet.core.errors import InputError, SettingsError
from napari_unet.core.weight_map import class_weights, weight_map

Labels = npt.NDArray[np.int32]
TOLERANCE = 1e-4


def brute_force_term(
    labels: npt.NDArray[np.integer], sigma: float, spacing: tuple[float, float] | None = None
) -> npt.NDArray[np.float64]:
    """One distance transform of the whole image per object, sorted."""
    numbers = np.unique(labels[labels > 0])
    if len(numbers) < 2:
        return np.zeros(labels.shape)
    distances = [ndimage.distance_transform_edt(labels != k, sampling=spacing) for k in numbers]
    nearest, second = np.sort(np.stack(distances), axis=0)[:2]
    return np.exp(-((nearest + second) ** 2) / (2 * sigma**2)) * (labels <= 0)


@st.composite
def label_images(draw: st.DrawFn, largest: int = 40) -> Labels:
    """Rectangles, discs and single pixels of few ids (pieces of one id need not touch)."""
    shape = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    labels = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    number = st.sampled_from([1, 2, 3, 4, 7, 100_000, 2**31 - 1])
    for _ in range(draw(st.integers(0, 8))):
        y, x = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        if draw(st.booleans()):
            high, wide = draw(st.integers(1, 12)), draw(st.integers(1, 12))
            labels[y : y + high, x : x + wide] = draw(number)
        else:
            radius = draw(st.floats(0, 8))
            labels[np.hypot(rows - y, columns - x) <= radius] = draw(number)
    if draw(st.booleans()):
        labels[draw(st.integers(0, shape[0] - 1)) :: 5, ::7] = draw(st.sampled_from([0, -1]))
    return labels


spacings = st.one_of(
    st.none(), st.tuples(st.floats(0.1, 4).map(lambda v: round(v, 2)), st.floats(0.1, 4))
)


@settings(max_examples=150, deadline=None)
@given(label_images(), st.floats(0.3, 12), spacings)
def test_boundary_term_equals_brute_force(
    labels: Labels, sigma: float, spacing: tuple[float, float] | None
) -> None:
    term = boundary_term(labels, Reach.of(sigma, spacing))
    assert np.abs(term - brute_force_term(labels, sigma, spacing)).max() < TOLERANCE


@settings(max_examples=60, deadline=None)
@given(label_images(), st.floats(0.3, 8), spacings, st.data())
def test_boundary_term_of_a_window_equals_that_part_of_the_whole(
    labels: Labels, sigma: float, spacing: tuple[float, float] | None, data: st.DataObject
) -> None:
    height, width = labels.shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(top + 1, height))
    right = data.draw(st.integers(left + 1, width))
    window = (slice(top, bottom), slice(left, right))
    reach = Reach.of(sigma, spacing)
    np.testing.assert_array_equal(
        boundary_term(labels, reach, window), boundary_term(labels, reach)[window]
    )
