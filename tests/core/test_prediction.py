"""Tiled prediction against the network module applied to the whole mirrored image."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core import tile_run
from napari_unet.core.errors import DeviceMemoryError, InputError, PredictionError
from napari_unet.core.inference import InferenceNetwork
from napari_unet.core.model import Model
from napari_unet.core.planes import Plane
from napari_unet.core.prediction import (
    Predictor,
    check_seams,
    iter_tiles,
    network_input,
    predict,
    scale_factor,
)
from napari_unet.core.resampling import resample_plane
from napari_unet.core.settings import TileSettings
from napari_unet.core.unet import UNet

from .networks import small_model, small_net, untiled

few = settings(max_examples=10, deadline=None)

MODELS = {
    (padding, norm): small_model(small_net(padding, norm))  # type: ignore[arg-type]
    for padding in ("same", "valid")
    for norm in (None, "batch")
}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def collect(
    model: Model | Predictor, image: Any, shape: tuple[int, int], **options: Any
) -> np.ndarray:
    """Return the probabilities of :func:`iter_tiles`; NaN where no tile came."""
    result: np.ndarray | None = None
    for tile in iter_tiles(model, image, **options):
        if result is None:
            result = np.full((len(tile.probabilities), *shape), np.nan, np.float32)
        assert np.isnan(result[:, *tile.slices]).all(), "a pixel came twice"
        result[:, *tile.slices] = tile.probabilities
    assert result is not None
    return result


class Counting:
    """An array that remembers which windows were read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.windows: list[tuple[slice, ...]] = []

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        self.windows.append(key)
        return self.array[key]


# --- tiled == untiled --------------------------------------------------------------------------


@few
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("norm", [None, "batch"])
@given(st.integers(1, 45), st.integers(1, 45), st.integers(8, 50), st.integers(0, 99))
def test_tiled_equals_untiled(
    padding: str, norm: str | None, height: int, width: int, tile: int, seed: int
) -> None:
    """Complaint 17, for any image size, tile size and order."""
    model = MODELS[padding, norm]
    image = noise(height, width, seed=seed)
    random = np.random.default_rng(seed)
    tiled = collect(
        model,
        image,
        image.shape,
        settings=TileSettings(tile=tile),
        focus=lambda: (random.uniform(-9, 80), random.uniform(-9, 80)),
    )
    np.testing.assert_allclose(tiled, untiled(model, image), atol=1e-5, rtol=0)


@few
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(8, 60),
    st.sampled_from([7.0, 13.7, 20.0, 33.0, 70.0]),
    st.sampled_from(["same", "valid"]),
    st.integers(0, 99),
)
def test_tiled_equals_untiled_at_another_scale(
    height: int, width: int, tile: int, diameter: float, padding: str, seed: int
) -> None:
    model = small_model(MODELS[padding, "batch"].net, diameter=20.0)
    image = noise(height, width, seed=seed)
    random = np.random.default_rng(seed)
    whole = predict(model, image, settings=TileSettings(tile=1000), diameter=diameter)
    tiled = collect(
        model,
        image,
        image.shape,
        settings=TileSettings(tile=tile),
        diameter=diameter,
        focus=lambda: (random.uniform(0, 50), random.uniform(0, 50)),
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-5, rtol=0)


