"""What a layer tells about a stroke, read from both kinds of undo items that napari makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Labels

from napari_unet.widgets._painting import PaintWatcher, block_of, box_on_plane, union


def watch(layer: Labels) -> tuple[PaintWatcher, list[Any], list[int]]:
    watcher = PaintWatcher(layer)
    painted: list[Any] = []
    suspicious: list[int] = []
    watcher.painted.connect(painted.append)
    watcher.maybe_changed.connect(lambda: suspicious.append(1))
    return watcher, painted, suspicious


def covered(blocks: list[Any], changed: np.ndarray) -> bool:
    """Whether all changed pixels lie in the blocks."""
    seen = np.zeros(changed.shape, bool)
    for block in blocks:
        seen[block] = True
    return bool((seen | ~changed).all())


@pytest.mark.parametrize("shape", [(40, 50), (3, 40, 50), (2, 3, 40, 50)])
def test_blocks_cover_every_way_of_painting(qtbot: Any, shape: tuple[int, ...]) -> None:
    layer = Labels(np.zeros(shape, np.int32))
    leading = (0,) * (len(shape) - 2)
    _watcher, painted, _ = watch(layer)
    rows, columns = np.array([3, 30]), np.array([5, 44])
    index = tuple(np.zeros(2, int) for _ in leading)
    actions = (
        lambda: layer.paint((*leading, 10, 10), 1),
        lambda: layer.fill((*leading, 10, 10), 2),
        lambda: layer.paint_polygon([[*leading, 2, 2], [*leading, 2, 9], [*leading, 9, 9]], 3),
        lambda: layer.data_setitem((*index, rows, columns), 4),
    )
    for action in actions:
        before = np.array(layer.data)
        painted.clear()
        action()
        assert len(painted) == 1
        changed = layer.data != before
        assert changed.any() and covered(painted[0], changed)


def test_a_brush_stroke_reports_little_more_than_it_painted(qtbot: Any) -> None:
    layer = Labels(np.zeros((500, 500), np.int32))
    layer.brush_size = 10
    _watcher, painted, _ = watch(layer)
    layer.paint((100, 200), 1)
    (block,) = painted[0]
    assert block[0].stop - block[0].start <= 12 and block[1].stop - block[1].start <= 12


def test_undo_and_assignment_only_raise_suspicion(qtbot: Any) -> None:
    layer = Labels(np.zeros((40, 50), np.int32))
    _watcher, painted, suspicious = watch(layer)
    layer.paint((10, 10), 1)
    assert len(painted) == 1
    suspicious.clear()
    layer.undo()
    assert suspicious and len(painted) == 1
    replaced: list[int] = []
    _watcher.replaced.connect(lambda: replaced.append(1))
    layer.data = np.ones((40, 50), np.int32)
    assert replaced and len(painted) == 1


def test_nothing_is_heard_after_stopping(qtbot: Any) -> None:
    layer = Labels(np.zeros((40, 50), np.int32))
    watcher, painted, suspicious = watch(layer)
    watcher.stop()
    suspicious.clear()
    layer.paint((10, 10), 1)
    layer.undo()
    assert painted == [] and suspicious == []


def test_block_of_reads_both_kinds_of_items() -> None:
    class WithKey:
        slice_key = (2, slice(3, 5), slice(None, 9))

    assert block_of(WithKey(), 3) == (slice(2, 3), slice(3, 5), slice(0, 9))
    indices = (np.array([4, 2]), np.array([7, 7]))
    assert block_of((indices, np.zeros(2), 1), 2) == (slice(2, 5), slice(7, 8))
    assert block_of(((np.array([], int), np.array([], int)), [], 1), 2) is None
    assert block_of((indices, np.zeros(2), 1), 3) is None


def test_box_on_plane() -> None:
    block = (slice(2, 4), slice(10, 20), slice(30, None))
    assert box_on_plane(block, (1,)) is None
    assert box_on_plane(block, (4,)) is None
    box = box_on_plane(block, (3,))
    assert box is not None and box[:3] == (10, 30, 20) and box[3] > 10**9


def test_union() -> None:
    assert union([]) is None
    assert union([(5, 6, 7, 8), (1, 7, 6, 20)]) == (1, 6, 7, 20)
