"""Objects from probabilities, against definitions written out; streams against the whole map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from napari_unet.core.errors import InputError
from napari_unet.core.instances import (
    StreamingInstances,
    foreground,
    grown_seeds,
    in_scan_order,
    label_classes,
    label_instances,
)
from napari_unet.core.settings import InstanceSettings
from napari_unet.core.tiling import Box, cut

few = settings(max_examples=40, deadline=None)

ALL_NEIGHBOURS = np.ones((3, 3), bool)


def smooth_map(
    height: int, width: int, seed: int, sigma: float = 1.5, decimals: int | None = 2
) -> np.ndarray:
    """Return blobs of probability between 0 and 1; rounded, with plenty of plateaus and ties."""
    random = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(random.normal(size=(height, width)), sigma, mode="reflect")
    values = (values - values.min()) / max(1e-9, np.ptp(values))
    return (values if decimals is None else np.round(values, decimals)).astype(np.float32)


@st.composite
def thresholds(draw: st.DrawFn) -> InstanceSettings:
    return InstanceSettings(
        seed_threshold=draw(st.sampled_from([0.4, 0.5, 0.6, 0.7])),
        mask_threshold=draw(st.sampled_from([0.3, 0.45, 0.5, 0.65])),
        min_size=draw(st.sampled_from([0, 1, 4, 12])),
        fill_holes=draw(st.booleans()),
    )


def spelled_out(values: np.ndarray, options: InstanceSettings) -> np.ndarray:
    """Apply the definition of the docstring literally, object by object."""
    threshold = max(options.seed_threshold, options.mask_threshold)
    seeds, _ = ndimage.label(values > threshold)
    labels = watershed(-values, seeds, mask=values > options.mask_threshold)
    for label in range(1, labels.max() + 1):
        if (labels == label).sum() < options.min_size:
            labels[labels == label] = 0
    if options.fill_holes:
        fillings = np.zeros_like(labels)
        for label in np.unique(labels[labels > 0]):
            parts, count = ndimage.label(labels != label, structure=ALL_NEIGHBOURS)
            for part in range(1, count + 1):
                inside = parts == part
                border = inside[0].any() or inside[-1].any()
                border = border or inside[:, 0].any() or inside[:, -1].any()
                if not border and not labels[inside].any():
                    fillings[inside] = label
        labels = np.where(fillings > 0, fillings, labels)
    result = np.zeros_like(labels, dtype=np.int32)
    for label in labels.ravel():
        if label > 0 and not result[labels == label].any():
            result[labels == label] = result.max() + 1
    return result


@few
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 10_000), thresholds())
def test_labels_are_what_the_definition_says(
    height: int, width: int, seed: int, options: InstanceSettings
) -> None:
    # Without ties: which of two equal pixels a flood takes first is not part of the definition.
    values = smooth_map(height, width, seed, decimals=None)
    got = label_instances(values, options)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, spelled_out(values, options))


@few
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.4, 0.5, 0.6]))
def test_flooding_from_the_rim_of_seeds_equals_flooding_from_seeds(seed: int, mask: float) -> None:
    values = smooth_map(48, 40, seed, sigma=2.5, decimals=None)
    seeds, _ = ndimage.label(values > 0.6)
    expected = watershed(-values, seeds, mask=values > mask)
    got = grown_seeds(values, InstanceSettings(seed_threshold=0.6, mask_threshold=mask))
    np.testing.assert_array_equal(got, expected)


@few
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.4, 0.5]), st.integers(1, 2))
def test_components_of_the_mask_are_independent(seed: int, mask: float, decimals: int) -> None:
    """What becomes of a component does not change when the others are erased or cut away."""
    values = smooth_map(40, 30, seed, decimals=decimals)
    options = InstanceSettings(seed_threshold=0.6, mask_threshold=mask, min_size=0)
    together = grown_seeds(values, options)
    parts, count = ndimage.label(values > mask)
    for part, box in enumerate(ndimage.find_objects(parts), start=1):
        inside = parts[box] == part
        alone = grown_seeds(np.where(inside, values[box], np.float32(0)), options)
        np.testing.assert_array_equal(
            in_scan_order(alone), in_scan_order(np.where(inside, together[box], np.int32(0)))
        )
    assert count >= 1


@few
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 25),
    st.integers(1, 25),
    st.integers(0, 10_000),
    thresholds(),
)
def test_streamed_labels_equal_those_of_the_whole_map(
    height: int, width: int, rows: int, columns: int, seed: int, options: InstanceSettings
) -> None:
    """Complaint 17: whatever the tiles and their order."""
    values = smooth_map(height, width, seed)
    boxes = cut(Box(0, height, 0, width), (rows, columns))
    np.random.default_rng(seed).shuffle(boxes)
    streaming = StreamingInstances((height, width), options)
    shown = np.zeros((height, width), np.int32)
    for box in boxes:
        for patch in streaming.add(box.slices, values[box.slices]):
            shown[patch.slices] = patch.labels
    np.testing.assert_array_equal(streaming.finish(), label_instances(values, options))
    # What the patches painted is what the stream itself believes.
    np.testing.assert_array_equal(shown, streaming.provisional)


@few
@given(st.integers(5, 40), st.integers(1, 25), st.integers(1, 25), st.integers(0, 10_000))
def test_provisional_objects_are_final_up_to_their_numbers(
    side: int, rows: int, columns: int, seed: int
) -> None:
    """With one threshold, no dropping and no filling, stitching alone already is exact."""
    options = InstanceSettings(seed_threshold=0.5, mask_threshold=0.5, min_size=0, fill_holes=False)
    values = smooth_map(side, side, seed)
    streaming = StreamingInstances((side, side), options)
    boxes = cut(Box(0, side, 0, side), (rows, columns))
    np.random.default_rng(seed).shuffle(boxes)
    for box in boxes:
        streaming.add(box.slices, values[box.slices])
    np.testing.assert_array_equal(in_scan_order(streaming.provisional), streaming.finish())


def test_an_object_on_four_tiles_is_one_object() -> None:
    """Complaint 17: stitching with an object on every border."""
    values = np.zeros((20, 20), np.float32)
    values[5:15, 5:15] = 0.9
    streaming = StreamingInstances((20, 20))
    for box in cut(Box(0, 20, 0, 20), 10):
        streaming.add(box.slices, values[box.slices])
    assert np.unique(streaming.provisional[5:15, 5:15]).size == 1


def test_a_bridge_renames_the_younger_object() -> None:
    """A horseshoe whose legs arrive first is two objects until its bow arrives."""
    values = np.zeros((20, 30), np.float32)
    values[0:10, 2:6] = values[0:10, 20:24] = values[10:14, 2:24] = 0.9
    streaming = StreamingInstances((20, 30))
    streaming.add((slice(0, 10), slice(0, 15)), values[:10, :15])
    streaming.add((slice(0, 10), slice(15, 30)), values[:10, 15:])
    assert set(np.unique(streaming.provisional)) == {0, 1, 2}
    patches = streaming.add((slice(10, 20), slice(0, 30)), values[10:])
    assert patches[0].slices == (slice(10, 20), slice(0, 30))
    assert [p.slices for p in patches[1:]] == [(slice(0, 10), slice(20, 24))]
    assert set(np.unique(streaming.provisional)) == {0, 1}


def test_objects_that_meet_below_the_seed_threshold_stay_apart_over_a_border() -> None:
    values = np.zeros((10, 20), np.float32)
    values[2:8, 2:18] = 0.4
    values[3:7, 3:8] = values[3:7, 12:17] = 0.9
    options = InstanceSettings(seed_threshold=0.5, mask_threshold=0.3)
    streaming = StreamingInstances((10, 20), options)
    streaming.add((slice(0, 10), slice(0, 10)), values[:, :10])
    streaming.add((slice(0, 10), slice(10, 20)), values[:, 10:])
    assert streaming.provisional[5, 5] != streaming.provisional[5, 14]


def test_thresholds_can_be_changed_without_predicting_again() -> None:
    values = smooth_map(40, 40, 3)
    streaming = StreamingInstances((40, 40))
    streaming.add((slice(0, 40), slice(0, 40)), values)
    other = InstanceSettings(seed_threshold=0.7, mask_threshold=0.4)
    np.testing.assert_array_equal(
        label_instances(streaming.foreground, other), label_instances(values, other)
    )


def test_a_diagonal_ridge_of_one_pixel_separates() -> None:
    values = np.ones((12, 12), np.float32)
    values[np.arange(12), np.arange(12)] = 0.1
    labels = label_instances(values, InstanceSettings(min_size=0))
    assert labels.max() == 2
    assert labels[0, 11] != labels[11, 0]


def test_objects_grow_back_over_the_ridge_between_them() -> None:
    values = np.full((10, 21), 0.9, np.float32)
    values[:, 10] = 0.45
    labels = label_instances(values, InstanceSettings(seed_threshold=0.5, mask_threshold=0.4))
    assert labels.max() == 2
    assert (labels > 0).all()


def test_mask_without_seed_is_background() -> None:
    values = np.full((10, 10), 0.45, np.float32)
    assert not label_instances(
        values, InstanceSettings(seed_threshold=0.5, mask_threshold=0.4)
    ).any()


def test_a_hole_with_an_object_in_it_is_not_filled() -> None:
    values = np.zeros((20, 20), np.float32)
    values[2:18, 2:18] = 0.9
    values[5:15, 5:15] = 0.0
    values[8:12, 8:12] = 0.9
    labels = label_instances(values, InstanceSettings(min_size=0))
    assert labels.max() == 2
    assert labels[6, 6] == 0
    assert labels[10, 10] == 2


def test_a_speck_too_small_to_keep_does_not_keep_a_hole_open() -> None:
    values = np.zeros((20, 20), np.float32)
    values[2:18, 2:18] = 0.9
    values[5:15, 5:15] = 0.0
    values[9, 9] = 0.9
    labels = label_instances(values, InstanceSettings(min_size=5))
    assert (labels[2:18, 2:18] == 1).all()


def test_a_bay_at_the_image_border_is_not_a_hole() -> None:
    values = np.full((9, 9), 0.9, np.float32)
    values[0, 4] = 0
    assert label_instances(values)[0, 4] == 0


def test_pixels_that_were_not_predicted_are_background() -> None:
    probabilities = np.full((2, 6, 12), 0.9, np.float32)
    probabilities[:, :, 6:] = np.nan
    labels = label_instances(probabilities)
    assert (labels[:, :6] == 1).all()
    assert not labels[:, 6:].any()


def test_nothing_at_all() -> None:
    labels = label_instances(np.zeros((2, 5, 7), np.float32))
    assert labels.shape == (5, 7)
    assert not labels.any()


def test_foreground_of_several_classes() -> None:
    probabilities = np.array([0.2, 0.5, 0.3], np.float32).reshape(3, 1, 1)
    assert foreground(probabilities)[0, 0] == pytest.approx(0.8)


@pytest.mark.parametrize("shape", [(1, 4, 4), (4,), (2, 3, 4, 4)])
def test_arrays_that_are_no_probabilities(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"shape \(K, Y, X\)"):
        foreground(np.zeros(shape, np.float32))


def test_classes_are_the_most_probable_ones() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), size=(6, 7)).transpose(2, 0, 1)
    labels = label_classes(probabilities)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, probabilities.argmax(axis=0))
    probabilities[:, 2, 3] = np.nan
    assert label_classes(probabilities)[2, 3] == 0


def test_scan_order() -> None:
    labels = np.array([[0, 7, 7], [2, 0, 7], [2, 9, 0]], np.int32)
    np.testing.assert_array_equal(in_scan_order(labels), [[0, 1, 1], [2, 0, 1], [2, 3, 0]])
