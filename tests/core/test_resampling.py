from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.errors import InputError
from napari_unet.core.planes import Plane, as_plane
from napari_unet.core.resampling import (
    ResampledPlane,
    axis_sampling,
    bring_back,
    check_factor,
    cubic,
    linear,
    resample_plane,
    scaled_interval,
)

few = settings(max_examples=25, deadline=None)
factors = st.floats(0.1, 6.0).map(lambda f: round(f, 3)).filter(lambda f: f != 1.0)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize("kernel", [cubic, linear])
@pytest.mark.parametrize("offset", [0.0, 0.2, 0.5, 0.9])
def test_kernels_are_a_partition_of_unity(kernel: object, offset: float) -> None:
    at = np.arange(-4, 5) + offset
    assert kernel(at).sum() == pytest.approx(1)  # type: ignore[operator]


@few
@given(factors, st.floats(-3, 3), st.floats(-3, 3))
def test_a_linear_ramp_keeps_its_geometry(factor: float, slope: float, level: float) -> None:
    """Pixel j of the scaled image shows the image at (j + 0.5) / factor - 0.5."""
    size = 80
    # A sampled, widened kernel shifts by less than three hundredths of a pixel.
    ramp = (level + slope * np.arange(size, dtype=np.float64)).astype(np.float32)
    view = ResampledPlane(Plane(np.tile(ramp, (size, 1))), factor)
    # Stay away from the borders, where the mirrored image is no ramp.
    first, last = int(np.ceil(25 * factor)), int(np.floor(55 * factor))
    got = view.read(first, last, first, last)[0]
    expected = level + slope * ((np.arange(first, last) + 0.5) / factor - 0.5)
    np.testing.assert_allclose(
        got, np.tile(expected, (last - first, 1)), atol=0.03 * abs(slope) + 1e-3
    )


@few
@given(
    factors,
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(-30, 30),
    st.integers(-30, 30),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_a_window_equals_the_same_part_of_a_larger_one(
    factor: float, height: int, width: int, top: int, left: int, rows: int, columns: int
) -> None:
    view = ResampledPlane(Plane(noise(height, width)), factor)
    large = view.read_mirrored(-40, 60, -40, 60)
    small = view.read_mirrored(top, top + rows, left, left + columns)
    part = large[:, top + 40 : top + 40 + rows, left + 40 : left + 40 + columns]
    np.testing.assert_array_equal(small, part)


@pytest.mark.parametrize("factor", [0.25, 0.5])
def test_shrinking_agrees_with_pytorch(factor: float) -> None:
    """Independent truth away from the borders (which are not mirrored there)."""
    image = noise(96, 64)
    truth = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], scale_factor=factor, mode="bicubic", antialias=True
    )[0].numpy()
    height, width = truth.shape[1:]
    ours = ResampledPlane(Plane(image), factor).read(0, height, 0, width)
    np.testing.assert_allclose(ours[:, 4:-4, 4:-4], truth[:, 4:-4, 4:-4], atol=1e-5)


def test_shrinking_is_anti_aliased() -> None:
    """A pattern finer than the new pixels becomes gray instead of a moire."""
    checkered = (np.indices((128, 128)).sum(axis=0) % 2).astype(np.float32)
    shrunk = ResampledPlane(Plane(checkered), 0.31).read(0, 39, 0, 39)
    assert np.abs(shrunk - 0.5).max() < 0.05


def test_enlarging_is_smooth() -> None:
    step = np.zeros((1, 32), np.float32)
    step[:, 16:] = 1
    large = ResampledPlane(Plane(step), 8.0).read(0, 1, 0, 256)[0, 0]
    assert np.abs(np.diff(large)).max() < 0.2


@pytest.mark.parametrize("factor", [0.3, 2.5])
def test_constant_images_stay_constant(factor: float) -> None:
    view = ResampledPlane(Plane(np.full((7, 9), 3.5, np.float32)), factor)
    np.testing.assert_allclose(view.read_mirrored(-20, 20, -20, 20), 3.5, rtol=1e-6)


def test_all_channels_are_resampled() -> None:
    image = noise(20, 30, 3)
    view = ResampledPlane(as_plane(image), 0.7)
    height, width = view.shape
    assert view.channels == 3
    everything = view.read(0, height, 0, width)
    for channel in range(3):
        alone = ResampledPlane(Plane(image[..., channel]), 0.7).read(0, height, 0, width)
        np.testing.assert_array_equal(everything[channel], alone[0])


def test_whole_plane_in_memory() -> None:
    plane = as_plane(noise(20, 30, 3))
    scaled = resample_plane(plane, 1.5)
    assert scaled.shape == (30, 45)
    assert scaled.channels == 3
    np.testing.assert_array_equal(
        scaled.read(3, 9, 2, 40), ResampledPlane(plane, 1.5).read(3, 9, 2, 40)
    )
    assert resample_plane(plane, 1.0) is plane


def test_one_pixel_image() -> None:
    scaled = resample_plane(Plane(np.full((1, 1), 2.0, np.float32)), 0.2)
    assert scaled.shape == (1, 1)
    assert scaled.read(0, 1, 0, 1)[0, 0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e-3, 1e3])
def test_hopeless_factors(factor: float) -> None:
    with pytest.raises(InputError, match="check the object diameter"):
        check_factor(factor)


@few
@given(factors, st.integers(0, 40), st.integers(1, 40))
def test_bringing_back_inverts_a_ramp(factor: float, start: int, length: int) -> None:
    stop = start + length
    rows = scaled_interval(start, stop, factor)
    grid = (np.arange(*rows) + 0.5) / factor - 0.5
    values = (grid[:, None] - 2 * grid[None, :])[None].astype(np.float32)
    back = bring_back(values, rows, rows, (start, stop, start, stop), factor)
    at = np.arange(start, stop)
    expected = (at[:, None] - 2 * at[None, :])[None]
    np.testing.assert_allclose(back, expected, atol=2e-3)


@few
@given(factors, st.integers(0, 20), st.integers(1, 20), st.integers(0, 5), st.integers(0, 5))
def test_bringing_back_is_independent_of_the_window(
    factor: float, start: int, length: int, before: int, after: int
) -> None:
    stop = start + length
    rows = scaled_interval(start, stop, factor)
    wider = (rows[0] - before, rows[1] + after)
    values = noise(2, wider[1] - wider[0], wider[1] - wider[0])
    inside = values[:, before : before + rows[1] - rows[0], before : before + rows[1] - rows[0]]
    box = (start, stop, start, stop)
    np.testing.assert_array_equal(
        bring_back(values, wider, wider, box, factor), bring_back(inside, rows, rows, box, factor)
    )


def test_sampling_rows_sum_to_one() -> None:
    sampling = axis_sampling(np.linspace(-3.3, 17.2, 23), cubic, 2.0, 1.7)
    np.testing.assert_allclose(sampling.matrix.sum(axis=1), 1, rtol=1e-6)
    assert sampling.matrix.shape == (23, sampling.stop - sampling.start)
