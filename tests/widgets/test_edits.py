"""Join, split and delete: right pixels, one undo step each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from napari.layers import Labels
from scipy import ndimage

from napari_unet.core.errors import AnnotationError
from napari_unet.widgets._annotation_layer import N_COLORS
from napari_unet.widgets._edits import (
    delete_objects,
    merge_objects,
    middle_of,
    neighbour_number,
    split_mask,
    split_object,
)


def two_touching_discs() -> np.ndarray:
    rows, columns = np.mgrid[:40, :60]
    left = (rows - 20) ** 2 + (columns - 20) ** 2 <= 12**2
    right = (rows - 20) ** 2 + (columns - 40) ** 2 <= 11**2
    return left | right


def arrays() -> list[Any]:
    return [
        pytest.param(lambda a: a.copy(), id="numpy"),
        pytest.param(lambda a: zarr.array(a, chunks=(1, 16, 16)), id="zarr"),
    ]


def stack() -> np.ndarray:
    labels = np.zeros((3, 40, 60), np.int32)
    labels[1, 5:10, 5:10] = 3
    labels[1, 5:10, 10:15] = 4
    labels[1, 30:35, 50:55] = -1
    labels[2, 5:10, 5:10] = 4
    return labels


@pytest.mark.parametrize("make", arrays())
@pytest.mark.parametrize(
    "edit",
    [
        lambda layer: merge_objects(layer, (1,), 3, [4]),
        lambda layer: delete_objects(layer, (1,), [4]),
        lambda layer: delete_objects(layer, (1,), [-1]),
        lambda layer: split_object(layer, (1,), 3, 7),
    ],
)
def test_each_edit_is_one_undo_step(
    make: Callable[[np.ndarray], Any], edit: Callable[[Labels], Any]
) -> None:
    """Complaint 15: every action that changes labels can be undone."""
    layer = Labels(make(stack()))
    edit(layer)
    after = np.array(layer.data)
    assert not np.array_equal(after, stack())
    assert np.array_equal(after[[0, 2]], stack()[[0, 2]])
    layer.undo()
    assert np.array_equal(np.asarray(layer.data), stack())
    layer.redo()
    assert np.array_equal(np.asarray(layer.data), after)


def test_merge_and_delete_touch_only_what_they_name() -> None:
    layer = Labels(stack())
    assert merge_objects(layer, (1,), 3, [4, 3]) == 25
    expected = stack()
    expected[1][expected[1] == 4] = 3
    assert np.array_equal(layer.data, expected)
    assert delete_objects(layer, (1,), [3]) == 50
    expected[1][expected[1] == 3] = 0
    assert np.array_equal(layer.data, expected)


def test_a_waist_is_cut_there() -> None:
    parts = split_mask(two_touching_discs())
    assert parts.max() == 2
    cut = np.nonzero(parts[20, :-1] * parts[20, 1:] == 2)[0]
    assert len(cut) == 1 and 27 <= cut[0] <= 33


def test_separate_pieces_become_objects() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[2:4, 2:4] = 5
    labels[10:20, 10:20] = 5
    labels[25:28, 2:4] = 5
    layer = Labels(labels.copy())
    assert split_object(layer, (), 5, 9) == (9, 10)
    assert (layer.data[10:20, 10:20] == 5).all()  # the largest keeps the number
    assert (layer.data[25:28, 2:4] == 9).all() and (layer.data[2:4, 2:4] == 10).all()


def three_pieces(number: int, dtype: type) -> np.ndarray:
    labels = np.zeros((30, 30), dtype)
    for top in (2, 10, 20):
        labels[top : top + 4, 2:6] = number
    return labels


def test_pieces_do_not_look_like_painted_background() -> None:
    assert split_object(Labels(three_pieces(7, np.int32)), (), 7, N_COLORS - 2) == (
        N_COLORS - 2,
        N_COLORS,
    )


def test_objects_with_the_largest_numbers_are_split() -> None:
    """Other programs number objects with all 64 bits."""
    highest = 2**64 - 2
    layer = Labels(two_touching_discs() * np.uint64(highest))
    added = split_object(layer, (), highest, highest + 1)
    assert added == (highest + 1,)
    assert set(np.unique(layer.data).tolist()) == {0, highest, highest + 1}


def test_pieces_that_the_data_type_cannot_number_are_declined() -> None:
    layer = Labels(three_pieces(254, np.uint8))
    with pytest.raises(AnnotationError, match="cannot hold the object number 256"):
        split_object(layer, (), 254, 255)
    assert np.array_equal(layer.data, three_pieces(254, np.uint8))


@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@settings(max_examples=60, deadline=None)
def test_split_gives_at_least_two_parts_of_the_same_pixels(inside: np.ndarray) -> None:
    parts = split_mask(inside)
    assert np.array_equal(parts > 0, inside)
    pieces = ndimage.label(inside, np.ones((3, 3)))[1]
    wanted = pieces if pieces != 1 or inside.sum() < 2 else 2
    assert len(np.unique(parts[parts > 0])) == wanted == parts.max()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda layer: merge_objects(layer, (0,), 3, [4]), "no object 3"),
        (lambda layer: merge_objects(layer, (1,), 3, [9]), "no object 9"),
        (lambda layer: delete_objects(layer, (1,), [9]), "no object 9"),
        (lambda layer: split_object(layer, (1,), 9, 10), "no object 9"),
        (lambda layer: split_object(layer, (1,), -1, 10), "no object -1"),
    ],
)
def test_what_is_not_there_is_said(edit: Callable[[Labels], Any], words: str) -> None:
    layer = Labels(stack())
    with pytest.raises(AnnotationError, match=words):
        edit(layer)
    assert np.array_equal(layer.data, stack())


def test_a_single_pixel_cannot_be_split() -> None:
    labels = np.zeros((5, 5), np.int32)
    labels[2, 2] = 1
    with pytest.raises(AnnotationError, match="single pixel"):
        split_object(Labels(labels), (), 1, 2)


def test_neighbours_in_number() -> None:
    plane = np.array([[-1, 0, 3], [7, 9, 9]])
    assert neighbour_number(plane, 3, 1) == 7
    assert neighbour_number(plane, 9, 1) is None
    assert neighbour_number(plane, 0, 1) == 3 == neighbour_number(plane, -1, 1)
    assert neighbour_number(plane, 7, -1) == 3
    assert neighbour_number(plane, 3, -1) is None


def test_middle() -> None:
    assert middle_of(np.array([[0, 2, 2], [0, 0, 2]]), 2) == (0.5, 1.5)
