"""Scores on painted cells, thresholds fitted to them, and the number models are chosen by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.core.events import Scores
from napari_unet.core.judging import (
    best_overlaps,
    fit_thresholds,
    judge,
    mostly_inside,
    predict_regions,
    quality,
    scores,
)
from napari_unet.core.model import Model
from napari_unet.core.normalization import Normalization
from napari_unet.core.planes import as_plane
from napari_unet.core.prediction import predict
from napari_unet.core.preparation import JudgedRegion
from napari_unet.core.settings import InstanceSettings, TileSettings

from .networks import small_model, small_net

CPU = TileSettings(device="cpu")


def squares(*corners: tuple[int, int], side: int = 8) -> npt.NDArray[np.int32]:
    labels = np.zeros((60, 70), np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


TRUTH = squares((5, 5), (5, 20), (30, 10), (40, 50))


def region_of(
    labels: npt.NDArray[np.int32], weight: npt.NDArray[np.float32] | None = None, factor: float = 1
) -> JudgedRegion:
    plane = as_plane(np.random.default_rng(0).random(labels.shape))
    return JudgedRegion(
        plane=plane,
        window=(slice(0, labels.shape[0]), slice(0, labels.shape[1])),
        scale=Normalization().measure(plane),
        factor=factor,
        labels=labels,
        target=(labels > 0).astype(np.uint8),
        weight=np.ones(labels.shape, np.float32) if weight is None else weight,
    )


def answer(foreground: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    values = np.asarray(foreground, np.float32)
    return np.stack([1 - values, values])


@pytest.fixture(scope="module")
def model() -> Model:
    return small_model()


# --- scores ------------------------------------------------------------------------------------


def test_a_perfect_answer_has_perfect_scores(model: Model) -> None:
    found = scores([answer(TRUTH > 0)], [region_of(TRUTH)], model)
    assert (found.ap50, found.ap75, found.f1, found.overlap) == (1, 1, 1, 1)
    assert found.loss == pytest.approx(0, abs=1e-6)


def test_an_empty_answer_finds_nothing(model: Model) -> None:
    found = scores([answer(TRUTH * 0)], [region_of(TRUTH)], model)
    assert (found.ap50, found.f1, found.overlap) == (0, 0, 0)
    assert found.loss > 0.5


def test_scores_are_counted_over_all_regions_together(model: Model) -> None:
    """2 of 4 found and one false object, then 1 of 1: AP = 3 / (3 + 1 + 2)."""
    some = squares((5, 5), (5, 20), (20, 50))
    one = squares((10, 10))
    found = scores([answer(some > 0), answer(one > 0)], [region_of(TRUTH), region_of(one)], model)
    assert found.ap50 == pytest.approx(3 / 6)
    assert found.f1 == pytest.approx(6 / 9)
    assert found.overlap == pytest.approx(3 / 5)


def test_what_is_found_where_nothing_was_painted_is_neither_right_nor_wrong(model: Model) -> None:
    weight = ndimage.binary_dilation(TRUTH > 0, iterations=4).astype(np.float32)
    elsewhere = squares((5, 5), (5, 20), (30, 10), (40, 50), (20, 40))
    found = scores([answer(elsewhere > 0)], [region_of(TRUTH, weight)], model)
    assert found.ap50 == 1
    # An object that mostly lies on painted background is wrong, though.
    weight[15:29, 35:54] = 1
    assert scores([answer(elsewhere > 0)], [region_of(TRUTH, weight)], model).ap50 == 0.8


def test_the_smallest_object_is_meant_at_the_scale_of_the_network(model: Model) -> None:
    """An image shown at half its size: 10 network pixels are 40 of its own."""
    one = replace(model, instances=InstanceSettings(min_size=20))
    small = squares((5, 5), side=7)
    assert scores([answer(small > 0)], [region_of(small)], one).ap50 == 1
    assert scores([answer(small > 0)], [region_of(small, factor=0.5)], one).ap50 == 0


def test_classes_are_scored_by_their_mean_overlap() -> None:
    one = small_model(small_net(n_classes=3), task="classes")
    labels = np.zeros((20, 30), np.int32)
    labels[:10, :15], labels[10:, :15] = 1, 2
    region = replace(region_of(labels), target=labels.astype(np.uint8))
    perfect = np.stack([(labels == k).astype(np.float32) for k in range(3)])
    found = scores([perfect], [region], one)
    assert found.f1 == 1 and math.isnan(found.ap50) and math.isnan(found.overlap)
    half = perfect.copy()
    half[1, :10, :15], half[0, :10, :15] = 0, 1
    # Background: 300 of 450; class 1: 0; class 2: 1.
    assert scores([half], [region], one).f1 == pytest.approx((300 / 450 + 0 + 1) / 3)


def test_nothing_to_compare_with_is_not_a_number(model: Model) -> None:
    found = scores([answer(TRUTH * 0)], [region_of(TRUTH * 0)], model)
    assert math.isnan(found.ap50) and math.isnan(found.overlap)


def test_the_loss_is_the_weighted_cross_entropy(model: Model) -> None:
    rng = np.random.default_rng(0)
    foreground = rng.uniform(0.05, 0.95, TRUTH.shape)
    weight = rng.random(TRUTH.shape).astype(np.float32)
    chosen = np.where(TRUTH > 0, foreground, 1 - foreground)
    expected = -(np.log(chosen) * weight).sum() / weight.sum()
    found = scores([answer(foreground)], [region_of(TRUTH, weight)], model)
    assert found.loss == pytest.approx(expected, rel=1e-4)


# --- prediction of regions ---------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_regions_are_predicted_as_users_will_see_them(factor: float) -> None:
    """Complaint 2: the same path as segmenting the image, read on the window."""
    model = small_model(diameter=20.0)
    image = np.random.default_rng(0).random((90, 80))
    plane = as_plane(image)
    region = replace(
        region_of(TRUTH),
        plane=plane,
        window=(slice(13, 60), slice(7, 71)),
        scale=model.normalization.measure(plane),
        factor=factor,
    )
    (found,) = predict_regions(model, [region], CPU)
    whole = predict(model, image, settings=CPU, diameter=20.0 / factor)
    np.testing.assert_allclose(found, whole[:, 13:60, 7:71], atol=1e-5)


def test_judging_returns_what_the_scores_were_found_with(model: Model) -> None:
    regions = [region_of(TRUTH)]
    found, probabilities = judge(model, regions, CPU)
    assert repr(found) == repr(scores(probabilities, regions, model))


def test_judging_ends_when_it_is_cancelled(model: Model) -> None:
    found, (probabilities,) = judge(model, [region_of(TRUTH)], CPU, lambda: True)
    assert np.isnan([found.ap50, found.ap75, found.f1, found.overlap, found.loss]).all()
    assert not probabilities.any()


# --- pieces ------------------------------------------------------------------------------------


@st.composite
def label_images(draw: st.DrawFn) -> npt.NDArray[np.int32]:
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    blocks = rng.integers(0, draw(st.integers(1, 9)), (4, 4))
    return np.kron(blocks, np.ones((3, 3), int)).astype(np.int32)


@given(label_images(), label_images())
def test_best_overlaps_against_all_pairs(
    truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32]
) -> None:
    expected = []
    for k in np.unique(truth[truth > 0]):
        one = truth == k
        ious = [
            (one & (predicted == p)).sum() / (one | (predicted == p)).sum()
            for p in np.unique(predicted[predicted > 0])
        ]
        expected.append(max(ious, default=0.0))
    assert best_overlaps(truth, predicted) == pytest.approx(expected)


@given(label_images(), st.integers(0, 10_000))
def test_objects_stay_when_more_than_half_of_them_is_compared(
    labels: npt.NDArray[np.int32], seed: int
) -> None:
    mask = np.random.default_rng(seed).random(labels.shape) < 0.5
    kept = mostly_inside(labels, mask)
    for k in np.unique(labels[labels > 0]):
        one = labels == k
        assert (kept[one] == (k if mask[one].mean() > 0.5 else 0)).all()
    assert not kept[labels == 0].any()


# --- one number to choose by -------------------------------------------------------------------


def result(ap50: float, ap75: float, overlap: float, f1: float = 0.5) -> Scores:
    return Scores(ap50, ap75, f1, overlap, 0.1)


def test_better_scores_have_higher_quality() -> None:
    steps = [
        result(math.nan, math.nan, math.nan, math.nan),
        result(0, 0, 0),
        result(0, 0, 0.3),
        result(0.5, 0, 0.5),
        result(0.5, 0.5, 0.5),
        result(1, 0.5, 0.8),
        result(1, 1, 1),
    ]
    ranked = [quality(step) for step in steps]
    assert ranked == sorted(ranked) and len(set(ranked)) == len(ranked)
    assert ranked[-1] == 1


def test_false_objects_lower_the_quality() -> None:
    """The overlap of painted cells alone would not notice them."""
    assert quality(result(0.4, 0.4, 0.8)) < quality(result(0.8, 0.8, 0.8))


def test_quality_is_a_number_whatever_is_missing() -> None:
    """A comparison with nan is always false: the choice would depend on the order."""
    for ap in (math.nan, 0.0):
        for overlap in (math.nan, 0.0):
            for f1 in (math.nan, 0.0):
                assert not math.isnan(quality(result(ap, ap, overlap, f1)))


def test_classes_are_chosen_by_their_overlap() -> None:
    low, high = (result(math.nan, math.nan, math.nan, f1) for f1 in (0.3, 0.6))
    assert quality(low) < quality(high)


# --- thresholds --------------------------------------------------------------------------------


def test_thresholds_separate_what_the_default_merges(model: Model) -> None:
    """Two cells joined by a weak bridge: a higher seed threshold takes them apart."""
    truth = squares((5, 5), (5, 15), (30, 10), (30, 20))
    foreground = np.where(truth > 0, 0.9, 0.02)
    foreground[8:11, 13:15] = foreground[33:36, 18:20] = 0.62
    regions, found = [region_of(truth)], [answer(foreground)]
    assert scores(found, regions, model).ap50 == 0
    fitted = fit_thresholds(found, regions, model)
    assert scores(found, regions, model, fitted).ap50 == 1
    assert fitted.seed_threshold > 0.62


def test_thresholds_reach_for_faint_cells(model: Model) -> None:
    foreground = np.where(TRUTH > 0, 0.45, 0.1)
    regions, found = [region_of(TRUTH)], [answer(foreground)]
    fitted = fit_thresholds(found, regions, model)
    assert fitted.seed_threshold < 0.45 and fitted.mask_threshold < 0.45
    assert scores(found, regions, model, fitted).ap50 == 1


def test_thresholds_stay_when_nothing_is_gained(model: Model) -> None:
    found = [answer(np.where(TRUTH > 0, 0.95, 0.02))]
    fitted = fit_thresholds(found, [region_of(TRUTH)], model)
    assert (fitted.seed_threshold, fitted.mask_threshold) == (
        model.instances.seed_threshold,
        model.instances.mask_threshold,
    )


@given(st.integers(0, 10_000))
def test_fitted_thresholds_are_never_worse_on_the_painted_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=TRUTH.shape), 2) * 1.5
    found = [answer(np.clip(np.where(TRUTH > 0, 0.6, 0.3) + noise, 0, 1))]
    regions, one = [region_of(TRUTH)], small_model()
    fitted = fit_thresholds(found, regions, one)
    start = replace(one.instances, min_size=fitted.min_size)
    assert quality(scores(found, regions, one, fitted)) >= quality(
        scores(found, regions, one, start)
    )
    assert fitted.mask_threshold <= fitted.seed_threshold


def test_the_smallest_object_follows_the_painted_ones(model: Model) -> None:
    found, regions = [answer(TRUTH > 0)], [region_of(TRUTH)]
    assert fit_thresholds(found, regions, model).min_size == 16  # a quarter of 64
    halved = [region_of(TRUTH, factor=0.5)]
    assert fit_thresholds(found, halved, model).min_size == 4
    two = squares((5, 5), (5, 20))
    few = fit_thresholds([answer(two > 0)], [region_of(two)], model)
    assert few.min_size == model.instances.min_size, "two cells say little about the smallest"


def test_classes_have_no_thresholds_to_fit() -> None:
    one = small_model(small_net(n_classes=3), task="classes")
    region = region_of(TRUTH)
    found = [np.full((3, *TRUTH.shape), 1 / 3, np.float32)]
    assert fit_thresholds(found, [region], one) == one.instances
