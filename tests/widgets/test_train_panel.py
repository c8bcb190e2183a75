"""The Train panel in a real viewer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.core.model_file import load_model
from napari_unet.core.settings import AnnotationSettings, NetworkSettings, TrainSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.widgets.train import TrainPanel

QUICK = TrainSettings(
    steps=12,
    crop=32,
    batch=2,
    device="cpu",
    network=NetworkSettings(base_channels=4, depth=2),
)


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    return simulate_nuclei((96, 112), diameter=16, seed=1)


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any) -> Any:
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(
    viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TrainPanel]:
    monkeypatch.setattr("napari_unet.widgets.train.models_folder", lambda: tmp_path / "models")
    panel = TrainPanel(viewer)
    qtbot.addWidget(panel)
    panel.expert.set_settings(QUICK)
    panel.seconds.setValue(3600)  # the number of steps decides
    panel.base.choose("scratch")
    panel.session.annotation_settings = AnnotationSettings(area="all")
    yield panel
    panel.session.close()


@pytest.fixture
def done(panel: TrainPanel, qtbot: Any) -> Callable[[], None]:
    def wait() -> None:
        qtbot.waitUntil(lambda: not panel.running, timeout=120_000)

    return wait


def test_training_delivers_a_model_a_file_and_figures(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    tmp_path: Path,
) -> None:
    viewer.add_image(cells[0], name="my cells")
    painted = viewer.add_labels(cells[1].copy(), name="painted")
    viewer.layers.selection.active = painted
    panel.start()
    assert panel.error == ""
    assert panel.button.running
    painted.data[:] = 0  # painting goes on: training works on what was there at the click
    done()
    assert panel.error == ""
    assert not panel.button.running
    assert len(panel.plot.loss) == 12
    assert panel.plot.scores
    files = list((tmp_path / "models").iterdir())
    assert len(files) == 1
    assert files[0].name.startswith("my_cells_")
    assert load_model(files[0]).name == files[0].stem
    assert panel.session.model is panel.model
    assert "ready in the Segment tab" in panel.status
    assert "Cells found" in panel.table.text()
    assert "scratch" not in panel.device.text()
    assert panel.device.text().startswith("Computes on the CPU")
    previews = [layer for layer in viewer.layers if layer.name == "training preview"]
    assert len(previews) == 1
    assert viewer.layers.selection.active == painted


def test_stop_keeps_the_best_and_going_on_works(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    qtbot: Any,
) -> None:
    """complaint 8, 11"""
    viewer.add_image(cells[0])
    viewer.add_labels(cells[1])
    panel.expert.set_settings(dataclasses.replace(QUICK, steps=5000))
    panel.start()
    qtbot.waitUntil(lambda: len(panel.plot.loss) >= 3, timeout=60_000)
    panel.button.click()
    assert not panel.button.isEnabled()
    done()
    first = panel.model
    assert first is not None
    assert "Stopped after" in panel.status
    panel.train_longer()
    assert panel.error == ""
    qtbot.waitUntil(lambda: len(panel.plot.loss) >= 6, timeout=60_000)
    panel.stop()
    done()
    assert panel.model is not first


def test_several_images_are_learned_from_together(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
) -> None:
    images = [viewer.add_image(cells[0]), viewer.add_image(cells[0][::-1])]
    labels = [viewer.add_labels(cells[1]), viewer.add_labels(cells[1][::-1])]
    row = panel.pairs.add_row()
    row.image.set_layer(images[1])
    row.annotation.set_layer(labels[1])
    pairs = panel.pairs.pairs()
    assert [pair.name for pair in pairs] == [image.name for image in images]
    panel.start()
    done()
    assert panel.error == ""
    panel.pairs.remove_row(row)
    assert len(panel.pairs.pairs()) == 1


def test_boxes_are_learned_from_plane_by_plane(
    panel: TrainPanel, viewer: Any, cells: tuple[np.ndarray, np.ndarray]
) -> None:
    panel.session.annotation_settings = AnnotationSettings(area="boxes")
    viewer.add_image(np.stack([cells[0]] * 3))
    labels = np.zeros((3, 96, 112), np.int32)
    labels[1] = cells[1]
    viewer.add_labels(labels)
    panel.start()
    assert "boxes" in panel.error
    shapes = viewer.add_shapes(
        [np.array([[1, 10, 20], [1, 10, 60], [1, 50, 60], [1, 50, 20]])], shape_type="rectangle"
    )
    panel.session.boxes = shapes
    (pair,) = panel.pairs.pairs()
    np.testing.assert_array_equal(pair.boxes, [[10, 20, 51, 61]])
    np.testing.assert_array_equal(pair.labels, cells[1])


@pytest.mark.parametrize("what", ["no image", "no annotation", "nothing painted", "other size"])
def test_what_is_missing_is_said_and_the_panel_is_ready(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    what: str,
) -> None:
    """complaint 24"""
    if what != "no image":
        viewer.add_image(cells[0])
    if what == "nothing painted":
        viewer.add_labels(np.zeros((96, 112), np.int32))
    if what == "other size":
        viewer.add_labels(np.ones((10, 10), np.int32))
    panel.start()
    done()
    assert panel.error
    assert "unexpected" not in panel.error
    assert not panel.button.running
    assert panel.model is None


def test_a_model_can_be_saved_elsewhere(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    tmp_path: Path,
) -> None:
    panel.save_model(tmp_path / "early")
    assert "Train first" in panel.error
    viewer.add_image(cells[0])
    viewer.add_labels(cells[1])
    panel.start()
    done()
    panel.save_model(tmp_path / "mine")
    assert (tmp_path / "mine.safetensors").exists()
    panel.save_model(tmp_path / "no folder" / "mine")
    assert panel.error


def test_going_on_from_an_own_model_needs_no_file(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
) -> None:
    viewer.add_image(cells[0])
    viewer.add_labels(cells[1])
    panel.start()
    done()
    first = panel.model
    assert first is not None
    panel.base.choose(f"trained:{first.name}")
    panel.start()
    done()
    assert panel.error == ""
    assert "before" in panel.table.text()
