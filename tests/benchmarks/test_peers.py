from __future__ import annotations

import numpy as np
import pytest

from benchmarks import peers
from napari_unet.core.metrics import average_precision
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.samples import paint_cells


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    return simulate_nuclei((160, 160), diameter=20, seed=3)


@pytest.mark.parametrize("bright", [True, False])
def test_otsu_finds_the_polarity(sample, bright: bool) -> None:
    image, truth = sample
    shown = image if bright else image.max() - image
    found = peers.otsu(shown, paint_cells(truth, 5))(shown)
    foreground = found > 0
    overlap = (foreground & (truth > 0)).sum() / (foreground | (truth > 0)).sum()
    assert overlap > 0.6


def test_small_components_and_holes() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:9, 2:9] = True
    mask[5, 5] = False
    mask[15, 15] = True
    found = peers.components(mask, 4)
    assert np.unique(found).tolist() == [0, 1]
    assert (found > 0).sum() == 49


def test_smallest_area_follows_the_painted_cells() -> None:
    painted = np.zeros((40, 40), np.int32)
    painted[:10, :10], painted[20:30, 20:30] = 1, 2
    assert peers.smallest_area(painted) == 25


def test_random_forest_learns_from_painted_cells(sample) -> None:
    pytest.importorskip("sklearn", reason="the bench extra is not installed")
    image, truth = sample
    segment = peers.random_forest(image, paint_cells(truth, 8))
    other_image, other_truth = simulate_nuclei((160, 160), diameter=20, seed=4)
    (ap,) = average_precision(other_truth, segment(other_image), [0.5])
    assert ap > 0.3


def test_cellpose_gets_the_window_of_the_painted_cells() -> None:
    painted = np.zeros((50, 60), np.int32)
    painted[10:20, 5:9] = 3
    rows, columns = peers._painted_window(painted, margin=6.5)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (3, 27, 0, 16)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Cellpose imports
def test_cellpose_keeps_to_its_time(sample) -> None:
    pytest.importorskip("cellpose", reason="the bench extra is not installed")
    image, truth = sample
    segment, used = peers.cellpose(image, paint_cells(truth, 5), seconds=8)
    assert 4 < used < 16
    assert segment(image).shape == image.shape
