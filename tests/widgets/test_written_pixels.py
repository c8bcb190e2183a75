"""Pixels arrive in the array whatever napari shows of the layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_unet.widgets._written_pixels import write_pixels


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize(
    ("placement", "slider"),
    [({}, 2), ({"rotate": [10, 20, 30], "scale": (6, 1, 1)}, 24)],
    ids=["plain", "turned"],
)
@pytest.mark.parametrize("visible", [True, False], ids=["visible", "hidden"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_plane_is_written_wherever_the_slider_was(
    make_napari_viewer: Any, placement: dict[str, Any], slider: float, visible: bool, dtype: Any
) -> None:
    viewer = make_napari_viewer()
    layer = viewer.add_labels(np.zeros((4, 20, 30), dtype), **placement)
    viewer.dims.set_point(0, 0)
    layer.visible = visible
    viewer.dims.set_point(0, slider)
    block = np.zeros((4, 20, 30), bool)
    block[:, 7:12, 7:13] = True
    planes, rows, columns = np.nonzero(block)
    write_pixels(layer, (planes, rows, columns), np.full(len(rows), 3))
    np.testing.assert_array_equal(layer.data, 3 * block)
    assert layer.visible
    layer.undo()
    assert not layer.data.any()
