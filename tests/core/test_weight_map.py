"""The weight map against brute force on randomly drawn label images."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
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
    term: npt.NDArray[np.float64] = np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return term * (labels <= 0)


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


@settings(max_examples=40, deadline=None)
@given(label_images(), st.booleans(), st.data())
def test_weight_map_equals_the_formula(
    labels: Labels, class_balance: bool, data: st.DataObject
) -> None:
    w0, sigma = data.draw(st.floats(0, 50)), data.draw(st.floats(0.5, 8))
    mask = None
    if data.draw(st.booleans()):
        mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(labels.shape) < 0.7
    weights = weight_map(labels, w0=w0, sigma=sigma, class_balance=class_balance, mask=mask)
    trained = np.ones(labels.shape, bool) if mask is None else mask
    objects = labels > 0
    class_part = np.ones(labels.shape)
    if class_balance and trained.any():
        present = [one for one in (objects, ~objects) if (one & trained).any()]
        for one in present:
            class_part[one] = trained.sum() / (len(present) * (one & trained).sum())
    expected = trained * (class_part + w0 * brute_force_term(labels, sigma))
    assert weights.dtype == np.float32
    limit = TOLERANCE * w0 + 1e-5 * (1 + expected.max())
    assert np.abs(weights - expected).max() <= limit
    assert (weights[~trained] == 0).all()


def test_parts_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane larger than one part gives what it gives in one piece."""
    rng = np.random.default_rng(3)
    labels = ndimage.zoom(rng.integers(0, 5, (12, 14)), 9, order=0) * (rng.random((108, 126)) < 0.9)
    mask = rng.random(labels.shape) < 0.8
    whole = weight_map(labels, mask=mask)
    monkeypatch.setattr("napari_unet.core.labels.parts.__defaults__", (37,))
    np.testing.assert_allclose(weight_map(labels, mask=mask), whole, rtol=1e-6)


def test_class_weights_give_each_class_the_same_total_and_mean_one() -> None:
    counts = np.array([900, 0, 90, 10])
    weights = class_weights(counts)
    np.testing.assert_allclose((weights * counts)[[0, 2, 3]], 1000 / 3, rtol=1e-6)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    assert class_weights(counts, class_balance=False).tolist() == [1, 1, 1, 1]


def test_planes_of_a_stack_are_independent() -> None:
    rng = np.random.default_rng(0)
    stack = (rng.random((2, 3, 30, 20)) < 0.1) * rng.integers(1, 5, (2, 3, 30, 20))
    together = weight_map(stack)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(together[index], weight_map(stack[index]))


def test_fewer_than_two_objects_have_no_boundary_term() -> None:
    labels = np.zeros((20, 20), int)
    assert (weight_map(labels, w0=10) == 1).all()
    labels[3:6, 3:6] = labels[14:16, 2:9] = 5
    assert (weight_map(labels, w0=10, class_balance=False) == 1).all()


def test_middle_of_a_narrow_gap_has_the_published_weight() -> None:
    """Two walls three pixels apart: d1 = d2 = 2 in the middle, w0 exp(-16 / 50) with sigma 5."""
    labels = np.zeros((9, 9), np.uint8)
    labels[:, :3], labels[:, 6:] = 1, 2
    middle = weight_map(labels, class_balance=False)[4, 4]
    assert middle == pytest.approx(1 + 10 * np.exp(-16 / 50), abs=1e-5)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.uint32, np.int64, np.float32])
def test_labels_of_any_type(kind: type) -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[2:5, 2:5] = labels[6:9, 6:9] = 1
    if kind is not bool:
        labels[6:9, 6:9] = 2
    np.testing.assert_array_equal(weight_map(labels.astype(kind)), weight_map(labels))


def test_ids_beyond_32_bits() -> None:
    labels = np.zeros((12, 12), np.int64)
    labels[2:5, 2:5], labels[6:9, 6:9] = 2**40, 2**40 + 1
    small = np.where(labels > 0, labels - 2**40 + 1, 0)
    np.testing.assert_array_equal(weight_map(labels), weight_map(small))


