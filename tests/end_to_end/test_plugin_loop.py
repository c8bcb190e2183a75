"""The whole loop in a real viewer: sample, paint, weights, train, segment, correct, export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.core.metrics import average_precision
from napari_unet.widgets.dock import UNetDock


@pytest.fixture
def dock(
    make_napari_viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UNetDock]:
    monkeypatch.setattr("napari_unet.widgets.train.models_folder", lambda: tmp_path / "models")
    viewer = make_napari_viewer()
    dock = UNetDock(viewer)
    qtbot.addWidget(dock)
    yield dock
    dock.session.close()


def paint_cell(layer: Any, mask: np.ndarray, number: int) -> None:
    """Paint one cell with strokes of a brush of one pixel, as the mouse would."""
    layer.brush_size = 1
    for y in np.flatnonzero(mask.any(axis=1)):
        for x in np.flatnonzero(mask[y]):
            layer.paint((int(y), int(x)), number, refresh=False)
    layer.refresh()


def wait(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: not panel.running, timeout=280_000)
    assert panel.error == ""


def loop(dock: UNetDock, qtbot: Any, folder: Path, seconds: int, side: int) -> dict[str, float]:
    """Go once around and return how good each segmentation was."""
    from napari_unet.samples import paint_cells, simulated_sample

    viewer, session = dock.viewer, dock.session
    sample = simulated_sample((side, side))
    truth = np.asarray(sample.labels)
    viewer.add_image(sample.image, name="nuclei", scale=(0.5, 0.5), units="um")

    annotate = dock.show_panel("Annotate")
    annotate.new_button.click()
    layer = session.annotation
    chosen = paint_cells(truth, 5)
    dock.show_panel("Weights").show_view("weights")
    for number, cell in enumerate(np.unique(chosen[chosen > 0]), start=1):
        paint_cell(layer, truth == cell, number)
    assert len(np.unique(layer.data)) == 6
    follow_weights(session.live, layer, qtbot)

    train = dock.show_panel("Train")
    train.seconds.setValue(seconds)
    train.expert.set_settings(train.expert.settings(seconds))
    train.start()
    wait(qtbot, train)
    first_model = session.model
    assert first_model is not None
    assert train.plot.loss
    assert train.plot.loss[-1][0] > 0

    segment = dock.show_panel("Segment")
    segment.form.set_part("plane")
    segment.start()
    wait(qtbot, segment)
    result = segment.run.stream.layer
    first = average_precision(truth, np.asarray(result.data), [0.5])[0]

    # Correct: one cell is painted by hand in the result, then all of it becomes annotation.
    missing = int(np.unique(truth[truth > 0])[-1])
    painted_by_hand = truth == missing
    result.data_setitem(np.nonzero(painted_by_hand), int(result.data.max()) + 1)
    before = len(np.unique(layer.data))
    segment.result.use_as_annotation()
    assert segment.error == ""
    assert len(np.unique(layer.data)) > before
    layer.undo()
    assert len(np.unique(layer.data)) == before
    layer.redo()

    dock.show_panel("Train")
    train.start()
    wait(qtbot, train)
    assert session.model is not first_model

    dock.show_panel("Segment")
    segment.start()
    wait(qtbot, segment)
    second = segment.run.stream.layer
    assert result in viewer.layers  # it was corrected by hand, so it stays

    check_export(dock, second, folder, qtbot)
    final = average_precision(truth, np.asarray(second.data), [0.5])[0]
    return {"first": float(first), "final": float(final)}


def follow_weights(live: Any, layer: Any, qtbot: Any) -> None:
    """The weight map shows what was painted: no weight far away, some on the cells."""
    qtbot.waitUntil(lambda: live.target is not None and not live.busy, timeout=60_000)
    target = live.target
    painted = np.asarray(layer.data) > 0
    weight = target.weight()
    assert (weight[painted] > 0).all()
    assert target.counts.objects == 5
    assert (weight == 0).any()


def check_export(dock: UNetDock, result: Any, folder: Path, qtbot: Any) -> None:
    from napari_unet.io.masks_tiff import read_masks

    export = dock.show_panel("Export")
    export.labels.set_layer(result)
    export.save(folder / "cells.tif")
    wait(qtbot, export)
    saved = read_masks(folder / "cells.tif")
    np.testing.assert_array_equal(saved.data, result.data)
    assert saved.grid.pixel_size == (0.5, 0.5)
    rows = (folder / "cells_measurements.csv").read_text().strip().splitlines()
    assert len(rows) == 1 + len(np.unique(result.data)) - 1


def test_the_loop_in_short(dock: UNetDock, qtbot: Any, tmp_path: Path) -> None:
    quality = loop(dock, qtbot, tmp_path, seconds=5, side=160)
    assert quality["first"] > 0.2


@pytest.mark.slow
def test_the_loop(dock: UNetDock, qtbot: Any, tmp_path: Path) -> None:
    """Ten seconds of training on five cells, then again on the corrected result."""
    quality = loop(dock, qtbot, tmp_path, seconds=10, side=384)
    assert quality["first"] > 0.5
    assert quality["final"] > quality["first"] - 0.05
