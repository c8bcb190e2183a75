"""The Export panel, and File > Save of napari."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_unet.core.errors import InputError, OutputError
from napari_unet.io import ome_zarr
from napari_unet.io.imagej_roi import read_imagej_rois
from napari_unet.io.masks_tiff import read_masks
from napari_unet.io.measurements import read_measurements
from napari_unet.io.registry import formats
from napari_unet.widgets import _streaming_layer, writers
from napari_unet.widgets.export import ExportPanel
from napari_unet.widgets.session import METADATA_KEY


def labels() -> np.ndarray:
    data = np.zeros((30, 40), np.int32)
    data[3:9, 4:12] = 5
    data[15:20, 20:33] = 70_000
    return data


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any) -> Any:
    viewer = make_napari_viewer_proxy()
    viewer.add_image(np.full((30, 40), 7.0), name="cells", scale=(0.5, 0.5), units="um")
    viewer.add_labels(labels(), name="my objects", scale=(0.5, 0.5), units="um")
    return viewer


@pytest.fixture
def panel(viewer: Any, qtbot: Any) -> Iterator[ExportPanel]:
    panel = ExportPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.session.close()


@pytest.fixture
def done(panel: ExportPanel, qtbot: Any) -> Callable[[], None]:
    return lambda: qtbot.waitUntil(lambda: not panel.running, timeout=60_000)


def test_masks_and_measurements_come_back_calibrated(
    panel: ExportPanel, done: Callable[[], None], tmp_path: Path
) -> None:
    """complaint 19, 20"""
    panel.save(tmp_path / "mine")
    assert panel.button.running
    done()
    assert panel.error == ""
    saved = read_masks(tmp_path / "mine.tif")
    np.testing.assert_array_equal(saved.data, labels())
    assert saved.grid.pixel_size == (0.5, 0.5)
    table = read_measurements(tmp_path / "mine_measurements.csv")
    assert "mine.tif" in panel.status
    assert sorted(table["label"]) == [5, 70_000]
    assert set(table["mean_intensity"]) == {7.0}


@pytest.mark.parametrize("name", [one.name for one in formats()])
def test_every_format_of_the_registry_is_offered_and_written(
    panel: ExportPanel, done: Callable[[], None], tmp_path: Path, name: str
) -> None:
    panel.choose_format(name)
    chosen = panel.chosen_format()
    assert chosen.name == name
    target = chosen.path_for(tmp_path, "cells")
    panel.save(target)
    done()
    assert panel.error == ""
    assert target.exists()


@pytest.mark.parametrize(
    ("name", "typed", "file"),
    [
        ("tiff", "a_masks.tif", "a_masks.tif"),
        ("tiff", "a.v2", "a.v2.tif"),
        ("annotation", "a.tif", "a_annotation.tif"),
        ("annotation", "a", "a_annotation.tif"),
        ("imagej-roi", "a_rois.zip", "a_rois.zip"),
        ("coco", "a_coco.json", "a_coco.json"),
        ("geojson", "a.geojson", "a.geojson"),
    ],
)
def test_files_are_called_after_what_was_typed_and_so_is_the_table(
    panel: ExportPanel, done: Callable[[], None], tmp_path: Path, name: str, typed: str, file: str
) -> None:
    panel.choose_format(name)
    panel.save(tmp_path / typed)
    done()
    table = "a.v2_measurements.csv" if ".v2" in typed else "a_measurements.csv"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file, table])


@pytest.mark.parametrize("answer", ["No", "Yes"])
@pytest.mark.parametrize(
    ("typed", "there"),
    [("mine", "mine.tif"), ("mine.tif", "mine_measurements.csv")],
    ids=["the ending was left out", "the table beside it"],
)
def test_what_the_dialog_did_not_ask_about_is_asked_before_it_is_replaced(
    panel: ExportPanel,
    done: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    there: str,
    answer: str,
) -> None:
    (tmp_path / there).write_text("hours of work")
    asked = []

    def question(_parent: Any, _title: str, text: str) -> Any:
        asked.append(text)
        return QMessageBox.StandardButton[answer]

    monkeypatch.setattr(QMessageBox, "question", question)
    chosen = str(tmp_path / typed)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (chosen, ""))
    panel.ask_where()
    done()
    assert len(asked) == 1 and there in asked[0]
    kept = (tmp_path / there).read_bytes() == b"hours of work"
    assert kept is (answer == "No")
    panel.table.setChecked(False)
    monkeypatch.setattr(QMessageBox, "question", None)  # the dialog itself has asked
    chosen = str(tmp_path / "mine.tif")
    panel.ask_where()
    done()
    assert (tmp_path / "mine.tif").stat().st_size > 1000


def test_several_files_are_asked_about_in_one_question(
    panel: ExportPanel, done: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine.tif", "mine_measurements.csv"):
        (tmp_path / name).write_text("hours of work")
    asked = []

    def question(_parent: Any, _title: str, text: str) -> Any:
        asked.append(text)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", question)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine"), ""))
    panel.ask_where()
    done()
    assert asked == ["mine.tif and mine_measurements.csv exist already. Replace them?"]


def test_a_name_that_is_too_long_is_said_in_one_sentence(
    panel: ExportPanel, done: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = str(tmp_path / ("cells " * 50))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen, ""))
    panel.ask_where()
    done()
    assert panel.error.endswith("its name is too long; choose a shorter one.")


def test_an_unwritable_place_is_said_in_one_sentence(
    panel: ExportPanel, done: Callable[[], None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    panel.save(tmp_path / "file" / "masks.tif")
    done()
    assert panel.error
    assert "unexpected" not in panel.error
    assert not panel.button.running


def test_masks_that_are_saved_are_told_when_the_table_is_not(
    panel: ExportPanel, done: Callable[[], None], tmp_path: Path
) -> None:
    (tmp_path / "cells_measurements.csv").mkdir()
    panel.save(tmp_path / "cells.tif")
    done()
    assert "cells_measurements.csv" in panel.error
    assert panel.status == f"Saved cells.tif in {tmp_path}."


def test_stop_is_answered_at_once_and_keeps_the_files_that_are_complete(
    panel: ExportPanel, done: Callable[[], None], tmp_path: Path
) -> None:
    panel.save(tmp_path / "cells.tif")
    panel.stop()
    assert panel.status.startswith("Stopping; files that are complete stay")
    done()
    assert panel.error == ""
    assert not (tmp_path / "cells_measurements.csv").exists()
    assert panel.status.startswith(("Saved cells.tif", "Nothing was saved"))


def test_names_of_any_language(
    panel: ExportPanel, viewer: Any, done: Callable[[], None], tmp_path: Path
) -> None:
    viewer.layers["my objects"].name = "Zellkörper µ 細胞"
    folder = tmp_path / "Aufnahmen für März 日本"
    folder.mkdir()
    panel.save(folder / "Zellkörper µ 細胞.tif")
    done()
    assert panel.error == ""
    np.testing.assert_array_equal(read_masks(folder / "Zellkörper µ 細胞.tif").data, labels())
    assert sorted(read_measurements(folder / "Zellkörper µ 細胞_measurements.csv")["label"]) == [
        5,
        70_000,
    ]


def test_without_objects_one_sentence_says_so(panel: ExportPanel, tmp_path: Path) -> None:
    panel.labels.set_layer(None)
    panel.save(tmp_path / "masks.tif")
    assert "Choose" in panel.error


def test_painting_may_go_on_while_a_file_is_written(
    panel: ExportPanel, viewer: Any, done: Callable[[], None], tmp_path: Path
) -> None:
    panel.save(tmp_path / "masks.tif")
    viewer.layers["my objects"].data[:] = 1
    done()
    np.testing.assert_array_equal(read_masks(tmp_path / "masks.tif").data, labels())


def test_labels_too_large_for_memory_are_not_copied_into_it(
    panel: ExportPanel,
    done: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_streaming_layer, "MEMORY_SHARE", 0)
    written = []
    monkeypatch.setattr(ome_zarr, "write_ome_zarr", lambda _path, array, **_: written.append(array))
    panel.choose_format("ome-zarr")
    panel.table.setChecked(False)
    panel.save(tmp_path / "large.zarr")
    done()
    assert isinstance(written[0], np.memmap)
    np.testing.assert_array_equal(written[0], labels())


def test_a_result_takes_the_place_of_the_annotation_that_was_only_offered(
    panel: ExportPanel, viewer: Any
) -> None:
    assert panel.labels.layer == viewer.layers["my objects"]  # the annotation, there is no other
    result = {METADATA_KEY: {"role": "result"}}
    first = viewer.add_labels(labels(), name="cells objects", metadata=result)
    assert panel.labels.layer == first
    viewer.layers.remove(first)
    second = viewer.add_labels(labels(), name="cells objects", metadata=result)
    assert panel.labels.layer == second
    panel.labels.set_layer(viewer.layers["my objects"])  # as the user chooses
    viewer.add_labels(labels(), name="newer objects", metadata=result)
    assert panel.labels.layer == viewer.layers["my objects"]


def test_an_image_of_another_size_gives_shapes_without_intensities(
    panel: ExportPanel, viewer: Any, done: Callable[[], None], tmp_path: Path
) -> None:
    panel.image.set_layer(viewer.add_image(np.zeros((5, 5)), name="another"))
    panel.choose_format("csv")
    panel.save(tmp_path / "table.csv")
    done()
    assert panel.error == ""
    assert "mean_intensity" not in read_measurements(tmp_path / "table.csv")
    assert "Without intensities: 'another'" in panel.status
    panel.image.set_layer(viewer.layers["cells"])
    panel.save(tmp_path / "table.csv")
    done()
    assert "Without" not in panel.status


@pytest.mark.parametrize(
    ("write", "ending"),
    [
        (writers.write_tiff, ".tif"),
        (writers.write_ome_zarr, ".zarr"),
        (writers.write_imagej_rois, ".zip"),
        (writers.write_geojson, ".geojson"),
        (writers.write_coco, ".json"),
    ],
)
def test_file_save_writes_the_same(
    viewer: Any, tmp_path: Path, write: Callable[..., list[str]], ending: str
) -> None:
    data, meta, _kind = viewer.layers["my objects"].as_layer_data_tuple()
    path = tmp_path / f"saved{ending}"
    assert write(str(path), data, meta) == [str(path)]
    assert path.exists()
    if ending == ".tif":
        saved = read_masks(path)
        np.testing.assert_array_equal(saved.data, labels())
        assert saved.grid.pixel_size == (0.5, 0.5)


def test_file_save_adds_the_ending_that_was_not_typed(viewer: Any, tmp_path: Path) -> None:
    data, meta, _kind = viewer.layers["my objects"].as_layer_data_tuple()
    assert writers.write_imagej_rois(str(tmp_path / "mine"), data, meta) == [
        str(tmp_path / "mine.zip")
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.zip"]
    with pytest.raises(OutputError, match="type its whole name"):
        writers.write_imagej_rois(str(tmp_path / "mine"), data, meta)
    writers.write_imagej_rois(str(tmp_path / "mine.zip"), data, meta)


def test_file_save_writes_measurements_of_labels_and_image(viewer: Any, tmp_path: Path) -> None:
    layers = [viewer.layers["cells"], viewer.layers["my objects"]]
    path = tmp_path / "table.csv"
    writers.write_csv(str(path), [layer.as_layer_data_tuple() for layer in layers])
    assert set(read_measurements(path)["mean_intensity"]) == {7.0}


@pytest.mark.parametrize("axes", ["cyx", "tcyx"])
def test_file_save_measures_each_channel(viewer: Any, tmp_path: Path, axes: str) -> None:
    """Where channels come after time, results have an axis of length 1 in their place."""
    pixels = np.stack([np.full((30, 40), 7.0), np.full((30, 40), 9.0)])
    found = labels() if axes == "cyx" else labels()[None, None].repeat(3, 0)
    layers = [
        viewer.add_image(pixels if axes == "cyx" else pixels[None].repeat(3, 0), axis_labels=axes),
        viewer.add_labels(found),
    ]
    data = [layer.as_layer_data_tuple() for layer in layers]
    writers.write_csv(str(tmp_path / "table.csv"), data)
    table = read_measurements(tmp_path / "table.csv")
    assert set(table["mean_intensity_ch1"]) == {7.0} and set(table["mean_intensity_ch2"]) == {9.0}
    assert len(table["label"]) == (2 if axes == "cyx" else 6)
    assert "c" not in table


def test_file_save_refuses_the_intensities_of_another_image(viewer: Any, tmp_path: Path) -> None:
    layers = [viewer.add_image(np.zeros((29, 40)), name="other"), viewer.layers["my objects"]]
    data = [layer.as_layer_data_tuple() for layer in layers]
    with pytest.raises(InputError, match="'other' and the objects must have the same size"):
        writers.write_csv(str(tmp_path / "table.csv"), data)


def test_a_stack_with_names_of_its_own_is_saved_as_a_stack(
    viewer: Any, panel: ExportPanel, done: Callable[[], None], tmp_path: Path
) -> None:
    """Files know no axis "slice": regions of all planes would lie on none."""
    stack = np.zeros((3, 20, 30), int)
    for plane in range(3):
        stack[plane, 2:9, 3 + plane : 12] = plane + 1
    panel.labels.set_layer(viewer.add_labels(stack, axis_labels=("slice", "y", "x")))
    panel.choose_format("imagej-roi")
    panel.save(tmp_path / "a_rois.zip")
    done()
    assert panel.error == ""
    saved = read_imagej_rois(tmp_path / "a_rois.zip", stack.shape)
    np.testing.assert_array_equal(saved, stack)
    assert read_measurements(tmp_path / "a_measurements.csv")["z"].tolist() == [0, 1, 2]