def test_ids_in_scattered_pieces_equal_brute_force() -> None:
    """Every id is all over the plane, so that it is worth to compute it in halves."""
    rng = np.random.default_rng(4)
    labels = ndimage.zoom(rng.integers(-9, 12, (66, 60)), 5, order=0).clip(0)
    term = boundary_term(labels, Reach.of(3.0))
    assert np.abs(term - brute_force_term(labels, 3.0)).max() < TOLERANCE


def test_reach_far_beyond_the_plane() -> None:
    """Windows never grow beyond the plane, so tiny pixels cost no memory."""
    labels = np.zeros((30, 31), int)
    labels[4, 4], labels[20, 25] = 1, 2
    spacing = (0.001, 0.002)
    term = boundary_term(labels, Reach.of(5.0, spacing))
    np.testing.assert_allclose(term, brute_force_term(labels, 5.0, spacing), atol=TOLERANCE)


@settings(max_examples=50, deadline=None)
@given(label_images())
def test_object_table_equals_scipy(labels: Labels) -> None:
    table = object_table(labels)
    ids = np.unique(labels[labels > 0])
    assert table.ids.tolist() == ids.tolist()
    for number, box, pixels in zip(ids, table.boxes, table.pixels, strict=True):
        rows, columns = ndimage.find_objects((labels == number).astype(int))[0]
        assert box.tolist() == [rows.start, columns.start, rows.stop, columns.stop]
        assert pixels == (labels == number).sum()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full((3, 3), np.nan), "NaN"),
        (np.full((3, 3), 1.5), "1.5"),
        (np.full((3, 3), -2), "-2"),
        (np.full((3, 3), 2**63, np.uint64), "too large"),
        (np.zeros((3, 3), complex), "complex"),
        (np.zeros(3, int), "2 axes"),
        (np.zeros((0, 3), int), "empty"),
    ],
)
def test_unusable_labels_are_refused(labels: npt.NDArray[np.generic], words: str) -> None:
    with pytest.raises(InputError, match=words):
        weight_map(labels)


@pytest.mark.parametrize(
    "options",
    [
        {"w0": -1},
        {"w0": np.inf},
        {"sigma": 0},
        {"sigma": np.nan},
        {"spacing": (1,)},
        {"spacing": (1, 0)},
    ],
)
def test_unusable_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        weight_map(np.zeros((3, 3), int), **options)  # type: ignore[arg-type]


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 3\).*\(2, 2\)"):
        weight_map(np.zeros((3, 3), int), mask=np.ones((2, 2), bool))


@pytest.mark.parametrize(
    "folder", ["nuclei_dsb2018", "phc_usiigaci", "em_axon_sem", "bbbc007_sparse"]
)
def test_real_masks_equal_brute_force(folder: str, shared_data: Path) -> None:
    path = sorted((shared_data / folder / "masks").glob("*.tif"))[0]
    labels = tifffile.imread(path)
    y, x = np.median(np.nonzero(labels), axis=1).astype(int)
    labels = labels[max(y - 90, 0) : y + 90, max(x - 90, 0) : x + 90]
    assert len(np.unique(labels)) > 2
    term = boundary_term(labels.astype(np.int32), Reach.of(5.0))
    assert np.abs(term - brute_force_term(labels, 5.0)).max() < TOLERANCE


def test_zarr_labels_are_read_like_any_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = ndimage.zoom(rng.integers(0, 4, (10, 10)), 12, order=0).astype(np.uint16)
    stored = zarr.create_array(
        str(tmp_path / "labels.zarr"), shape=labels.shape, chunks=(50, 50), dtype=labels.dtype
    )
    stored[:] = labels
    np.testing.assert_array_equal(weight_map(stored), weight_map(labels))


@pytest.mark.slow
def test_memory_stays_under_one_and_a_half_times_the_output() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((8192, 8192), np.int32)
    for number, (y, x) in enumerate(rng.integers(0, 8160, (20_000, 2)), start=1):
        labels[y : y + 22, x : x + 20] = number
    tracemalloc.start()
    try:
        weights = weight_map(labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * weights.nbytes
