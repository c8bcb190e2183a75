"""The Train panel in a real viewer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from qtpy.QtWidgets import QMessageBox

from napari_unet.core.base_choice import ChosenBase
from napari_unet.core.model_file import list_models, load_model
from napari_unet.core.settings import AnnotationSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.size_match import SizeMatch
from napari_unet.widgets._annotation_layer import annotation_colormap
from napari_unet.widgets._training_preview import outlines
from napari_unet.widgets.dock import UNetDock
from napari_unet.widgets.train import TrainPanel

from .runs import ENDLESS, ended, train_from_scratch

QUICK = dataclasses.replace(ENDLESS, steps=12)


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
    train_from_scratch(panel, QUICK)
    yield panel
    panel.session.close()


@pytest.fixture
def done(panel: TrainPanel, qtbot: Any) -> Callable[[], None]:
    return lambda: ended(panel, qtbot)


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
    assert set(np.unique(previews[0].data)) <= {0, 1}  # outlines: the paint below stays in sight
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


def test_in_the_end_figures_and_buttons_are_in_sight(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    qtbot: Any,
) -> None:
    """On a small screen, below a long sentence."""
    viewer.add_image(cells[0], name="a long name of an image of cells " * 2)
    viewer.add_labels(cells[1])
    panel.resize(400, 600)
    panel.show()
    panel.start()
    done()
    qtbot.wait(100)
    seen = panel._after.visibleRegion().boundingRect()
    assert seen.height() == panel._after.height()


def test_stop_after_the_last_step_leaves_what_is_said_of_the_result(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
) -> None:
    """The file is still being written and the view predicted when the result is known."""
    viewer.add_image(cells[0])
    viewer.add_labels(cells[1])
    panel.session.model_changed.connect(lambda _model: panel.button.click())
    panel.start()
    done()
    assert not panel.button.running and panel.button.isEnabled()
    assert panel.status.startswith("Trained for") and "ready in the Segment tab" in panel.status


@pytest.mark.skipif("cells" not in list_models(), reason="no base model is shipped")
def test_training_longer_goes_on_from_the_model_that_was_chosen(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The choice judges each model on all painted cells: half a minute with hundreds of them."""
    choices: list[Any] = []

    def choose(*_: Any, **__: Any) -> Any:
        choices.append(load_model("cells"))
        return ChosenBase(choices[-1])

    monkeypatch.setattr("napari_unet.core.training.choose_base", choose)
    panel.expert.set_settings(dataclasses.replace(QUICK, steps=2))
    panel.base.choose("auto")
    viewer.add_image(cells[0])
    viewer.add_labels(cells[1])
    panel.start()
    done()
    panel.train_longer()
    done()
    assert panel.error == "" and "(4 steps)" in panel.status
    assert len(choices) == 1 and panel._run is not None and panel._run.base is choices[0]


def test_a_number_of_steps_can_be_trained_again(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    tmp_path: Path,
) -> None:
    viewer.add_image(cells[0])
    viewer.add_labels(cells[1])
    panel.start()
    done()
    scores = len(panel.plot.scores)
    first = panel.model
    panel.train_longer()
    done()
    assert panel.error == ""
    # What went before may have been better: its file stays, and its place in the list.
    files = {path.stem for path in (tmp_path / "models").iterdir()}
    assert panel.model is not None and files == {first.name, panel.model.name} and len(files) == 2
    assert len(panel.plot.loss) == 24
    assert len(panel.plot.scores) > scores + 1


