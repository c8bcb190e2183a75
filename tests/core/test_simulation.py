"""The simulator: exact labels, the wanted numbers, and images that behave like images."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.core.errors import InputError
from napari_unet.core.simulation import simulate_nuclei


def touching_labels(labels):
    """Return the labels that share an edge with another label."""
    found = set()
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        contact = (one != other) & (one > 0) & (other > 0)
        found |= set(one[contact].tolist()) | set(other[contact].tolist())
    return found


def test_same_seed_same_sample():
    first, again = simulate_nuclei((96, 128), 9, seed=5), simulate_nuclei((96, 128), 9, seed=5)
    other = simulate_nuclei((96, 128), 9, seed=6)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()
    assert (first[1] != other[1]).any()


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    diameter=st.floats(3, 40),
    seed=st.integers(0, 10_000),
)
def test_any_size(height, width, diameter, seed):
    image, labels = simulate_nuclei((height, width), diameter=diameter, seed=seed)
    assert image.shape == labels.shape == (height, width)
    assert image.dtype == np.uint16
    assert labels.dtype == np.int32
    assert labels.min() >= 0
    assert labels.max() >= 1


def test_every_nucleus_is_one_piece_and_of_the_wanted_size():
    _, labels = simulate_nuclei((512, 512), 80, diameter=24, seed=1)
    assert set(np.unique(labels)) == set(range(81))
    inner = labels.copy()
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        inner[np.isin(inner, edge[edge > 0])] = 0
    areas = np.bincount(inner.ravel())[1:]
    whole = areas[areas > 0]
    assert np.sqrt(np.median(whole) * 4 / np.pi) == pytest.approx(24, rel=0.1)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        assert ndimage.label(labels[box] == number)[1] == 1


def test_touching_fraction_is_controlled():
    counts = {
        fraction: len(
            touching_labels(simulate_nuclei((512, 512), 80, touching=fraction, seed=2)[1])
        )
        for fraction in (0.0, 0.3, 0.8)
    }
    assert counts[0.0] == 0
    assert 0.3 * 80 <= counts[0.3] <= 0.65 * 80  # the one that docks and the one it docks to
    assert counts[0.8] > 0.8 * 80


def test_labels_are_exact_for_a_sharp_noiseless_image():
    image, labels = simulate_nuclei(
        (256, 256), 20, seed=3, blur=0, haze=0, photons=1e4, read_noise=0, illumination=0
    )
    darkest_nucleus, brightest_background = image[labels > 0].min(), image[labels == 0].max()
    assert darkest_nucleus > brightest_background


def test_noise_falls_with_more_photons():
    def relative_noise(photons):
        image, labels = simulate_nuclei((256, 256), 20, seed=4, photons=photons, illumination=0)
        background = image[ndimage.binary_erosion(labels == 0, iterations=12)].astype(float)
        return background.std() / (image[labels > 0].mean() - background.mean())

    assert relative_noise(20) > 2 * relative_noise(500)


def test_illumination_is_uneven_by_the_wanted_amount():
    image, _ = simulate_nuclei((200, 200), 1, seed=5, illumination=0.5, photons=1e5, read_noise=0)
    smooth = ndimage.median_filter(image.astype(float) - 100, 31)
    assert smooth.min() == pytest.approx(0.5 * 0.05 * 1e5, rel=0.15)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": (0, 5)}, "at least 1 x 1"),
        ({"shape": (64, 64), "n": -1}, "at least 0"),
        ({"shape": (64, 64), "n": 500}, "do not fit"),
        ({"diameter": 1}, "at least 3 px"),
        ({"touching": 1.5}, "between 0 and 1"),
        ({"photons": 0}, "above 0"),
    ],
)
def test_impossible_wishes_are_one_sentence(arguments, said):
    with pytest.raises(InputError, match=said):
        simulate_nuclei(**arguments)


def test_large_fields_take_seconds():
    begin = time.process_time()
    _, labels = simulate_nuclei((2048, 2048), 1200, seed=0)
    assert labels.max() == 1200
    assert time.process_time() - begin < 15  # about 2 s on an idle core
