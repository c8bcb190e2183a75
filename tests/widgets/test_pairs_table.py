"""The rows of images to learn from follow what other panels choose."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_unet.core.pairs import annotated_planes
from napari_unet.core.settings import AnnotationSettings
from napari_unet.widgets import _streaming_layer
from napari_unet.widgets._annotation_layer import new_annotation, new_boxes
from napari_unet.widgets.dock import UNetDock
from napari_unet.widgets.session import session_of


@pytest.fixture
def dock(make_napari_viewer: Any) -> UNetDock:
    viewer = make_napari_viewer()
    for name in ("B", "A"):
        viewer.add_image(np.zeros((3, 40, 50)), name=name)
    session_of(viewer).image = viewer.layers["A"]
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock, name="U-Net")
    return dock


def channels(dock: UNetDock) -> list[Any]:
    annotate: Any = dock.panel("Annotate")
    train: Any = dock.panel("Train")
    segment: Any = dock.panel("Segment")
    return [annotate.channels, train.pairs.rows[0].channels, segment.form.channels]


def chosen(dock: UNetDock) -> list[Any]:
    return [each.axis for each in channels(dock)]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_channels_chosen_in_one_panel_hold_in_all(dock: UNetDock, where: int) -> None:
    assert chosen(dock) == [None] * 3
    for axis in (0, None):
        channels(dock)[where].set_axis(axis)
        assert chosen(dock) == [axis] * 3


def test_channels_of_one_image_do_not_stay_for_the_next(dock: UNetDock) -> None:
    channels(dock)[1].set_axis(0)
    dock.session.image = dock.viewer.layers["B"]
    assert chosen(dock) == [None] * 3
    dock.session.image = dock.viewer.layers["A"]
    assert chosen(dock) == [0] * 3


def test_the_pixel_size_is_known_when_all_images_have_the_same(dock: UNetDock) -> None:
    """The model file says it, as one that was trained on the command line does."""
    train: Any = dock.panel("Train")
    assert train.pairs.pixel_size() is None
    for image in dock.viewer.layers:
        image.scale, image.units = (3, 0.2, 0.8), ("um", "nm", "nm")
    assert train.pairs.pixel_size() == (pytest.approx(0.4), "nanometer")
    row = train.pairs.add_row()
    row.image.set_layer(dock.viewer.layers["B"])
    assert train.pairs.pixel_size() == (pytest.approx(0.4), "nanometer")
    dock.viewer.layers["B"].scale = (3, 0.2, 0.9)
    assert train.pairs.pixel_size() is None


def test_without_paint_and_boxes_the_panel_says_what_to_do(dock: UNetDock) -> None:
    session, train = dock.session, dock.panel("Train")
    new_boxes(session, new_annotation(session, session.image))
    session.annotation_settings = AnnotationSettings(area="boxes")
    train.start()
    assert train.error.startswith("Nothing is painted yet; paint at least one object")
    assert not train.running


@pytest.mark.parametrize("area", ["around", "boxes"])
def test_paint_on_a_film_whose_channels_come_after_time_is_learned(
    make_napari_viewer: Any, area: Any
) -> None:
    viewer = make_napari_viewer()
    image = viewer.add_image(
        np.arange(4 * 2 * 40 * 50).reshape(4, 2, 40, 50), axis_labels=("t", "c", "y", "x")
    )
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock, name="U-Net")
    session, train = dock.session, dock.panel("Train")
    annotation = new_annotation(session, image)
    annotation.data[2, 0, 5:15, 5:15] = 1
    new_boxes(session, annotation).add(
        [[2, 0, y, x] for y, x in ((3, 3), (3, 30), (30, 30), (30, 3))]
    )
    session.annotation_settings = AnnotationSettings(area=area)
    pairs: Any = train.pairs
    (plane,) = annotated_planes(pairs.pairs())
    np.testing.assert_array_equal(plane.plane.read(0, 40, 0, 50), image.data[2])
    np.testing.assert_array_equal(plane.labels, annotation.data[2, 0])
    assert area == "around" or plane.boxes.tolist() == [[3, 3, 31, 31]]


@pytest.mark.parametrize("kind", ["numpy", "zarr", "dask"])
def test_what_is_painted_on_a_stack_larger_than_memory_is_copied_into_a_file(
    dock: UNetDock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    painted = np.zeros((3, 40, 50), np.int16)
    painted[1, 5:15, 5:15] = 1
    make = {"numpy": np.array, "zarr": zarr.array, "dask": da.from_array}[kind]
    dock.session.annotation = dock.viewer.add_labels(make(painted))
    monkeypatch.setattr(_streaming_layer, "MEMORY_SHARE", 0)
    pairs: Any = dock.panel("Train").pairs
    (pair,) = pairs.pairs()
    assert isinstance(pair.labels, np.memmap)
    np.testing.assert_array_equal(pair.labels, painted)


def test_other_data_in_the_image_is_noticed_by_all_panels(dock: UNetDock) -> None:
    annotate: Any = dock.panel("Annotate")
    segment: Any = dock.panel("Segment")
    image = dock.session.image
    annotate.make_annotation()
    assert segment.form.where.itemText(2) == "all 3 planes" and annotate.error == ""
    image.data = np.zeros((7, 20, 30))
    assert segment.form.where.itemText(2) == "all 7 planes"
    assert "press New" in annotate.error
    dock.session.image = dock.viewer.layers["B"]
    seen: list[Any] = []
    dock.session.image_changed.connect(seen.append)
    image.data = np.zeros((3, 40, 50))
    assert not seen  # it is not worked on any more
