"""Outlines along pixel edges: exact for every shape, valid as polygons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.draw import polygon2mask

from napari_unet.core.errors import InputError
from napari_unet.io.outlines import fill, outlines, paint

planes = st.tuples(st.integers(1, 10), st.integers(1, 10)).flatmap(
    lambda shape: hnp.arrays(np.int32, shape, elements=st.integers(-1, 2))
)


def signed_area(ring):
    x, y = ring.T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


@settings(deadline=None, max_examples=200)
@given(planes)
def test_mask_to_outline_to_mask_is_identical(labels):
    back = np.zeros_like(labels)
    found = list(outlines(labels))
    paint(back, [(outline.label, outline.rings) for outline in found])
    np.testing.assert_array_equal(back, np.maximum(labels, 0))
    assert [outline.label for outline in found] == sorted(set(labels[labels > 0].tolist()))


@settings(deadline=None, max_examples=200)
@given(planes)
def test_polygons_are_the_4_connected_parts_with_their_holes(labels):
    for outline in outlines(labels):
        parts, count = ndimage.label(labels == outline.label)
        assert len(outline.polygons) == count
        seen = set()
        for polygon in outline.polygons:
            inside = fill(polygon.rings, labels.shape)
            (number,) = set(parts[inside].tolist())
            assert number not in seen
            seen.add(number)
            assert (inside == (parts == number)).all()
            assert signed_area(polygon.outer) > 0
            assert all(signed_area(hole) < 0 for hole in polygon.holes)


@settings(deadline=None, max_examples=200)
@given(planes)
def test_rings_are_simple(labels):
    """No ring visits a vertex twice or has a vertex on a straight line."""
    for outline in outlines(labels):
        for ring in outline.rings:
            assert len({tuple(vertex) for vertex in ring.tolist()}) == len(ring)
            step = np.roll(ring, -1, axis=0) - ring
            assert ((step == 0).sum(axis=1) == 1).all()
            assert ((step[:, 0] == 0) != (np.roll(step, 1, axis=0)[:, 0] == 0)).all()


def test_a_pixel_is_the_square_around_it():
    labels = np.zeros((4, 5), int)
    labels[1, 2] = 7
    (outline,) = outlines(labels)
    ring = outline.polygons[0].outer
    assert {tuple(vertex) for vertex in ring.tolist()} == {(2, 1), (3, 1), (3, 2), (2, 2)}


def test_corner_cases_by_hand():
    """A ring whose ends touch at a corner is closed there, and its inside is a hole."""
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    (outline,) = outlines(ring)
    (polygon,) = outline.polygons
    assert len(polygon.holes) == 1
    diagonal = np.eye(2, dtype=int)
    (outline,) = outlines(diagonal)
    assert [len(polygon.outer) for polygon in outline.polygons] == [4, 4]


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(3, 7), st.just(2)), elements=st.integers(-3, 11))
)
def test_any_polygon_is_filled_by_its_pixel_centres(points):
    # Away from the lattice by odd amounts, so that no edge runs through a pixel's centre.
    points = points + np.array([0.1370421, 0.2893617])
    inside = fill([points], (8, 9))
    # scikit-image counts pixel centres as whole numbers and takes (row, column).
    expected = polygon2mask((8, 9), points[:, ::-1] - 0.5)
    np.testing.assert_array_equal(inside, expected)


def test_painting_keeps_to_the_image_and_the_later_object_wins():
    labels = np.zeros((6, 8), np.int32, order="F")
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]])
    paint(
        labels,
        [(1, [square - 2]), (2, [square + np.array([6, 4])]), (3, [square + 1]), (4, [square * 0])],
    )
    expected = np.zeros((6, 8), np.int32)
    expected[:2, :2] = 1
    expected[4:, 6:] = 2
    expected[1:5, 1:5] = 3
    np.testing.assert_array_equal(labels, expected)
    paint(labels, [])


def test_no_objects_no_outlines():
    assert list(outlines(np.zeros((3, 4), int))) == []
    assert list(outlines(np.zeros((0, 4), int))) == []
    with pytest.raises(InputError, match="whole numbers"):
        list(outlines(np.zeros((3, 4))))
