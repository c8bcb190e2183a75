"""What people do to layers and viewers while the plugin works (complaint 25)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from napari_unet.core.model import Model
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.widgets.segment import SegmentPanel
from napari_unet.widgets.train import TrainPanel

from .runs import ended, segment_many_tiles, stop, train_from_scratch


def picture() -> np.ndarray:
    image = np.zeros((160, 192), np.float32)
    image[::20, ::24] = 1
    return np.maximum.reduce([np.roll(image, (y, x), (0, 1)) for y in range(8) for x in range(8)])


def segment_panel(viewer: Any, model: Model) -> SegmentPanel:
    panel = SegmentPanel(viewer)
    panel.session.model = model
    segment_many_tiles(panel)
    return panel


def train_panel(viewer: Any) -> TrainPanel:
    panel = TrainPanel(viewer)
    train_from_scratch(panel)
    return panel


@pytest.fixture(autouse=True)
def own_models_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_unet.widgets.train.models_folder", lambda: tmp_path)


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


@pytest.fixture
def panel(viewer: Any, bright_model: Model, qtbot: Any) -> Iterator[SegmentPanel]:
    panel = segment_panel(viewer, bright_model)
    qtbot.addWidget(panel)
    yield panel
    panel.session.close()


@pytest.fixture
def trainer(viewer: Any, qtbot: Any) -> Iterator[TrainPanel]:
    panel = train_panel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.session.close()


@pytest.fixture
def begun(panel: SegmentPanel, qtbot: Any) -> Callable[[], None]:
    """Start, and wait until the first objects are drawn."""

    def start() -> None:
        panel.start()
        qtbot.waitUntil(lambda: panel.run.drew_something, timeout=60_000)

    return start


@pytest.mark.parametrize("harm", ["remove result", "replace result", "clear"])
def test_without_a_result_layer_segmenting_stops_and_the_panel_is_ready(
    panel: SegmentPanel, viewer: Any, begun: Callable[[], None], qtbot: Any, harm: str
) -> None:
    viewer.add_image(picture())
    begun()
    layer = panel.run.stream.layer
    if harm == "remove result":
        viewer.layers.remove(layer)
    elif harm == "clear":
        viewer.layers.clear()
    else:
        layer.data = np.zeros((160, 192), np.uint8)
    ended(panel, qtbot)
    assert not panel.button.running
    assert panel.error == ""
    assert "removed or replaced" in panel.status
    viewer.layers.clear()
    viewer.add_image(picture())
    panel.start()  # and again, as if nothing had happened
    ended(panel, qtbot)
    assert panel.run.stream.layer.data.max() > 0


@pytest.mark.parametrize("harm", ["rename", "remove", "replace", "move"])
def test_the_image_may_change_while_it_is_segmented(
    panel: SegmentPanel, viewer: Any, begun: Callable[[], None], qtbot: Any, harm: str
) -> None:
    image = picture()
    layer = viewer.add_image(image)
    begun()
    if harm == "rename":
        layer.name = "another name"
        panel.run.stream.layer.name = "and another"
    elif harm == "remove":
        viewer.layers.remove(layer)
    elif harm == "replace":
        layer.data = np.ones((10, 10))
    else:
        layer.scale = (3, 3)
        layer.translate = (100, 100)
    ended(panel, qtbot)
    assert panel.error == ""
    np.testing.assert_array_equal(panel.run.stream.layer.data > 0, image > 0.5)


def test_the_slider_may_move_while_a_stack_is_segmented(
    panel: SegmentPanel, viewer: Any, begun: Callable[[], None], qtbot: Any
) -> None:
    stack = np.stack([picture()[:64, :64]] * 4)
    viewer.add_image(stack)
    panel.form.set_part("everything")
    begun()
    steps = iter([3, 0, 2, 1] * 1000)
    while panel.running:
        viewer.dims.set_point(0, next(steps))
        viewer.scene.camera.center = (float(next(steps)) * 10, 5)
        qtbot.wait(5)
    np.testing.assert_array_equal(panel.run.stream.layer.data > 0, stack > 0.5)
    viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2


def test_undo_while_objects_arrive_changes_nothing(
    panel: SegmentPanel, viewer: Any, begun: Callable[[], None], qtbot: Any
) -> None:
    image = picture()
    viewer.add_image(image)
    begun()
    layer = panel.run.stream.layer
    assert not layer.editable
    while panel.running:
        layer.undo()
        layer.redo()
        qtbot.wait(5)
    layer.undo()
    np.testing.assert_array_equal(layer.data > 0, image > 0.5)
    layer.paint((1, 1), 300)
    layer.undo()
    np.testing.assert_array_equal(layer.data > 0, image > 0.5)


def test_stopping_keeps_what_is_done(
    panel: SegmentPanel, viewer: Any, begun: Callable[[], None], qtbot: Any
) -> None:
    """complaint 11"""
    viewer.add_image(np.tile(picture(), (4, 4)))
    begun()
    qtbot.waitUntil(lambda: panel.run.stream.layer.data.max() > 0, timeout=60_000)
    panel.button.click()
    ended(panel, qtbot)
    assert "Stopped after" in panel.status
    assert panel.run.stream.layer.data.max() > 0
    assert panel.run.stream.layer.editable


def test_closing_the_viewer_stops_everything_soon_and_saves_what_was_learned(
    make_napari_viewer: Any, bright_model: Model, qtbot: Any, tmp_path: Any
) -> None:
    import time

    viewer = make_napari_viewer()
    image, labels = simulate_nuclei((96, 112), diameter=16, seed=1)
    viewer.add_image(np.tile(picture(), (6, 6)), name="large")
    small = viewer.add_image(image, name="small")
    painted = viewer.add_labels(labels)
    segmenter, trainer = segment_panel(viewer, bright_model), train_panel(viewer)
    viewer.window.add_dock_widget(segmenter)
    viewer.window.add_dock_widget(trainer)
    segmenter.start()
    trainer.session.image, trainer.session.annotation = small, painted
    trainer.start()
    qtbot.waitUntil(lambda: len(trainer.plot.loss) > 1, timeout=60_000)
    jobs = [segmenter.session.jobs.running("segment"), segmenter.session.jobs.running("train")]
    start = time.perf_counter()
    viewer.close()
    assert time.perf_counter() - start < 20
    assert all(job is None or job.wait(20) for job in jobs)
    assert len(list(tmp_path.glob("small_*.safetensors"))) == 1


def test_two_viewers_work_on_their_own(
    make_napari_viewer: Any, bright_model: Model, qtbot: Any
) -> None:
    panels = []
    for k in range(2):
        viewer = make_napari_viewer()
        viewer.add_image(picture() if k else np.flipud(picture()))
        panels.append(segment_panel(viewer, bright_model))
        qtbot.addWidget(panels[-1])
    assert panels[0].session is not panels[1].session
    for panel in panels:
        panel.start()
    for panel in panels:
        ended(panel, qtbot)
        layer = panel.run.stream.layer
        assert layer in panel.viewer.layers
        np.testing.assert_array_equal(layer.data > 0, panel.viewer.layers[0].data > 0.5)
        panel.session.close()


def test_two_viewers_train_on_their_own(make_napari_viewer: Any, qtbot: Any) -> None:
    panels = []
    for seed in range(2):
        viewer = make_napari_viewer()
        image, labels = simulate_nuclei((96, 112), diameter=16, seed=seed)
        viewer.add_image(image, name=f"field {seed}")
        viewer.add_labels(labels)
        panels.append(train_panel(viewer))
        qtbot.addWidget(panels[-1])
    for panel in panels:
        panel.start()
    for panel in panels:
        qtbot.waitUntil(lambda panel=panel: len(panel.plot.loss) > 1, timeout=60_000)
    stop(panels[0], qtbot)
    steps = len(panels[1].plot.loss)
    qtbot.waitUntil(lambda: len(panels[1].plot.loss) > steps, timeout=60_000)
    stop(panels[1], qtbot)
    models = [panel.model for panel in panels]
    assert None not in models and models[0] is not models[1]
    for panel in panels:
        assert panel.session.model is panel.model
        panel.session.close()


@pytest.mark.parametrize("harm", ["paint", "remove layers", "replace data", "rename", "preview"])
def test_layers_may_change_while_training(
    trainer: TrainPanel, viewer: Any, qtbot: Any, harm: str
) -> None:
    image, labels = simulate_nuclei((96, 112), diameter=16, seed=1)
    picture_layer = viewer.add_image(image)
    painted = viewer.add_labels(labels)
    trainer.start()
    qtbot.waitUntil(lambda: len(trainer.plot.loss) > 1, timeout=60_000)
    if harm == "paint":
        painted.paint((50, 50), 99)
        painted.undo()
        painted.fill((0, 0), 98)
    elif harm == "remove layers":
        viewer.layers.clear()
    elif harm == "replace data":
        painted.data = np.zeros((5, 5), np.int32)
        picture_layer.data = np.zeros((5, 5))
    elif harm == "rename":
        painted.name, picture_layer.name = "a", "b"
    else:
        for layer in [one for one in viewer.layers if one.name == "training preview"]:
            viewer.layers.remove(layer)
    steps = len(trainer.plot.loss)
    qtbot.waitUntil(lambda: len(trainer.plot.loss) > steps + 2, timeout=60_000)
    stop(trainer, qtbot)
    assert trainer.model is not None


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), MemoryError(), KeyError("x")])
def test_errors_of_a_worker_become_one_sentence(
    panel: SegmentPanel,
    viewer: Any,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """A RuntimeError in a generator worker would be swallowed by superqt."""

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise error

    viewer.add_image(picture())
    monkeypatch.setattr("napari_unet.core.segmentation.iter_segmentation", fails)
    panel.start()
    ended(panel, qtbot)
    assert panel.error.startswith("Segmentation")
    assert panel.error.endswith(".")
    assert not panel.button.running
    monkeypatch.undo()
    panel.start()
    ended(panel, qtbot)
    assert panel.error == ""
