"""Rand and information scores against pairs of pixels and scikit-image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error, variation_of_information

from napari_unet.core.metrics import border_thinned_scores, rand_error, thin_borders
from napari_unet.core.partition_metrics import partition_scores, segments_between_borders

small_labels = hnp.arrays(np.int32, (4, 5), elements=st.integers(0, 3))


def without_zeros(labels):
    """Give each background pixel an id of its own."""
    single = np.arange(labels.size).reshape(labels.shape) + labels.max() + 1
    return np.where(labels == 0, single, labels)


@settings(deadline=None, max_examples=60)
@given(small_labels, small_labels)
def test_rand_is_the_probability_of_pairs_of_pixels(truth, prediction):
    inside = truth > 0
    assume(inside.any())
    t, s = truth[inside], without_zeros(prediction)[inside]
    pairs = list(itertools.product(range(len(t)), repeat=2))
    same_t = np.array([t[a] == t[b] for a, b in pairs])
    same_s = np.array([s[a] == s[b] for a, b in pairs])
    scores = partition_scores(truth, prediction)
    assert scores.rand_split == pytest.approx((same_t & same_s).sum() / same_t.sum())
    assert scores.rand_merge == pytest.approx((same_t & same_s).sum() / same_s.sum())
    split, merge = scores.rand_split, scores.rand_merge
    assert 1 - rand_error(truth, prediction) == pytest.approx(2 * split * merge / (split + merge))


@settings(deadline=None, max_examples=60)
@given(small_labels, small_labels)
def test_rand_agrees_with_scikit_image(truth, prediction):
    """scikit-image leaves out the pairs of a pixel with itself; the same is done here by hand."""
    inside = truth > 0
    n = int(inside.sum())
    assume(n > 1)
    ours = partition_scores(truth, prediction, predicted_background="segment")
    t, s = truth[inside], prediction[inside]
    squares_t = sum((t == i).sum() ** 2 for i in np.unique(t))
    squares_s = sum((s == i).sum() ** 2 for i in np.unique(s))
    assume(squares_t > n and squares_s > n)
    assume(ours.rand_split * squares_t > n + 0.5)
    theirs = adapted_rand_error(truth, prediction)
    both = ours.rand_split * squares_t
    assert both == pytest.approx(ours.rand_merge * squares_s)
    f_score = 2 * (both - n) / (squares_t + squares_s - 2 * n)
    assert 1 - f_score == pytest.approx(theirs[0])


@settings(deadline=None, max_examples=60)
@given(small_labels, small_labels)
def test_information_agrees_with_scikit_image(truth, prediction):
    inside = truth > 0
    assume(inside.any())
    single = without_zeros(prediction)
    false_splits, false_merges = variation_of_information(truth[inside], single[inside])
    scores = partition_scores(truth, prediction)
    assert scores.conditional_split == pytest.approx(false_splits, abs=1e-9)
    assert scores.conditional_merge == pytest.approx(false_merges, abs=1e-9)
    assert scores.variation_of_information == pytest.approx(false_splits + false_merges, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(small_labels)
def test_a_partition_equals_itself_under_other_names(labels):
    assume((labels > 0).any())
    scores = partition_scores(labels, np.where(labels > 0, 17 - 3 * labels, 0))
    for name in ("rand", "rand_split", "rand_merge", "info", "info_split", "info_merge"):
        assert getattr(scores, name) == pytest.approx(1)


def test_splits_and_mergers_are_told_apart():
    truth = np.repeat([[1, 2]], [8, 8], axis=1)
    split = np.repeat([[1, 3, 2]], [4, 4, 8], axis=1)
    scores = partition_scores(truth, split)
    assert scores.rand_split < scores.rand_merge == 1
    assert scores.info_split < scores.info_merge == 1
    scores = partition_scores(truth, np.ones_like(truth))
    assert scores.rand_merge < scores.rand_split == 1
    assert scores.info_merge == 0
    assert scores.info_split == 1


def test_no_true_object_is_nan():
    assert np.isnan(rand_error(np.zeros((2, 2), int), np.ones((2, 2), int)))


def test_thinned_scores_do_not_depend_on_the_width_of_predicted_borders():
    truth = np.zeros((20, 41), np.int32)
    truth[:, :20], truth[:, 21:] = 1, 2
    wide = truth.copy()
    wide[:, 15:26] = 0
    assert rand_error(truth, wide) > 0.05
    assert border_thinned_scores(truth, wide).rand == pytest.approx(1)
    assert border_thinned_scores(truth, wide).info == pytest.approx(1)
    hole = segments_between_borders(np.where(np.arange(20)[:, None] == 9, True, wide > 0))
    assert hole.max() == 1
    assert border_thinned_scores(truth, hole).rand_merge < 0.6


@settings(deadline=None, max_examples=30)
@given(small_labels, st.sampled_from([None, 1.0, 2.0]))
def test_thinning_gives_each_pixel_to_a_nearest_segment(labels, max_border):
    thinned = thin_borders(labels, max_border=max_border)
    assert thinned.dtype == labels.dtype
    points = np.argwhere(labels > 0)
    for y, x in np.ndindex(labels.shape):
        distances = np.hypot(*(points - (y, x)).T)
        near = len(points) and (max_border is None or distances.min() <= max_border)
        nearest = points[distances == distances.min()] if near else []
        allowed = {int(labels[a, b]) for a, b in nearest} or {0}
        assert int(thinned[y, x]) in allowed
