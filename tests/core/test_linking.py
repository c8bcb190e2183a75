"""Objects keep their number through a stack."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.core.errors import InputError
from napari_unet.core.linking import PlaneLinker, link_planes


def square(shape: tuple[int, int], boxes: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    plane = np.zeros(shape, dtype=np.int32)
    for number, (top, bottom, left, right) in boxes.items():
        plane[top:bottom, left:right] = number
    return plane


def test_a_moving_object_keeps_its_number_and_a_new_one_gets_the_next() -> None:
    frames = np.stack(
        [
            square((20, 20), {7: (2, 10, 2, 10)}),
            square((20, 20), {3: (3, 11, 3, 11), 9: (14, 18, 14, 18)}),
            square((20, 20), {1: (14, 18, 15, 19), 2: (4, 12, 4, 12)}),
        ]
    )
    linked = link_planes(frames)
    assert linked[0, 5, 5] == linked[1, 5, 5] == linked[2, 5, 5] == 1
    assert linked[1, 15, 16] == linked[2, 15, 16] == 2
    np.testing.assert_array_equal(linked > 0, frames > 0)


def test_a_dividing_object_hands_its_number_to_one_daughter_only() -> None:
    mother = square((12, 24), {1: (2, 10, 2, 22)})
    daughters = square((12, 24), {1: (2, 10, 2, 11), 2: (2, 10, 12, 22)})
    linked = link_planes(np.stack([mother, daughters]))
    assert sorted(np.unique(linked[1])) == [0, 1, 2]
    assert linked[1, 5, 20] == 1  # the larger daughter overlaps more


def test_an_object_that_leaves_does_not_come_back_under_its_number() -> None:
    here, empty = square((8, 8), {5: (1, 6, 1, 6)}), np.zeros((8, 8), dtype=np.int32)
    linked = link_planes(np.stack([here, empty, here]))
    assert [int(plane.max()) for plane in linked] == [1, 0, 2]


def test_the_pairing_has_the_largest_total_overlap() -> None:
    """Greedy pairing would take the single best pair and leave the other two objects alone."""
    old = np.zeros((1, 30), dtype=np.int32)
    old[0, 0:10], old[0, 10:20] = 1, 2
    new = np.zeros((1, 30), dtype=np.int32)
    new[0, 4:14], new[0, 14:21] = 1, 2
    linker = PlaneLinker(overlap=0.2)
    linker.add(old)
    linked = linker.add(new)
    best = max(
        permutations((1, 2)),
        key=lambda order: sum(
            (
                np.count_nonzero((new == k + 1) & (old == number))
                / np.count_nonzero((new == k + 1) | (old == number))
            )
            for k, number in enumerate(order)
        ),
    )
    assert (linked[0, 8], linked[0, 16]) == best


def test_the_second_leading_axis_is_linked_within_each_time_point() -> None:
    plane = square((6, 6), {1: (1, 4, 1, 4)})
    stack = np.broadcast_to(plane, (2, 3, 6, 6))
    linked = link_planes(stack, axis=1)
    assert [int(linked[t].max()) for t in range(2)] == [1, 2]
    assert all(len(np.unique(linked[t])) == 2 for t in range(2))


def test_painted_background_and_planes_without_background_are_fine() -> None:
    full = np.full((4, 4), 8, dtype=np.int32)
    painted = full.copy()
    painted[0] = -1
    linked = link_planes(np.stack([full, painted]))
    assert linked[0].min() == 1
    assert (int(linked[1, 0].max()), int(linked[1, 3, 3])) == (0, 1)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.int32, (4, 6, 7), elements=st.integers(0, 3)), st.sampled_from([0.1, 0.25, 0.5, 0.9])
)
def test_linking_only_renumbers(stack: np.ndarray, overlap: float) -> None:
    linked = link_planes(stack, overlap=overlap)
    for plane, after in zip(stack, linked, strict=True):
        pairs = {(int(a), int(b)) for a, b in zip(plane.ravel(), after.ravel(), strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert all((a == 0) == (b == 0) for a, b in pairs)
    numbers = np.unique(linked[linked > 0])
    np.testing.assert_array_equal(numbers, np.arange(1, len(numbers) + 1))
    for before, after in pairwise(linked):
        for number in np.intersect1d(before[before > 0], after[after > 0]):
            one, two = before == number, after == number
            assert (one & two).sum() / (one | two).sum() >= overlap


def test_cancelling_keeps_what_is_linked() -> None:
    stack = np.ones((5, 3, 3), dtype=np.int32)
    answers = iter([False, False, True])
    linked = link_planes(stack, cancelled=lambda: next(answers))
    assert [int(p.max()) for p in linked] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(("shape", "axis"), [((4, 4), 0), ((2, 4, 4), 1), ((2, 4, 4), -1)])
def test_without_such_an_axis_one_sentence_says_so(shape: tuple[int, ...], axis: int) -> None:
    with pytest.raises(InputError, match="leading axis"):
        link_planes(np.zeros(shape, dtype=np.int32), axis=axis)


def test_bad_overlap_and_changing_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="overlap"):
        PlaneLinker(0)
    linker = PlaneLinker()
    linker.add(np.zeros((3, 3), dtype=np.int32))
    with pytest.raises(InputError, match="same shape"):
        linker.add(np.zeros((3, 4), dtype=np.int32))
