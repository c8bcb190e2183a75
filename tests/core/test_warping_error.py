"""Warping error: topology is kept, deformation is free, topological faults are counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import euler_number

from napari_unet.core.errors import InputError
from napari_unet.core.warping_error import inside_map, warp, warping_error, warping_errors

maps = hnp.arrays(bool, (7, 8))


def topology(inside):
    padded = np.pad(inside, 1)
    return (
        ndimage.label(padded)[1],
        ndimage.label(~padded, np.ones((3, 3)))[1],
        euler_number(padded, connectivity=1),
    )


@settings(deadline=None, max_examples=100)
@given(maps, maps)
def test_warping_keeps_the_topology_and_comes_closer(source, target):
    warped = warp(source, target)
    assert topology(warped) == topology(source)
    # Each pixel is either as it was or as wanted.
    assert ((warped == source) | (warped == target)).all()


def is_simple(image, y, x):
    """Compare the 3 x 3 window with and without its centre, by the invariants of topology."""
    window = np.pad(image, 1)[y : y + 3, x : x + 3]
    filled, emptied = window.copy(), window.copy()
    filled[1, 1], emptied[1, 1] = True, False
    pieces = [ndimage.label(w)[1] for w in (filled, emptied)]
    euler = [euler_number(np.pad(w, 1), connectivity=1) for w in (filled, emptied)]
    return pieces[0] == pieces[1] and euler[0] == euler[1]


@settings(deadline=None, max_examples=60)
@given(maps, maps)
def test_the_result_is_a_local_optimum(source, target):
    """Brute force: no single change that keeps the topology would come closer."""
    warped = warp(source, target)
    assert not any(is_simple(warped, y, x) for y, x in np.argwhere(warped != target))


@settings(deadline=None, max_examples=40)
@given(maps, maps, hnp.arrays(bool, (7, 8)))
def test_pixels_outside_the_mask_neither_change_nor_count(source, target, mask):
    warped = warp(source, target, allowed=mask)
    assert (warped == source)[~mask].all()
    other = np.where(mask, target, ~target)
    assert warping_error(source, target, mask=mask) == pytest.approx(
        warping_error(source, other, mask=mask), nan_ok=True
    )


def two_cells(border=20, width=3):
    inside = np.ones((30, 41), bool)
    inside[:, border : border + width] = False
    return inside


def test_a_shifted_or_wider_border_costs_nothing():
    assert warping_error(two_cells(20), two_cells(18)) == 0
    assert warping_error(two_cells(20, 1), two_cells(16, 9)) == 0


def test_within_a_short_reach_a_far_shift_costs():
    """The geodesic mask: the truth is allowed to move by so many pixels only."""
    assert warping_error(two_cells(20, 1), two_cells(18, 5), reach=2) == 0
    assert warping_error(two_cells(20, 1), two_cells(14, 13), reach=2) > 0
    assert warping_error(two_cells(20, 1), two_cells(20, 1), reach=0) == 0


def test_a_gap_in_a_border_is_one_merger():
    broken = two_cells()
    broken[15] = True
    result = warping_errors(two_cells(), broken)
    assert (result.mergers, result.splits, result.others) == (1, 0, 0)
    assert result.error == pytest.approx(1 / two_cells().size)


def test_an_extra_border_is_one_split():
    cut = two_cells()
    cut[:, 32] = False
    result = warping_errors(two_cells(), cut)
    assert (result.mergers, result.splits, result.others) == (0, 1, 0)


def test_added_and_deleted_cells_are_others():
    cell, both = np.zeros((12, 20), bool), np.zeros((12, 20), bool)
    cell[3:8, 3:8] = True
    both[3:8, 3:8] = both[3:8, 12:17] = True
    assert warping_errors(cell, both).others == 1
    assert warping_errors(both, cell).others == 1
    hole = cell.copy()
    hole[5, 5] = False
    result = warping_errors(cell, hole)
    assert (result.mergers, result.splits, result.others) == (0, 0, 1)


def test_touching_labels_get_a_border():
    labels = np.repeat([[1, 1, 2, 2, 0, 3]], 4, axis=0)
    inside = inside_map(labels)
    assert ndimage.label(inside)[1] == 3
    assert warping_error(labels, inside) == 0
    merged = np.where(labels == 2, 1, labels)
    assert warping_errors(labels, merged).mergers == 1


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.int32, (6, 7), elements=st.integers(-1, 3)))
def test_different_labels_never_share_a_component(labels):
    pieces = ndimage.label(inside_map(labels))[0]
    for index in range(1, pieces.max() + 1):
        assert len(np.unique(labels[pieces == index])) == 1


@pytest.mark.parametrize(
    ("truth", "prediction", "options"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), {}),
        (np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), {}),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), {"mask": np.ones((3, 2), bool)}),
    ],
)
def test_bad_input_is_one_sentence(truth, prediction, options):
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        warping_error(truth, prediction, **options)
