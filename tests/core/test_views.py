"""The mean over mirrored and turned views, against whole images turned and predicted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.errors import SettingsError
from napari_unet.core.inference import CancelledError
from napari_unet.core.planes import as_plane
from napari_unet.core.prediction import SEAM_TOLERANCE, Predictor, check_seams, predict
from napari_unet.core.settings import Padding, TileSettings
from napari_unet.core.views import VIEWS, AveragedNetwork, View

from .networks import small_model, small_net, untiled

CPU = TileSettings(device="cpu")
intervals = st.tuples(st.integers(-50, 50), st.integers(1, 40)).map(lambda n: (n[0], sum(n)))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)


@given(st.sampled_from(VIEWS[8]), intervals, intervals)
def test_a_view_shows_the_pixels_that_it_says(
    view: View, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """An image whose pixels hold their own coordinates."""
    pixels = np.stack(np.meshgrid(np.arange(*rows), np.arange(*columns), indexing="ij"))
    shown = view.show(pixels)
    there = view.intervals(rows, columns)
    assert shown.shape[1:] == tuple(stop - start for start, stop in there)
    assert view.places(*there) == (rows, columns)
    for y, x in ((0, 0), (-1, -1), (0, -1)):
        at = range(*there[0])[y], range(*there[1])[x]
        (top, _), (left, _) = view.places((at[0], at[0] + 1), (at[1], at[1] + 1))
        assert tuple(shown[:, y, x]) == (top, left)
    np.testing.assert_array_equal(view.bring_back(shown), pixels)


def test_the_views_are_all_ways_to_lay_a_square() -> None:
    square = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    for count, views in VIEWS.items():
        assert len({view.show(square).tobytes() for view in views}) == len(views) == count
    turned = {np.rot90(s, k).tobytes() for s in (square[0], square[0].T) for k in range(4)}
    assert {np.ascontiguousarray(view.show(square)).tobytes() for view in VIEWS[8]} == turned


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("views", [4, 8])
def test_the_mean_is_that_of_whole_images_laid_differently(
    image: np.ndarray, padding: Padding, views: int
) -> None:
    """Sides are multiples of the network's stride, so that mirrored pairs are pairs again.

    A valid network starts its pairs elsewhere; there each view is computed as one window.
    """
    model = small_model(small_net(padding, depth=3))
    found = predict(model, image, settings=TileSettings(device="cpu", views=views))
    expected = []
    for view in VIEWS[views]:
        laid = np.ascontiguousarray(view.show(image[None])[0])
        if padding == "same":
            values = untiled(model, laid)
        else:
            network = Predictor(model, CPU).network
            where = view.intervals((0, image.shape[0]), (0, image.shape[1]))
            need = view.places(*(network.needs(*part) for part in where))
            plane = np.pad(image, 300, "reflect")
            part = plane[need[0][0] + 300 : need[0][1] + 300, need[1][0] + 300 : need[1][1] + 300]
            scaled = model.normalization.measure(as_plane(image)).apply(part[None])
            values = network(np.ascontiguousarray(view.show(scaled)), *where)
        expected.append(view.bring_back(values))
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-5)
    assert np.abs(found - predict(model, image, settings=CPU)).max() > 1e-4


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("tile", "diameter"), [(16, None), (23, None), (20, 15.0)])
def test_the_mean_has_no_seams(
    image: np.ndarray, padding: Padding, tile: int, diameter: float | None
) -> None:
    model = small_model(small_net(padding, depth=2), diameter=24.0)
    settings = TileSettings(device="cpu", views=8)
    report = check_seams(model, image, settings=settings, tile=tile, diameter=diameter)
    assert report.largest_difference <= SEAM_TOLERANCE


def test_one_view_is_the_network_itself(image: np.ndarray) -> None:
    model = small_model(small_net(depth=2))
    network = AveragedNetwork(model.net, views=1)
    plain = Predictor(model, CPU).network
    pixels = image[: network.needs(0, 8)[1] - network.needs(0, 8)[0]][None]
    pixels = np.resize(pixels, (1, pixels.shape[1], pixels.shape[1]))
    assert network.needs(3, 11) == plain.needs(3, 11)
    np.testing.assert_array_equal(network(pixels, (0, 8), (0, 8)), plain(pixels, (0, 8), (0, 8)))


def test_who_stops_does_not_wait_for_all_views(image: np.ndarray) -> None:
    network = AveragedNetwork(small_net(depth=2), views=8)
    side = network.needs(0, 8)[1] - network.needs(0, 8)[0]
    asked = iter(range(10))
    with pytest.raises(CancelledError):
        network(np.zeros((1, side, side), np.float32), (0, 8), (0, 8), lambda: next(asked) > 5)


def test_other_numbers_of_views_are_refused() -> None:
    with pytest.raises(SettingsError, match="views must be one of 1, 4, 8"):
        TileSettings(views=2)  # type: ignore[arg-type]
