from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.planes import Plane
from napari_unet.core.tiling import Box, TileQueue, TileRequest, cut, even_size

few = settings(max_examples=50, deadline=None)


@st.composite
def regions(draw: st.DrawFn) -> Box:
    top, left = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    return Box(top, top + draw(st.integers(1, 60)), left, left + draw(st.integers(1, 60)))


@few
@given(regions(), st.integers(1, 50), st.integers(1, 50), st.sampled_from([1, 2, 8, 16]))
def test_boxes_cover_a_region_once_on_the_grid(
    region: Box, height: int, width: int, multiple: int
) -> None:
    count = np.zeros((100, 100), int)
    for box in cut(region, (height, width), multiple):
        assert box.area > 0
        count[box.slices] += 1
        assert box.top == region.top or box.top % multiple == 0
        assert box.left == region.left or box.left % multiple == 0
        assert max(box.shape[0] - height, box.shape[1] - width) < multiple
    assert (count[region.slices] == 1).all()
    assert count.sum() == region.area


@few
@given(st.integers(1, 5000), st.integers(1, 1200), st.sampled_from([1, 8, 16]))
def test_even_sizes_leave_no_sliver(length: int, tile: int, multiple: int) -> None:
    side = even_size(length, tile, multiple)
    assert side % multiple == 0
    assert side < max(tile, multiple) + multiple
    parts = -(-length // side)
    last = length - (parts - 1) * side
    assert last > side - parts * multiple


class Identity:
    """A window function that returns its input and needs nothing around it."""

    outputs = 1

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        return start, stop

    def __call__(
        self, pixels: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]
    ) -> np.ndarray:
        return pixels


class Neighbour(Identity):
    """Returns the pixel ``(down, right)`` of each pixel: shows any mistake in offsets."""

    def __init__(self, down: int, right: int) -> None:
        self.shift = down, right
        self.reach = max(abs(down), abs(right))

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        return start - self.reach, stop + self.reach

    def __call__(
        self, pixels: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]
    ) -> np.ndarray:
        top, left = (self.reach + step for step in self.shift)
        return pixels[:, top : top + rows[1] - rows[0], left : left + columns[1] - columns[0]]


def run(function: Identity, image: np.ndarray, boxes: list[Box], factor: float = 1.0) -> np.ndarray:
    plane = Plane(image)
    result = np.full((1, *image.shape), np.nan, np.float32)
    for box in boxes:
        request = TileRequest.of(box, factor)
        pixels = request.read(plane.read_mirrored, function)
        values = function(pixels, request.rows, request.columns)
        result[:, *box.slices] = request.bring_back(values)
    return result


@few
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(1, 30),
    st.sampled_from([1, 4, 16]),
    st.randoms(use_true_random=False),
)
def test_an_identity_predictor_returns_the_image_bit_for_bit(
    height: int, width: int, tile: int, multiple: int, random: object
) -> None:
    image = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    boxes = cut(Box(0, height, 0, width), tile, multiple)
    random.shuffle(boxes)  # type: ignore[attr-defined]
    assert run(Identity(), image, boxes)[0].tobytes() == image.tobytes()


@few
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 9),
    st.integers(-40, 40),
    st.integers(-9, 9),
)
def test_tiles_see_the_mirrored_image_around_them(
    height: int, width: int, tile: int, down: int, right: int
) -> None:
    """Complaint 17: what a tile sees beyond its border is the image, mirrored beyond its own."""
    image = np.random.default_rng(0).random((height, width), dtype=np.float32)
    boxes = cut(Box(0, height, 0, width), tile)
    padded = np.pad(image, 40, mode="reflect") if min(height, width) > 1 else None
    got = run(Neighbour(down, right), image, boxes)[0]
    if padded is None:
        whole = Plane(image).read_mirrored(down, down + height, right, right + width)[0]
    else:
        whole = padded[40 + down : 40 + down + height, 40 + right : 40 + right + width]
    np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize("factor", [0.37, 1.9])
def test_scaled_tiles_join_without_difference(factor: float) -> None:
    image = np.random.default_rng(0).random((41, 29), dtype=np.float32)
    whole = run(Neighbour(1, -2), image, cut(Box(0, 41, 0, 29), 100), factor)
    tiles = run(Neighbour(1, -2), image, cut(Box(0, 41, 0, 29), 7), factor)
    np.testing.assert_array_equal(whole, tiles)


def test_queue_without_focus_keeps_reading_order() -> None:
    boxes = cut(Box(0, 30, 0, 40), 10)
    queue = TileQueue(boxes)
    order = []
    while len(queue):
        box = queue.nearest(None)
        order.append(box)
        queue.take(box)
    assert order == boxes


def test_queue_goes_outwards_from_the_focus() -> None:
    queue = TileQueue(cut(Box(0, 100, 0, 100), 20))
    distances = []
    while len(queue):
        box = queue.nearest((50.0, 50.0))
        queue.take(box)
        gap_y = max(box.top - 50, 50 - box.bottom, 0)
        gap_x = max(box.left - 50, 50 - box.right, 0)
        distances.append(gap_y**2 + gap_x**2)
    assert distances == sorted(distances)
    assert distances[0] == 0


def test_queue_takes_the_box_that_holds_the_focus() -> None:
    queue = TileQueue(cut(Box(0, 100, 0, 100), 20))
    box = queue.nearest((81.0, 3.0))
    assert box == Box(80, 100, 0, 20)


def test_parts_put_back_come_first() -> None:
    queue = TileQueue(cut(Box(0, 20, 0, 40), 20))
    first = queue.nearest(None)
    queue.take(first)
    parts = cut(first, 10)
    queue.put(parts)
    assert next(iter(queue)) != parts[0]
    for part in parts:
        assert queue.nearest(None) == part
        queue.take(part)
    assert queue.nearest(None) == Box(0, 20, 20, 40)
    assert len(queue) == 1


def test_putting_into_an_empty_queue() -> None:
    queue = TileQueue([Box(0, 4, 0, 4)])
    queue.take(Box(0, 4, 0, 4))
    assert len(queue) == 0
    queue.put([Box(0, 2, 0, 4), Box(2, 4, 0, 4)])
    assert queue.nearest(None) == Box(0, 2, 0, 4)
    assert list(queue) == [Box(0, 2, 0, 4), Box(2, 4, 0, 4)]
