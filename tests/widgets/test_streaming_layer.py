"""A label layer that fills tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from napari_unet.widgets._frames import Frames
from napari_unet.widgets._streaming_layer import StreamingLabels, allocate


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


@pytest.fixture
def stream(viewer: Any) -> Iterator[StreamingLabels]:
    frames = Frames()
    stream = StreamingLabels(
        viewer,
        frames,
        (3, 64, 80),
        "objects",
        placement={"scale": (2, 0.5, 0.5)},
        metadata={"a": 1},
    )
    yield stream
    stream.close()
    frames.stop()


TILE = (slice(0, 16), slice(0, 16))


def test_blocks_arrive_and_are_drawn_soon(stream: StreamingLabels, qtbot: Any) -> None:
    drawn: list[int] = []
    stream.layer.events.set_data.connect(lambda: drawn.append(1))
    for _ in range(20):
        stream.write((1,), TILE, np.full((16, 16), 7))  # the plane in the middle is shown
    qtbot.waitUntil(lambda: len(drawn) >= 1, timeout=2000)
    qtbot.wait(250)
    assert len(drawn) <= 3  # twenty blocks, not twenty redraws
    assert stream.layer.data[1, 5, 5] == 7
    assert stream.layer.data.dtype == np.uint16
    assert tuple(stream.layer.scale) == (2, 0.5, 0.5)


def test_the_layer_is_built_and_drawn_for_the_first_time_in_two_goes(
    viewer: Any, qtbot: Any
) -> None:
    """Each takes napari a tenth of a second; together they would be felt."""
    frames = Frames()
    stream = StreamingLabels(viewer, frames, (64, 80), "objects")
    assert not stream.layer.visible
    qtbot.waitUntil(lambda: stream.layer.visible, timeout=1000)
    stream.close()
    frames.stop()


def test_a_layer_that_the_user_hides_stays_hidden(stream: StreamingLabels, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: stream.layer.visible, timeout=1000)
    stream.layer.visible = False
    stream.write((1,), TILE, np.full((16, 16), 7))
    qtbot.wait(250)
    stream.finish()
    assert not stream.layer.visible


def test_a_stream_that_ends_before_the_first_frame_leaves_a_visible_layer(viewer: Any) -> None:
    for end in (StreamingLabels.finish, StreamingLabels.close):
        stream = StreamingLabels(viewer, Frames(), (64, 80), "objects")
        end(stream)
        assert stream.layer.visible
        stream.close()


def test_a_block_of_a_hidden_plane_is_kept_but_not_drawn(
    stream: StreamingLabels, viewer: Any, qtbot: Any
) -> None:
    drawn: list[int] = []
    stream.layer.events.set_data.connect(lambda: drawn.append(1))
    stream.write((2,), TILE, np.full((16, 16), 4))
    qtbot.wait(250)
    assert drawn == []
    viewer.dims.set_point(0, 4)  # world coordinates: plane 2
    stream.write((2,), TILE, np.full((16, 16), 5))
    qtbot.waitUntil(lambda: bool(drawn), timeout=2000)
    assert stream.layer.data[2, 0, 0] == 5


def test_editing_is_locked_until_the_end(stream: StreamingLabels, viewer: Any) -> None:
    assert not stream.layer.editable
    stream.layer.editable = True  # as napari does when the number of shown axes changes
    assert not stream.layer.editable
    viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2
    assert not stream.layer.editable
    stream.finish()
    assert stream.layer.editable


def test_undo_during_and_after_streaming_never_brings_old_pixels_back(
    stream: StreamingLabels,
) -> None:
    stream.write((0,), TILE, np.full((16, 16), 3))
    stream.layer.undo()
    stream.write((0,), TILE, np.full((16, 16), 8))
    stream.layer.undo()
    stream.finish()
    stream.layer.undo()
    assert (stream.layer.data[(0, *TILE)] == 8).all()
    stream.layer.selected_label = 9
    stream.layer.paint((0, 4, 4), 9)
    assert stream.layer.data[0, 4, 4] == 9
    assert stream.edited
    stream.layer.undo()
    assert (stream.layer.data[(0, *TILE)] == 8).all()


def test_numbers_beyond_16_bits_widen_the_layer(stream: StreamingLabels) -> None:
    stream.write((0,), TILE, np.full((16, 16), 60_000))
    stream.write((1,), TILE, np.full((16, 16), 70_000))
    assert stream.alive
    assert not stream.edited
    assert not stream.layer.editable
    assert stream.layer.data[0, 0, 0] == 60_000
    assert stream.layer.data[1, 0, 0] == 70_000


@pytest.mark.parametrize("harm", ["remove", "replace", "clear"])
def test_blocks_for_a_layer_that_is_gone_are_dropped(
    stream: StreamingLabels, viewer: Any, harm: str
) -> None:
    """complaint 25: the user deletes or replaces the layer while tiles arrive."""
    if harm == "remove":
        viewer.layers.remove(stream.layer)
    elif harm == "clear":
        viewer.layers.clear()
    else:
        stream.layer.data = np.zeros((3, 64, 80), dtype=np.uint8)
    assert not stream.alive
    stream.write((0,), TILE, np.full((16, 16), 3))
    stream.write_all(np.full((3, 64, 80), 3))
    stream.finish()
    assert int(np.max(stream.layer.data)) == 0


def test_renaming_and_moving_the_layer_is_harmless(stream: StreamingLabels, viewer: Any) -> None:
    stream.layer.name = "something else"
    viewer.add_image(np.zeros((64, 80)))
    viewer.layers.move(0, 2)
    stream.write((0,), TILE, np.full((16, 16), 3))
    assert stream.alive
    assert stream.layer.data[0, 0, 0] == 3


def test_an_array_larger_than_memory_allows_lives_in_a_file() -> None:
    small = allocate((10, 10), np.uint16, free=1000_000)
    large = allocate((1000, 500), np.uint16, free=1000_000)
    assert type(small) is np.ndarray
    assert isinstance(large, np.memmap)
    large[3, 4] = 7
    assert large[3, 4] == 7
    assert large.sum() == 7
