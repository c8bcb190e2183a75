"""Changes of mind while something runs: other images, other tasks, panels closed and reopened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.core.model import Model
from napari_unet.core.settings import AnnotationSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.jobs.training_job import Preview
from napari_unet.widgets._training_preview import NAME, TrainingPreview
from napari_unet.widgets.dock import UNetDock
from napari_unet.widgets.session import session_of

from .runs import ended, segment_many_tiles, stop, train_from_scratch


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    viewer = make_napari_viewer()
    image, labels = simulate_nuclei((96, 112), diameter=16, seed=1)
    viewer.add_image(image, name="cells")
    viewer.add_labels(labels, name="painted")
    return viewer


@pytest.fixture
def dock(
    viewer: Any, bright_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UNetDock]:
    monkeypatch.setattr("napari_unet.widgets.train.models_folder", lambda: tmp_path)
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    dock.session.model = bright_model
    prepare(dock)
    yield dock
    dock.session.close()


def prepare(dock: UNetDock) -> None:
    """Set both panels to runs that are slow enough to be disturbed."""
    train_from_scratch(dock.panel("Train"))
    segment_many_tiles(dock.panel("Segment"))


def train_a_little(train: Any, qtbot: Any) -> None:
    steps = len(train.plot.loss)
    qtbot.waitUntil(lambda: len(train.plot.loss) > steps + 1, timeout=60_000)


def test_a_preview_of_the_image_before_is_not_drawn_on_another(viewer: Any) -> None:
    preview = TrainingPreview(viewer, session_of(viewer).frames)
    small = viewer.add_image(np.zeros((30, 40)))
    for shape in ((3, 30, 40), (10, 10)):
        other = viewer.add_image(np.zeros(shape))
        preview.follow(other, None)
        late = preview.view(512)
        assert late is not None
        preview.follow(small, None)
        rows, columns = late.region
        labels = np.ones((rows.stop - rows.start, columns.stop - columns.start), np.int32)
        preview.show(Preview(1, late, labels))
        assert NAME not in viewer.layers
    now = preview.view(512)
    assert now is not None
    preview.show(Preview(2, now, np.ones((30, 40), np.int32)))
    assert viewer.layers[NAME].data.shape == (30, 40)
    preview.remove()


def test_other_images_may_be_looked_at_while_training(
    dock: UNetDock, viewer: Any, qtbot: Any
) -> None:
    train: Any = dock.panel("Train")
    cells = dock.session.image
    others = [
        viewer.add_image(np.stack([cells.data] * 3), name="stack"),
        viewer.add_image(np.random.default_rng(0).random((50, 60, 3)), rgb=True, name="colour"),
        None,
        cells,
    ]
    train.start()
    train_a_little(train, qtbot)
    for layer in others:
        dock.session.image = layer
        train_a_little(train, qtbot)
    stop(train, qtbot)
    assert train.model is not None


def test_the_task_may_be_changed_while_training_and_segmenting(
    dock: UNetDock, viewer: Any, qtbot: Any
) -> None:
    session = dock.session
    train: Any = dock.panel("Train")
    segment: Any = dock.panel("Segment")
    train.start()
    train_a_little(train, qtbot)
    segment.start()
    session.annotation_settings = AnnotationSettings(task="classes", area="painted")
    train_a_little(train, qtbot)
    session.annotation_settings = AnnotationSettings(task="objects", area="all")
    train_a_little(train, qtbot)
    ended(segment, qtbot)
    assert segment.error == ""
    stop(train, qtbot)
    assert train.model.task == "objects"  # what was chosen when Train was pressed


def test_the_dock_may_be_closed_while_everything_runs_and_opened_again(
    dock: UNetDock, viewer: Any, qtbot: Any
) -> None:
    session = dock.session
    weights: Any = dock.panel("Weights")
    weights.show_view("weights")
    train: Any = dock.panel("Train")
    segment: Any = dock.panel("Segment")
    train.start()
    train_a_little(train, qtbot)
    segment.start()
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not session.jobs.running("train"), timeout=60_000)
    qtbot.waitUntil(lambda: not session.jobs.running("segment"), timeout=60_000)
    session.annotation.paint((5, 5), 99)  # nobody may trip over it
    again = UNetDock(viewer)
    viewer.window.add_dock_widget(again, name="U-Net", area="right")
    assert again.session is session
    prepare(again)
    train, segment = again.panel("Train"), again.panel("Segment")
    train.start()
    train_a_little(train, qtbot)
    segment.start()
    ended(segment, qtbot)
    assert segment.error == ""
    stop(train, qtbot)
    again.panel("Weights").show_view("states")  # type: ignore[attr-defined]
    qtbot.waitUntil(lambda: not session.live.busy, timeout=20_000)
    assert again.panel("Annotate").error == ""