def test_scaled_prediction_is_prediction_of_the_scaled_image() -> None:
    """Away from the borders: scale by 2, predict, and average pairs back."""
    model = small_model(diameter=20.0)
    image = noise(60, 60)
    scale = model.normalization.measure(Plane(image))
    got = predict(model, image, diameter=10.0)
    doubled = resample_plane(Plane(image), 2.0)
    parts = list(iter_tiles(model, doubled, scale=scale, settings=TileSettings(tile=500)))
    assert len(parts) == 1
    # Image pixel i lies at 2i + 0.5, in the middle between network pixels 2i and 2i + 1.
    back = parts[0].probabilities.reshape(2, 60, 2, 60, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(got[:, 15:-15, 15:-15], back[:, 15:-15, 15:-15], atol=1e-5)


def test_a_diameter_equal_to_the_models_changes_nothing() -> None:
    model = small_model(diameter=20.0)
    image = noise(30, 40)
    np.testing.assert_array_equal(predict(model, image, diameter=20.0), predict(model, image))


def test_automatic_tiles_equal_untiled() -> None:
    model = MODELS["same", "batch"]
    image = noise(70, 45)
    np.testing.assert_allclose(predict(model, image), untiled(model, image), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_tiled_equals_untiled_at_depth_4(padding: str) -> None:
    model = small_model(small_net(padding, "batch", depth=4))  # type: ignore[arg-type]
    image = noise(301, 277)
    expected = untiled(model, image)
    for tile in (8, 50, 128, 300):
        got = predict(model, image, settings=TileSettings(tile=tile))
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_region_is_the_same_part_of_the_whole() -> None:
    model = MODELS["same", "batch"]
    image = noise(60, 70)
    whole = predict(model, image)
    region = (slice(13, 47), slice(5, 68))
    part = collect(model, image, image.shape, region=region, settings=TileSettings(tile=16))
    outside = np.ones(image.shape, bool)
    outside[region] = False
    assert np.isnan(part[:, outside]).all()
    np.testing.assert_allclose(part[:, *region], whole[:, *region], atol=1e-5)


def test_region_outside_the_image() -> None:
    with pytest.raises(InputError, match="outside the image"):
        iter_tiles(MODELS["same", "batch"], noise(9, 9), region=(slice(20, 30), slice(0, 9)))


# --- inputs ------------------------------------------------------------------------------------


def test_gray_image_for_a_gray_or_rgb_model() -> None:
    model = small_model(small_net(in_channels=3), channels="gray_or_rgb")
    image = noise(20, 21)
    repeated = np.repeat(image[..., None], 3, axis=2)
    np.testing.assert_array_equal(predict(model, image), predict(model, repeated))


def test_rgb_image_for_a_one_channel_model() -> None:
    with pytest.raises(InputError, match="cannot be used on an RGB image"):
        predict(MODELS["same", "batch"], noise(20, 20, 3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    image = noise(30, 30)
    image[7, 9] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        predict(MODELS["same", "batch"], image)


def test_nan_that_the_sample_of_a_huge_image_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(600, 600)
    image[299, 299] = np.nan
    monkeypatch.setattr("napari_unet.core.normalization.SAMPLE_PIXELS", 300_000)
    monkeypatch.setattr("napari_unet.core.normalization._BLOCK", 128)
    with pytest.raises(InputError, match="NaN or infinite"):
        predict(MODELS["same", "batch"], image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64, bool])
def test_any_real_pixel_type(dtype: type) -> None:
    image = (noise(25, 33) * 200).astype(dtype)
    model = MODELS["same", "batch"]
    np.testing.assert_array_equal(predict(model, image), predict(model, image.astype(np.float32)))


def test_lazy_arrays_give_the_same_result(tmp_path: Path) -> None:
    image = (noise(60, 50) * 1000).astype(np.uint16)
    model = MODELS["same", "batch"]
    expected = predict(model, image)
    mapped = np.memmap(tmp_path / "image.raw", np.uint16, "w+", shape=image.shape)
    mapped[:] = image
    stored = zarr.create_array(tmp_path / "image.zarr", data=image, chunks=(16, 16))
    for lazy in (mapped, stored, dask.array.from_array(image, chunks=(17, 13))):
        got = predict(model, lazy, settings=TileSettings(tile=24))
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_only_what_a_tile_needs_is_read() -> None:
    """Complaint 18: the image is never loaded as a whole."""
    model = MODELS["same", "batch"]
    image = Counting(noise(400, 400))
    scale = model.normalization.measure(Plane(image))
    image.windows.clear()
    region = (slice(160, 192), slice(200, 232))
    tiles = list(iter_tiles(model, image, region=region, scale=scale))
    halo = model.net.halo
    assert len(tiles) == 1
    ((rows, columns),) = image.windows
    assert 160 - halo <= rows.start
    assert rows.stop <= 192 + halo
    assert 200 - halo <= columns.start
    assert columns.stop <= 232 + halo


def test_unreadable_image_is_one_sentence() -> None:
    class Broken(Counting):
        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            raise OSError("chunk 3.1 is missing\nstack of the library")

    model = MODELS["same", "batch"]
    scale = model.normalization.measure(Plane(noise(9, 9)))
    with pytest.raises(InputError, match=r"could not be read \(chunk 3.1 is missing\)\.$"):
        list(iter_tiles(model, Broken(noise(30, 30)), scale=scale))


# --- order, focus, cancel ----------------------------------------------------------------------


def test_starts_at_the_focus_and_follows_it() -> None:
    looked_at = [300.0, 300.0]
    tiles = iter_tiles(
        MODELS["same", "batch"],
        noise(320, 320),
        settings=TileSettings(tile=40),
        focus=lambda: (looked_at[0], looked_at[1]),
    )
    first = next(tiles)
    assert first.slices == (slice(280, 320), slice(280, 320))
    looked_at[:] = [5.0, 165.0]
    assert next(tiles).slices == (slice(0, 40), slice(160, 200))
    looked_at[:] = [165.0, 5.0]
    assert next(tiles).slices == (slice(160, 200), slice(0, 40))


def test_watched_tiles_are_small_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_run, "FIRST_TILE", 32)
    monkeypatch.setattr(tile_run, "WATCHED_SECONDS", 1e9)
    place = [100.0, 100.0]
    tiles = iter_tiles(MODELS["same", "batch"], noise(200, 200), focus=lambda: (place[0], place[1]))
    first = next(tiles)
    assert first.probabilities.shape[1:] <= (32, 32)
    seen = [first]
    seen += [next(tiles) for _ in range(2)]
    place[:] = [10.0, 190.0]
    moved = next(tiles)
    assert moved.probabilities.shape[1:] <= (32, 32)
    seen += [moved, *tiles]
    assert sum(t.probabilities[0].size for t in seen) == 200 * 200
    assert seen[-1].done == seen[-1].total == 200 * 200


def test_unwatched_tiles_are_as_large_as_they_may_be() -> None:
    assert len(list(iter_tiles(MODELS["same", "batch"], noise(300, 500)))) == 1


def test_progress_counts_pixels() -> None:
    done = [
        (t.done, t.total)
        for t in iter_tiles(MODELS["same", "batch"], noise(20, 16), settings=TileSettings(tile=8))
    ]
    assert done == [(k, 320) for k in (64, 128, 192, 256, 288, 320)]


def test_cancel_keeps_finished_tiles() -> None:
    """Complaint 11."""
    model = MODELS["same", "batch"]
    image = noise(64, 64)
    seen = 0

    def cancelled() -> bool:
        return seen >= 3

    whole = predict(model, image)
    part = np.full((2, 64, 64), np.nan, np.float32)
    for tile in iter_tiles(model, image, settings=TileSettings(tile=16), cancelled=cancelled):
        part[:, *tile.slices] = tile.probabilities
        seen += 1
    assert seen == 3
    finished = ~np.isnan(part[0])
    assert finished.sum() == 3 * 256
    np.testing.assert_allclose(part[:, finished], whole[:, finished], atol=1e-5)


def test_cancel_stops_within_a_tile() -> None:
    """Complaint 11: the answer to a click on Stop does not wait for a large tile."""
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    result = predict(MODELS["same", "batch"], noise(64, 64), cancelled=cancelled)
    assert asked == 5
    assert np.isnan(result).all()


def test_dropping_the_generator_ends_the_reading_thread() -> None:
    before = threading.active_count()
    tiles = iter_tiles(MODELS["same", "batch"], noise(64, 64), settings=TileSettings(tile=16))
    next(tiles)
    tiles.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_the_thread_count_is_left_alone() -> None:
    before = torch.get_num_threads()
    predict(MODELS["same", "batch"], noise(20, 20))
    assert torch.get_num_threads() == before


# --- memory ------------------------------------------------------------------------------------


def starve(
    monkeypatch: pytest.MonkeyPatch, largest: int, error: Callable[[], BaseException]
) -> list[tuple[int, int]]:
    """Let windows with more than ``largest`` rows of output fail; return the sizes that worked."""
    compute = InferenceNetwork.__call__
    worked = []

    def limited(
        self: InferenceNetwork,
        pixels: np.ndarray,
        rows: tuple[int, int],
        columns: tuple[int, int],
        cancelled: Callable[[], bool] | None = None,
    ) -> np.ndarray:
        size = rows[1] - rows[0], columns[1] - columns[0]
        if max(size) > largest:
            raise error()
        worked.append(size)
        return compute(self, pixels, rows, columns, cancelled)

    monkeypatch.setattr(InferenceNetwork, "__call__", limited)
    return worked


OUT_OF_MEMORY: list[Callable[[], BaseException]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"),
    MemoryError,
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("diameter", [None, 14.0])
def test_out_of_memory_means_smaller_tiles(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Callable[[], BaseException],
    diameter: float | None,
) -> None:
    """Complaint 12: never a lost run, and the result is the same."""
    model = small_model(diameter=20.0)
    image = noise(150, 130)
    expected = predict(model, image, diameter=diameter)
    worked = starve(monkeypatch, 50, error)
    with caplog.at_level(logging.WARNING):
        got = predict(model, image, diameter=diameter)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert max(max(size) for size in worked) <= 50
    assert "Out of memory with a tile of" in caplog.text
    # One lesson per size is enough: what is left is cut down at once.
    assert caplog.text.count("Out of memory") <= 3


def test_no_memory_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    starve(monkeypatch, 0, OUT_OF_MEMORY[0])
    with pytest.raises(DeviceMemoryError, match="Not even a tile of"):
        predict(MODELS["same", "batch"], noise(64, 64))


def test_other_failures_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    starve(monkeypatch, 0, lambda: RuntimeError("CUDA error: unspecified\nlong trace"))
    with pytest.raises(PredictionError, match=r"on cpu: CUDA error: unspecified$"):
        predict(MODELS["same", "batch"], noise(64, 64))


def test_tiles_follow_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Complaint 12."""
    network = InferenceNetwork(UNet(1, 2, 32, 3, "same", "batch"))
    cpu = torch.device("cpu")
    sides = []
    for free in (2**20, 2**28, 2**31, 2**40):
        monkeypatch.setattr(tile_run, "free_memory", lambda _, free=free: free)
        sides.append(tile_run.automatic_tile(network, cpu))
    assert sides == sorted(sides)
    assert sides[0] == tile_run.SMALLEST_TILE
    assert sides[-1] == tile_run.LARGEST_TILE["cpu"]
    assert all(side % network.stride == 0 for side in sides)


# --- diameters, seams --------------------------------------------------------------------------


@pytest.mark.parametrize("diameter", [0.0, -3.0, float("nan"), float("inf")])
def test_impossible_diameters(diameter: float) -> None:
    with pytest.raises(InputError, match="diameter must be a positive number"):
        scale_factor(small_model(diameter=20.0), diameter)


def test_scale_factor() -> None:
    assert scale_factor(small_model(diameter=20.0), 40.0) == 0.5
    assert scale_factor(small_model(diameter=20.0), None) == 1.0
    assert scale_factor(small_model(diameter=None), 40.0) == 1.0


def test_network_input_is_normalised_once() -> None:
    """Complaint 17: a dark corner is not stretched to full contrast of its own."""
    image = np.zeros((64, 64), np.float32)
    image[32:] = 100
    image[:8, :8] = noise(8, 8)
    seen = network_input(MODELS["same", "batch"], Plane(image))(0, 8, 0, 8)
    assert seen.max() < 0.02


def test_seam_check_of_a_sound_model() -> None:
    report = check_seams(MODELS["valid", "batch"], noise(90, 80))
    assert report.seam_free
    assert report.largest_difference <= 1e-5
    assert report.tile == 30
    assert "no seams" in report.sentence()


def test_seam_check_finds_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose result depends on the tile is caught, and the place is named."""
    compute = InferenceNetwork.__call__

    def spoiled(
        self: InferenceNetwork,
        pixels: np.ndarray,
        rows: tuple[int, int],
        columns: tuple[int, int],
        cancelled: Callable[[], bool] | None = None,
    ) -> np.ndarray:
        result = compute(self, pixels, rows, columns, cancelled).copy()
        if rows[0] == 32 and columns[0] == 64:
            result[1, 3, 2] += 0.25
        return result

    monkeypatch.setattr(InferenceNetwork, "__call__", spoiled)
    report = check_seams(
        MODELS["same", "batch"], noise(100, 100), (slice(0, 96), slice(0, 96)), tile=32
    )
    assert not report.seam_free
    assert report.largest_difference == pytest.approx(0.25, abs=1e-4)
    assert report.position == (35, 66)
    assert "visible seams" in report.sentence()


def test_seam_check_compares_with_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the region begins between two lines of the tiles' grid."""
    worked = starve(monkeypatch, 1000, OUT_OF_MEMORY[0])
    region = (slice(3, 107), slice(5, 100))
    check_seams(MODELS["same", "batch"], noise(120, 120), region)
    assert worked[0] == (104, 95)


def test_seam_check_of_a_region_too_large_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles would be compared with tiles."""
    starve(monkeypatch, 64, OUT_OF_MEMORY[0])
    with pytest.raises(DeviceMemoryError, match="check a smaller part"):
        check_seams(MODELS["same", "batch"], noise(120, 120))


def test_a_predictor_can_be_used_again() -> None:
    model = MODELS["same", "batch"]
    predictor = Predictor(model, TileSettings(tile=16))
    for image in (noise(30, 30), noise(17, 40)):
        np.testing.assert_allclose(predict(predictor, image), predict(model, image), atol=1e-5)