def test_the_time_left_follows_the_budget_that_ends_first(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(panel.progress, "update", lambda _fraction, text: said.append(text))
    monkeypatch.setattr("napari_unet.widgets.train._CURVE_SECONDS", 0.0)
    viewer.add_image(cells[0])
    viewer.add_labels(cells[1])
    assert panel.seconds.value() == 3600
    panel.start()
    done()
    assert len(said) == 12 and said[-1] == "1 s left"
    assert not any("min" in text for text in said[2:])


def test_a_run_that_fails_leaves_the_model_before_to_be_saved_and_trained_longer(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
) -> None:
    image = viewer.add_image(cells[0].astype(np.float32))
    painted = viewer.add_labels(cells[1])
    panel.start()
    done()
    first, losses, figures = panel.model, list(panel.plot.loss), panel.table.text()
    image.data = np.full_like(image.data, np.nan)
    viewer.layers.selection.active = painted
    panel.start()
    done()
    assert panel.error
    assert panel.model is first and panel.table.text() == figures
    assert not panel.longer.isHidden() and not panel._after.isHidden()
    assert not panel.table.isHidden() and list(panel.plot.loss) == losses
    panel.train_longer()  # the first run, with the pixels it was started with
    done()
    assert panel.error == "" and panel.model is not first
    assert len(panel.plot.loss) == 2 * len(losses)


def test_classes_are_spoken_of_as_pixels(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(panel, "show_status", said.append)
    panel.session.annotation_settings = AnnotationSettings(task="classes", area="painted")
    viewer.add_image(cells[0])
    viewer.add_labels(np.where(cells[1] > 0, 2, 1))
    panel.start()
    done()
    assert "Learning from 10,752 pixels, some of them held back to judge the network." in said
    axis = panel.plot._plot.getPlotItem().getAxis("right")
    assert axis.labelText == "class overlap (IoU)"
    (preview,) = [layer for layer in viewer.layers if layer.name == "training preview"]
    assert np.allclose(preview.colormap.map(2), annotation_colormap().map(2))
    assert panel.model is not None
    panel.base.choose(f"trained:{panel.model.name}")
    panel.start()
    done()
    assert panel.plot._base.isVisible()  # the score of the model it started from
    panel.session.annotation_settings = AnnotationSettings(area="all")
    panel.start()
    done()
    assert axis.labelText == "cells found (AP)"


def test_what_may_spoil_training_is_said_when_it_starts(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of planes that nobody looks at, and of a mask that came from a file."""
    said: list[str] = []
    monkeypatch.setattr(panel, "show_status", said.append)
    viewer.add_image(np.stack([cells[0]] * 2))
    viewer.add_labels(np.stack([cells[1], cells[1] > 0]).astype(np.int32))
    viewer.dims.set_point(0, 0)
    panel.start()
    done()
    (started,) = [text for text in said if text.startswith("Learning from 9 painted cells")]
    assert started.endswith("⚠ Object 1 has pieces far apart: give each object its own number.")


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


@pytest.mark.parametrize(
    "make",
    [
        lambda i: (i * 65_535).astype(np.uint16),
        lambda i: i > 0.4,
        lambda i: i.astype(np.float64) * 1e-3,
        lambda i: da.from_array(i, chunks=32),
        lambda i: zarr.array(i, chunks=(32, 32)),
        lambda i: np.stack([i, i * 0.5, i * 0.2], axis=-1),
    ],
    ids=["uint16", "bool", "float64", "dask", "zarr", "RGB"],
)
def test_any_kind_of_pixels_is_learned_from(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    make: Callable[[Any], Any],
) -> None:
    image = make(cells[0] / cells[0].max())
    viewer.add_image(image, rgb=image.ndim == 3)
    viewer.add_labels(cells[1])
    panel.start()
    done()
    assert panel.error == ""
    assert panel.model is not None
    assert panel.model.net.in_channels == (3 if image.ndim == 3 else 1)


def test_of_a_multiscale_image_the_finest_level_is_learned_from(
    panel: TrainPanel, viewer: Any, cells: tuple[np.ndarray, np.ndarray], done: Callable[[], None]
) -> None:
    image, labels = cells
    viewer.add_image([image, image[::2, ::2]], multiscale=True, scale=(0.5, 0.5))
    viewer.add_labels(labels, scale=(0.5, 0.5))
    panel.start()
    done()
    assert panel.error == ""
    assert panel.model is not None


def test_an_image_with_gaps_is_declined_in_one_sentence(
    panel: TrainPanel, viewer: Any, cells: tuple[np.ndarray, np.ndarray], done: Callable[[], None]
) -> None:
    image = cells[0].astype(np.float32)
    image[3, 4] = np.nan
    viewer.add_image(image, name="gaps")
    viewer.add_labels(cells[1])
    panel.start()
    done()
    assert "NaN" in panel.error and "replace them" in panel.error
    assert not panel.button.running


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
    assert panel.plot.isHidden()  # no empty axes stay behind


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
    panel.save_model(tmp_path / "cells v1.2")  # found again by "Open a model file…"
    assert (tmp_path / "cells v1.2.safetensors").exists()
    panel.save_model(tmp_path / "no folder" / "mine")
    assert panel.error


def test_a_model_file_is_not_replaced_without_a_question(
    panel: TrainPanel,
    viewer: Any,
    cells: tuple[np.ndarray, np.ndarray],
    done: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Qt's own dialog looks for ``mine`` and lets ``mine.safetensors`` be."""
    viewer.add_image(cells[0])
    viewer.add_labels(cells[1])
    panel.start()
    done()
    file, asked = tmp_path / "mine.safetensors", []
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    dialogs = "napari_unet.widgets._save_dialog"
    chosen = [str(tmp_path / "mine")]
    monkeypatch.setattr(f"{dialogs}.QFileDialog.getSaveFileName", lambda *_: (chosen[0], ""))
    monkeypatch.setattr(
        f"{dialogs}.QMessageBox.question", lambda *words: asked.append(words[2]) or answers.pop(0)
    )
    panel.ask_where_to_save()
    assert load_model(file).name and asked == []
    file.write_text("older")
    panel.ask_where_to_save()
    assert file.read_text() == "older" and asked == ["mine.safetensors exists already. Replace it?"]
    panel.ask_where_to_save()
    assert load_model(file).name and len(asked) == 2
    chosen[0] = str(file)  # here the dialog has asked
    panel.ask_where_to_save()
    chosen[0] = ""
    panel.ask_where_to_save()
    assert len(asked) == 2 and panel.error == ""


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


def test_the_first_step_is_said_before_it_is_asked_for(
    panel: TrainPanel, viewer: Any, cells: tuple[np.ndarray, np.ndarray]
) -> None:
    assert panel.status.startswith("Open an image")
    viewer.add_image(cells[0])
    assert panel.status.startswith("Paint a few cells")
    painted = viewer.add_labels(cells[1])
    assert panel.status == ""
    panel.show_status("Trained for 60 s.")
    viewer.layers.remove(painted)
    assert panel.status == "Trained for 60 s."  # news are not replaced by a hint


def test_the_preview_of_the_weights_hears_of_the_size_that_cells_are_brought_to(
    panel: TrainPanel,
) -> None:
    panel.base.choose("scratch")
    assert panel.session.size_match == SizeMatch(14.0, 28.0)
    diameter = panel.expert._training.fields["diameter"]
    assert diameter._own_value is not None
    diameter._own_value.click()
    diameter.editor.setValue(50)
    assert panel.session.size_match == SizeMatch(14.0, 28.0, given=50)
    panel.expert.set_settings(QUICK)
    assert panel.session.size_match == SizeMatch(14.0, 28.0)


def test_outlines() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[4:12, 5:15] = 3
    labels[4:12, 15:25] = 7  # touching
    labels[16, 2] = 9
    labels[14:, 20:] = 5  # reaches the border
    once = outlines(labels, 1)
    assert set(np.unique(once)) == {0, 1}
    assert not once[labels == 0].any()
    assert once[4, 5:25].all() and once[4:12, 14:16].all()
    assert not once[5:11, 6:14].any()
    assert once[16, 2] == 1
    assert not once[15:, 21:].any()
    assert outlines(labels, 2)[5:11, 6].all()


def test_the_preview_makes_room_for_a_segmentation(
    make_napari_viewer_proxy: Any,
    cells: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_unet.widgets.train.models_folder", lambda: tmp_path)
    dock = UNetDock(make_napari_viewer_proxy())
    qtbot.addWidget(dock)
    dock.viewer.add_image(cells[0])
    dock.viewer.add_labels(cells[1])
    train: Any = dock.panel("Train")
    train_from_scratch(train, QUICK)
    train.start()
    qtbot.waitUntil(lambda: not train.running, timeout=60_000)
    assert "training preview" in dock.viewer.layers
    segment: Any = dock.panel("Segment")
    segment.start()
    qtbot.waitUntil(lambda: not segment.running, timeout=60_000)
    assert segment.error == ""
    assert "training preview" not in dock.viewer.layers
    train.start()  # and it comes again
    qtbot.waitUntil(lambda: not train.running, timeout=60_000)
    assert "training preview" in dock.viewer.layers
    dock.session.close()
