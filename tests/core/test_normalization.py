"""Intensity scaling: percentiles of the whole image, whatever it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_unet.core import normalization
from napari_unet.core.errors import InputError
from napari_unet.core.normalization import Normalization, sample_pixels
from napari_unet.core.planes import as_plane
from napari_unet.core.resampling import ResampledPlane

Image = npt.NDArray[Any]


def normalised(image: Image, channel_axis: int | None = None) -> npt.NDArray[np.float32]:
    plane = as_plane(image, channel_axis)
    height, width = plane.shape
    return Normalization().measure(plane).apply(plane.read(0, height, 0, width))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_percentiles_become_zero_and_one(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    image = rng.gamma(2.0, [[[20]], [[9]], [[5]]], (3, 60, 50)).astype(dtype)
    result = normalised(image, 0)
    for channel, pixels in enumerate(image.astype(np.float64)):
        low, high = np.percentile(pixels, [1, 99.8])
        expected = np.clip((pixels - low) / (high - low), -1, 4)
        np.testing.assert_allclose(result[channel], expected, atol=1e-5)
    assert result.dtype == np.float32


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_any_finite_image_becomes_finite_and_bounded(image: Image) -> None:
    span = float(np.ptp(image))
    assume(span == 0 or span > 1e-4 * np.abs(image).max())
    result = normalised(image)
    assert np.isfinite(result).all()
    assert result.min() >= -1 and result.max() <= 4


@pytest.mark.parametrize(
    ("dtype", "offset"),
    [(np.float64, 1e8), (np.float64, -1e12), (np.int32, 2e9), (np.uint32, 4e9), (np.float32, 1e8)],
)
@pytest.mark.parametrize("objects", [True, False])
def test_differences_that_single_precision_loses_are_not_segmented(
    dtype: Any, offset: float, objects: bool
) -> None:
    """What is left of them, rounding errors, would look like a great many objects."""
    image = np.full((40, 50), offset)
    image[10:20, 10:20] += 20 * objects
    plane = as_plane(image.astype(dtype))
    if dtype is np.float32 and not objects:
        view = ResampledPlane(plane, 1.7)
        pixels = Normalization().measure(plane).apply(view.read(0, 60, 0, 60))
        assert not pixels.any()
    else:
        with pytest.raises(InputError, match="subtract the smallest"):
            Normalization().measure(plane)


@pytest.mark.parametrize("value", [0.7, 255, 65535, -32768, 500_000])
def test_a_blank_plane_is_no_error(value: float) -> None:
    assert not normalised(np.full((9, 9), value)).any()


@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_gain_and_offset_of_the_camera_do_not_matter(gain: float, offset: float) -> None:
    image = np.random.default_rng(1).random((20, 30))
    np.testing.assert_allclose(
        normalised(gain * image + offset), normalised(image), atol=2e-3, rtol=1e-3
    )


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_constant_channel_becomes_zero(value: int) -> None:
    image = np.stack([np.full((8, 9), value, np.uint16), np.arange(72).reshape(8, 9)])
    result = normalised(image, 0)
    assert not result[0].any()
    assert result[1].max() > 0.9


def test_a_few_bright_pixels_on_a_constant_channel_are_kept_apart() -> None:
    """Fewer pixels than the upper percentile leaves out must not be lost."""
    image = np.zeros((100, 100), np.uint8)
    image[3, 4] = 200
    result = normalised(image)
    assert result[0, 3, 4] == 1 and result.sum() == 1


def test_hot_pixels_do_not_change_the_scale() -> None:
    image = np.random.default_rng(0).normal(100, 10, (100, 100))
    hot = image.copy()
    hot[5, 5] = 1e6
    np.testing.assert_allclose(
        np.delete(normalised(hot), 505), np.delete(normalised(image), 505), atol=0.02
    )
    assert normalised(hot)[0, 5, 5] == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_advice(value: float) -> None:
    image = np.zeros((10, 10), np.float32)
    image[2, 3] = value
    with pytest.raises(InputError, match="replace them"):
        Normalization().measure(as_plane(image))
    scale = Normalization().measure(as_plane(np.eye(10)))
    with pytest.raises(InputError, match="replace them"):
        scale.apply(image[None])


def test_numbers_beyond_single_precision_are_refused_not_warned_about() -> None:
    with pytest.raises(InputError, match="replace them"):
        normalised(np.array([[0.0, 1e300], [1.0, 2.0]]))


def test_the_image_is_not_changed() -> None:
    image = np.random.default_rng(0).random((9, 9)).astype(np.float32)
    before = image.copy()
    normalised(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("shape", [(2100, 2000), (40, 30_000), (30_000, 40), (1, 1_400_000)])
def test_a_sample_of_a_huge_plane_is_close_to_all_of_it(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uneven illumination along both axes: a sample from one place would be far off."""
    rng = np.random.default_rng(0)
    rows, columns = (np.linspace(0, 1, n, dtype=np.float32) for n in shape)
    image = rng.gamma(2.0, 0.2, shape).astype(np.float32) + rows[:, None] + columns
    monkeypatch.setattr(normalization, "SAMPLE_PIXELS", 1_100_000)
    sample = sample_pixels(as_plane(image))
    assert 700_000 < sample.size <= normalization.SAMPLE_PIXELS
    found = Normalization().measure(as_plane(image))
    low, high = np.percentile(image, [1, 99.8])
    assert float(found.offset[0]) == pytest.approx(low, abs=0.02 * (high - low))
    assert float(1 / found.gain[0]) == pytest.approx(high - low, rel=0.03)


def test_at_the_limit_everything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((600, 700), dtype=np.float32)
    monkeypatch.setattr(normalization, "SAMPLE_PIXELS", image.size)
    assert sample_pixels(as_plane(image)).size == image.size
    monkeypatch.setattr(normalization, "SAMPLE_PIXELS", image.size - 1)
    assert 0 < sample_pixels(as_plane(image)).size < image.size


def test_a_model_file_keeps_the_percentiles() -> None:
    wanted = Normalization(2.0, 98.0)
    assert Normalization(**wanted.to_dict()) == wanted


def test_a_range_too_small_to_divide_by_counts_as_none() -> None:
    plane = as_plane(np.array([[1e-45, 0.0]], np.float32))
    assert Normalization().measure(plane).gain.tolist() == [1.0]


def test_numbers_beyond_single_precision_are_named() -> None:
    """They are finite in the file, so "NaN or infinite" alone would send people searching."""
    with pytest.raises(InputError, match="beyond 3e38"):
        Normalization().measure(as_plane(np.full((4, 5), 1e200)))
