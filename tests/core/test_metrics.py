"""Object scores against brute force over all pairings."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.errors import InputError
from napari_unet.core.evaluation import Evaluator, evaluate
from napari_unet.core.metrics import average_precision, match, merges_and_splits

small_labels = hnp.arrays(np.int32, (5, 6), elements=st.integers(-1, 4))


def ious_of(truth, prediction):
    return {
        (int(t), int(p)): np.sum((truth == t) & (prediction == p))
        / np.sum((truth == t) | (prediction == p))
        for t in np.unique(truth[truth > 0])
        for p in np.unique(prediction[prediction > 0])
    }


def best_pairing(truth, prediction, threshold):
    """Try every one-to-one pairing: most pairs first, then the largest sum of IoU."""
    good = {pair: iou for pair, iou in ious_of(truth, prediction).items() if iou >= threshold}
    best = (0, 0.0)
    for count in range(1, len(good) + 1):
        for chosen in itertools.combinations(good, count):
            if len({t for t, _ in chosen}) == len({p for _, p in chosen}) == count:
                best = max(best, (count, sum(good[pair] for pair in chosen)))
    return best


@settings(deadline=None, max_examples=150)
@given(small_labels, small_labels, st.sampled_from([0.05, 0.2, 0.5, 0.75, 1.0]))
def test_match_is_the_best_of_all_pairings(truth, prediction, threshold):
    result = match(truth, prediction, threshold)
    count, iou_sum = best_pairing(truth, prediction, threshold)
    assert result.tp == len(result.pairs) == count
    assert result.ious.sum() == pytest.approx(iou_sum)
    assert result.fn == len(np.unique(truth[truth > 0])) - count
    assert result.fp == len(np.unique(prediction[prediction > 0])) - count
    known = ious_of(truth, prediction)
    assert [known[t, p] for t, p in result.pairs.tolist()] == pytest.approx(list(result.ious))


@settings(deadline=None, max_examples=50)
@given(small_labels, small_labels, hnp.arrays(bool, (5, 6)))
def test_ignored_pixels_change_nothing(truth, prediction, mask):
    """What is drawn on ignored pixels cannot change the IoU of any pair."""
    inside = match(np.where(mask, truth, 0), np.where(mask, prediction, 0), 0.3)
    result = match(truth, prediction, 0.3, mask=mask)
    assert result.pairs.tolist() == inside.pairs.tolist()
    assert result.ious == pytest.approx(inside.ious)
    assert result.fp <= inside.fp and result.fn <= inside.fn


def test_object_mostly_outside_the_scored_area_is_not_counted_as_wrong():
    prediction = np.zeros((4, 8), np.int32)
    prediction[:, 2:8] = 1
    mask = np.zeros((4, 8), bool)
    mask[:, :4] = True
    assert match(np.zeros_like(prediction), prediction, mask=mask).fp == 0
    mask[:, :5] = True
    assert match(np.zeros_like(prediction), prediction, mask=mask).fp == 1


def test_negative_labels_are_background():
    truth = np.array([[-1, -1, 3, 3]])
    assert average_precision(truth, np.array([[0, 0, 7, 7]]), 0.9).tolist() == [1.0]


def test_scores_of_a_known_case():
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3, 3]])
    prediction = np.array([[5, 5, 5, 0, 0, 0, 6, 6, 0, 0]])
    result = match(truth, prediction, 0.5)
    assert (result.tp, result.fp, result.fn) == (1, 1, 2)
    assert result.average_precision == 1 / 4
    assert result.f1 == 2 / 5
    assert result.precision == 1 / 2
    assert result.recall == 1 / 3
    assert result.mean_matched_iou == 3 / 4
    assert result.panoptic_quality == 0.75 / 2.5


def test_nothing_to_compare_with_is_nan_and_nothing_found_is_zero():
    empty, one = np.zeros((3, 3), np.int32), np.eye(3, dtype=np.int32)
    assert np.isnan(average_precision(empty, empty)).all()
    assert (average_precision(one, empty) == 0).all()
    assert (average_precision(empty, one) == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64, np.uint64, bool])
def test_label_types(dtype):
    labels = np.array([[0, 1, 1]]).astype(dtype)
    assert average_precision(labels, labels, 1.0).tolist() == [1.0]


def test_large_ids_cost_nothing():
    """Ids are names: a table as large as the largest id would not fit into memory."""
    truth = np.array([[2**40, 2**40, 0, 7]])
    result = match(truth, truth + (truth > 0))
    assert result.pairs.tolist() == [[7, 8], [2**40, 2**40 + 1]]


@pytest.mark.parametrize(
    ("truth", "prediction", "options"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), {}),
        (np.zeros((2, 2)), np.zeros((2, 2), int), {}),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), {"threshold": 0}),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), {"mask": np.ones((2, 3), bool)}),
        (np.full((1, 1), 2**63, np.uint64), np.zeros((1, 1), int), {}),
    ],
)
def test_bad_input_is_one_sentence(truth, prediction, options):
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        match(truth, prediction, **options)


def test_merges_and_splits_of_touching_cells():
    """Complaint 3: touching cells that merge are counted, cut cells too, specks are not."""
    truth = np.zeros((10, 40), np.int32)
    truth[:, :10], truth[:, 10:20], truth[:, 20:40] = 1, 2, 3
    merged = np.where(truth == 2, 1, truth)
    assert vars(merges_and_splits(truth, merged)) == {"merges": 1, "splits": 0}
    cut = truth.copy()
    cut[:, 30:] = 4
    assert vars(merges_and_splits(truth, cut)) == {"merges": 0, "splits": 1}
    speck = truth.copy()
    speck[0, 0] = 9
    assert vars(merges_and_splits(truth, speck)) == {"merges": 0, "splits": 0}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(small_labels, small_labels), min_size=1, max_size=4))
def test_pooled_scores_are_those_of_all_images_side_by_side(pairs):
    """Ids are made different, so that one big image has the same objects as all images."""
    truth = np.concatenate([np.where(t > 0, t + 10 * i, 0) for i, (t, _) in enumerate(pairs)])
    found = np.concatenate([np.where(p > 0, p + 10 * i, 0) for i, (_, p) in enumerate(pairs)])
    pooled = evaluate([t for t, _ in pairs], [p for _, p in pairs])
    whole = evaluate([truth], [found])
    for name in ("average_precision", "f1", "panoptic_quality", "foreground_iou", "pixel_error"):
        np.testing.assert_allclose(getattr(pooled, name), getattr(whole, name))
    assert (pooled.objects, pooled.predicted) == (whole.objects, whole.predicted)
    assert (pooled.merges, pooled.splits) == (whole.merges, whole.splits)
    assert pooled.images == len(pairs)


def test_an_evaluation_is_readable_and_json_safe():
    evaluator = Evaluator((0.5, 0.75))
    assert evaluator.result().to_dict()["average_precision"] == [None, None]
    evaluator.add(np.array([[1, 1, 1, 1, 0]]), np.array([[1, 1, 1, 0, 0]]))
    result = evaluator.result()
    assert result.to_dict()["average_precision"] == [1.0, 1.0]
    assert result.foreground_iou == 0.75
    assert result.pixel_error == 0.2
    lines = result.table().splitlines()
    assert lines[0].split() == ["IoU", "threshold", "0.50", "0.75"]
    assert lines[1].split() == ["average", "precision", "1.000", "1.000"]


@pytest.mark.timed
def test_cost_follows_the_pixels_not_objects_times_objects():
    """1,600 objects in 2048 x 2048: a dense table of pairs or a loop over objects takes minutes."""
    rows, columns = np.indices((2048, 2048)) // 51
    truth = (rows * 41 + columns + 1).astype(np.int32)
    prediction = np.roll(truth, 5, axis=1)
    start = time.perf_counter()
    values = average_precision(truth, prediction)
    assert time.perf_counter() - start < 5
    assert values[0] > 0.9 and values[-1] < 0.1
