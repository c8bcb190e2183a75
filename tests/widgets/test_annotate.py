"""The Annotate panel on every kind of layer: new layers fit, tools do what they say, undo works."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from qtpy.QtCore import Qt

from napari_unet.core.settings import AnnotationSettings
from napari_unet.widgets._accept import accept_objects
from napari_unet.widgets._annotation_layer import (
    BACKGROUND_COLOR,
    N_COLORS,
    annotation_colormap,
    new_annotation,
    next_free,
    result_colormap,
    set_channel_axis,
)
from napari_unet.widgets._label_plane import plane_index
from napari_unet.widgets.annotate import AnnotatePanel
from napari_unet.widgets.session import Session, same_layer

Settled = Callable[[Session], None]
RANDOM = np.random.default_rng(0)


@pytest.fixture
def panel(viewer: Any) -> AnnotatePanel:
    panel = AnnotatePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Annotate")
    panel.make_annotation()
    return panel


def images() -> dict[str, tuple[Any, dict[str, Any], tuple[int, ...]]]:
    """Return pixels, options of the layer, and the shape an annotation must have."""
    gray = RANDOM.random((40, 50))
    stack = RANDOM.random((3, 40, 50))
    calibrated = {"scale": (0.5, 0.25), "translate": (3, 4), "units": ("um", "um")}
    plane, planes = (40, 50), (3, 40, 50)
    return {
        "float": (gray.astype(np.float32), {}, plane),
        "bool": (gray > 0.5, {}, plane),
        "uint16": ((gray * 65535).astype(np.uint16), {}, plane),
        "uint8": ((gray * 255).astype(np.uint8), {}, plane),
        "with nan": (np.where(gray > 0.9, np.nan, gray), {}, plane),
        "rgb": (RANDOM.random((40, 50, 3)), {"rgb": True}, plane),
        "rgba": (RANDOM.random((40, 50, 4)), {"rgb": True}, plane),
        "scaled and translated": (gray, calibrated, plane),
        "multiscale": ([gray, gray[::2, ::2]], {"multiscale": True}, plane),
        "channels by label": (stack, {"axis_labels": ("c", "y", "x")}, plane),
        "rgb stack": (RANDOM.random((5, 40, 50, 3)), {"rgb": True}, (5, 40, 50)),
        "3-d or time": (stack, {}, planes),
        "dask": (da.from_array(stack, chunks=(1, 20, 20)), {}, planes),
        "zarr": (zarr.array(stack, chunks=(1, 20, 20)), {}, planes),
        "time and 3-d": (RANDOM.random((2, 3, 40, 50)), {}, (2, 3, 40, 50)),
    }


def test_a_new_annotation_lies_on_any_image(make_napari_viewer: Any, settled: Settled) -> None:
    """Complaint 19: scale, translation and units are taken over."""
    viewer = make_napari_viewer()
    panel = AnnotatePanel(viewer)
    for kind, (data, options, shape) in images().items():
        viewer.layers.clear()
        image = viewer.add_image(data, contrast_limits=(0, 1), name=kind, **options)
        panel.make_annotation()
        layer = panel.session.annotation
        assert layer.data.shape == shape, kind
        assert layer.data.dtype == np.int32, kind
        dropped = image.ndim - layer.ndim
        assert np.allclose(layer.scale, image.scale[dropped:]), kind
        assert np.allclose(layer.translate, image.translate[dropped:]), kind
        assert layer.units == image.units[dropped:], kind
        assert layer.axis_labels == image.axis_labels[dropped:], kind
        assert panel.error == "" and layer.mode == "paint", kind
        here = plane_index(viewer, layer)
        assert len(here) == len(shape) - 2, kind
        world = layer.data_to_world((*here, 20, 30))
        expected = image.data_to_world((0,) * dropped + (*here, 20, 30))
        assert np.allclose(world, expected[dropped:]), kind
        layer.paint((*here, 20, 30), 1)
        settled(panel.session)
        assert panel.legend.headline.startswith("1 object"), kind


def test_a_chosen_channel_axis_is_left_out(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    image = viewer.add_image(RANDOM.random((2, 40, 50)), scale=(9, 2, 3))
    panel = AnnotatePanel(viewer)
    assert not panel.channels.isHidden()
    panel.channels.set_axis(0)
    panel.make_annotation()
    assert panel.session.annotation.data.shape == (40, 50)
    assert np.allclose(panel.session.annotation.scale, (2, 3))
    set_channel_axis(image, None)
    assert new_annotation(panel.session, image).data.shape == (2, 40, 50)


def test_an_annotation_follows_time_where_channels_come_after_it(make_napari_viewer: Any) -> None:
    """napari matches axes from the last one backwards: planes would follow the channels' slider."""
    viewer = make_napari_viewer()
    viewer.add_image(
        RANDOM.random((4, 3, 40, 50)), scale=(5, 2, 1, 1), axis_labels=("t", "c", "y", "x")
    )
    panel = AnnotatePanel(viewer)
    panel.make_annotation()
    layer = panel.session.annotation
    assert panel.error == ""
    assert layer.data.shape == (4, 1, 40, 50)
    assert viewer.dims.nsteps[:2] == (4, 3)
    for time, channel in np.ndindex(4, 3):
        viewer.dims.current_step = (time, channel, 0, 0)
        assert plane_index(viewer, layer) == (time, 0)
    panel.channels.set_axis(None)
    panel.make_annotation()
    assert panel.session.annotation.data.shape == (4, 3, 40, 50) and panel.error == ""


def test_going_to_an_object_leaves_the_slider_of_the_channels(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(RANDOM.random((4, 3, 40, 50)), axis_labels=("t", "c", "y", "x"))
    panel = AnnotatePanel(viewer)
    panel.make_annotation()
    panel.session.annotation.data[2, 0, 5:9, 5:9] = 1
    viewer.dims.current_step = (0, 2, 0, 0)
    panel.tools.jump(1)
    assert viewer.dims.current_step[:2] == (2, 2)


def test_labels_of_a_film_are_laid_over_its_channels_by_a_copy(make_napari_viewer: Any) -> None:
    """Masks that were exported and come back have no axis for the channels."""
    viewer = make_napari_viewer()
    viewer.add_image(RANDOM.random((4, 3, 40, 50)), axis_labels=("t", "c", "y", "x"))
    masks = RANDOM.integers(0, 5, (4, 40, 50))
    panel = AnnotatePanel(viewer)
    panel.session.annotation = viewer.add_labels(masks)
    assert "press Copy" in panel.error
    panel.copy_annotation()
    layer = panel.session.annotation
    assert panel.error == ""
    np.testing.assert_array_equal(layer.data[:, 0], masks)
    viewer.dims.current_step = (3, 0, 0, 0)
    assert plane_index(viewer, layer) == (3, 0)


def test_nothing_to_annotate_is_said(make_napari_viewer: Any) -> None:
    panel = AnnotatePanel(make_napari_viewer())
    assert "Open an image" in panel.status and not panel.new_button.isEnabled()
    panel.make_annotation()
    assert panel.error == "Open an image first, then press New."
    panel.tools.new_object()
    assert panel.error.startswith("Choose an annotation layer")
    panel.draw_boxes()
    panel.copy_annotation()
    assert panel.error.startswith("Choose an annotation layer")


def test_a_double_click_on_new_makes_one_layer(panel: AnnotatePanel) -> None:
    before = len(panel.viewer.layers)
    panel.new_button.click()
    panel.new_button.click()
    assert len(panel.viewer.layers) == before + 1


def test_the_next_step_follows_what_is_painted(viewer: Any, settled: Settled, qtbot: Any) -> None:
    panel = AnnotatePanel(viewer)
    qtbot.addWidget(panel)
    session = panel.session
    assert "Press New" in panel.status
    panel.make_annotation()
    settled(session)
    assert panel.status.startswith("Paint a few objects")
    for number in range(1, 4):
        assert "Train" not in panel.status
        panel.paint_box.new_button.click()
        assert panel.status == f"Paint object {number}."
        session.annotation.paint((8, 20 * number), number)
        settled(session)
    assert "Train tab" in panel.status
    panel.paint_box.use("delete")
    panel.tools.apply(session.annotation, 3)
    settled(session)
    assert panel.status.startswith("Object 3")  # what was done stays in sight
    session.close()


def test_next_free_object(panel: AnnotatePanel) -> None:
    layer = panel.session.annotation
    layer.paint((10, 10), 1)
    panel.paint_box.new_button.click()
    assert layer.selected_label == 2 and layer.mode == "paint"
    layer.paint((30, 30), 41)
    panel.tools.new_object()
    assert layer.selected_label == 42
    layer.data[0, 0] = 90  # not painted: nobody was told
    panel.tools.new_object()
    assert layer.selected_label == 91
    assert panel.status == "Paint object 91."


def test_free_numbers_count_over_all_planes(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((3, 40, 50)))
    panel = AnnotatePanel(viewer)
    panel.make_annotation()
    panel.session.annotation.data[2, 5, 5] = 17
    viewer.dims.set_current_step(0, 0)
    assert panel.tools.free_number() == 18


def test_free_numbers_know_copies_and_new_data_in_planes_out_of_sight(
    make_napari_viewer: Any,
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((3, 40, 50)))
    panel = AnnotatePanel(viewer)
    panel.make_annotation()
    layer = panel.session.annotation
    found = np.zeros((3, 40, 50), np.uint16)
    found[2, 5:9, 5:9] = 1
    viewer.dims.set_current_step(0, 0)
    assert panel.tools.free_number() == 1
    accept_objects(viewer.add_labels(found), layer, [(2,)])
    assert panel.tools.free_number() == 2
    layer.data = found.astype(np.int32) * 17
    assert panel.tools.free_number() == 18


def test_a_number_that_looks_like_background_is_skipped() -> None:
    colormap = annotation_colormap()
    assert np.allclose(colormap.map(-1), BACKGROUND_COLOR)
    for highest in range(600):
        number = next_free(highest)
        assert number > highest
        assert not np.allclose(colormap.map(number), BACKGROUND_COLOR)
    assert next_free(N_COLORS - 2) == N_COLORS
    assert next_free(-1) == 1


def test_results_are_bright_and_classes_keep_the_colour_they_are_painted_in() -> None:
    """Some of napari's own colours are as dark as the background of a fluorescence image."""
    result, annotation = result_colormap(), annotation_colormap()
    for number in range(1, 600):
        color = result.map(number)
        assert max(color[:3]) > 0.75 and not np.allclose(color, BACKGROUND_COLOR)
        if next_free(number - 1) == number:
            assert np.allclose(color, annotation.map(number))


def test_tools_follow_the_layer_and_the_layer_follows_the_tools(panel: AnnotatePanel) -> None:
    layer, box = panel.session.annotation, panel.paint_box
    assert box.tool == "brush"
    layer.selected_label = 5
    box.buttons["background"].click()
    assert layer.selected_label == -1 and layer.mode == "paint" and box.tool == "background"
    assert box.buttons["background"].isChecked() and not box.buttons["brush"].isChecked()
    box.buttons["erase"].click()
    assert layer.mode == "erase"
    box.buttons["brush"].click()
    assert layer.selected_label == 5 and layer.mode == "paint"
    layer.mode = "pan_zoom"
    assert box.buttons["move"].isChecked()
    layer.mode = "fill"
    assert box.tool == ""
    box.number.setValue(8)
    assert layer.selected_label == 8
    layer.brush_size = 33
    assert box.brush_size.value() == 33
    box.brush_size.setValue(7)
    assert layer.brush_size == 7
    box.preserve.setChecked(True)
    assert layer.preserve_labels


def test_background_and_undo_buttons(panel: AnnotatePanel) -> None:
    layer = panel.session.annotation
    panel.paint_box.use("background")
    layer.paint((10, 10), layer.selected_label)
    assert (layer.data == -1).any()
    panel.paint_box.undo_button.click()
    assert not layer.data.any()
    panel.paint_box.redo_button.click()
    assert (layer.data == -1).any()


def test_picking_by_click_joins_splits_and_deletes(panel: AnnotatePanel) -> None:
    """Complaint 3: merged and torn cells are corrected in the panel."""
    layer, tools = panel.session.annotation, panel.tools
    layer.data_setitem((np.arange(5), np.arange(5)), 1)
    layer.data_setitem((np.arange(20, 25), np.arange(20, 25)), 2)
    before = layer.data.copy()
    panel.paint_box.buttons["join"].click()
    assert tools.picking == "join" and layer.mode == "pan_zoom"
    tools.apply(layer, 2)
    tools.apply(layer, 1)
    assert set(np.unique(layer.data)) == {0, 2}
    panel.paint_box.buttons["split"].click()
    tools.apply(layer, 2)
    assert len(np.unique(layer.data)) == 3
    panel.paint_box.buttons["delete"].click()
    tools.apply(layer, 2)
    tools.apply(layer, 0)
    assert panel.error == "There is no object under the mouse pointer."
    for _ in range(3):
        layer.undo()
    assert np.array_equal(layer.data, before)
    layer.mode = "paint"
    assert tools.picking == "" and not panel.paint_box.buttons["delete"].isChecked()
    assert layer.mouse_drag_callbacks.count(tools._on_click) == 0


def test_a_real_click_picks_and_a_drag_does_not(panel: AnnotatePanel) -> None:
    layer = panel.session.annotation
    layer.data_setitem((np.array([5, 6]), np.array([5, 6])), 4)
    panel.tools.pick("delete")

    class Mouse:
        position = (5.0, 5.0)
        pos = (100, 100)
        type = "mouse_press"
        view_direction = None
        dims_displayed = (0, 1)

    drag = Mouse()
    steps = panel.tools._on_click(layer, drag)
    next(steps)
    drag.type, drag.pos = "mouse_move", (150, 100)
    next(steps)
    drag.type = "mouse_release"
    assert list(steps) == [] and layer.data.any()
    click = Mouse()
    steps = panel.tools._on_click(layer, click)
    next(steps)
    click.type = "mouse_release"
    assert list(steps) == [] and not layer.data.any()


def test_tools_under_the_pointer(panel: AnnotatePanel) -> None:
    layer, viewer = panel.session.annotation, panel.viewer
    layer.data_setitem((np.array([5, 6]), np.array([5, 6])), 4)
    layer.data_setitem((np.array([15, 16]), np.array([15, 16])), 6)
    layer.selected_label = 4
    viewer.cursor.position = (15, 15)
    panel.tools.join_under_pointer()
    assert set(np.unique(layer.data)) == {0, 4}
    panel.tools.join_under_pointer()
    assert "already is object 4" in panel.error
    panel.tools.split_under_pointer()
    assert set(np.unique(layer.data)) == {0, 4, 5} and panel.error == ""
    panel.tools.delete_under_pointer()
    assert len(np.unique(layer.data)) == 2
    viewer.cursor.position = (500, 500)
    panel.tools.delete_under_pointer()
    assert "no object" in panel.error


def test_jumping_goes_through_all_planes(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((3, 40, 50)), scale=(1, 2, 2))
    panel = AnnotatePanel(viewer)
    panel.make_annotation()
    layer = panel.session.annotation
    panel.tools.jump(1)
    assert "nothing is painted" in panel.error
    layer.data[0, 5, 5], layer.data[0, 30, 40], layer.data[2, 10, 20] = 1, 2, 3
    viewer.dims.set_current_step(0, 0)
    layer.selected_label = -1
    visited = []
    for step in (1, 1, 1, 1, -1, -1):
        panel.tools.jump(step)
        visited.append((int(layer.selected_label), viewer.dims.current_step[0]))
    assert visited == [(1, 0), (2, 0), (3, 2), (1, 0), (3, 2), (2, 0)]
    assert tuple(viewer.scene.camera.center[1:]) == (60.0, 80.0)


def test_keys_are_bound_and_given_back(viewer: Any) -> None:
    def mine(_viewer: Any) -> None:
        pass

    viewer.bind_key("N", mine)
    before = dict(viewer.keymap)
    panel = AnnotatePanel(viewer)
    bound = {str(key): action for key, action in viewer.keymap.items()}
    assert {"N", "G", "J", "S", "Delete", ",", "."} <= set(bound)
    panel.make_annotation()
    panel.session.annotation.paint((9, 9), 1)
    bound["N"](viewer)
    assert panel.session.annotation.selected_label == 2
    bound["G"](viewer)
    assert panel.session.annotation.selected_label == -1
    viewer.window.add_dock_widget(panel, name="Annotate")
    viewer.window.remove_dock_widget(panel)
    assert dict(viewer.keymap) == before


@pytest.mark.parametrize("first_goes", [True, False])
def test_keys_of_two_panels_are_given_back_in_any_order(
    viewer: Any, qtbot: Any, first_goes: bool
) -> None:
    def mine(_viewer: Any) -> None:
        pass

    viewer.bind_key("N", mine)
    before = dict(viewer.keymap)
    panels = [AnnotatePanel(viewer), AnnotatePanel(viewer)]
    panels[1].make_annotation()
    panels[1].session.annotation.paint((9, 9), 1)
    panels[not first_goes].dismiss()
    qtbot.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key.Key_N)
    assert panels[1].session.annotation.selected_label == 2
    assert "2" in panels[first_goes].status and "2" not in panels[not first_goes].status
    panels[first_goes].dismiss()
    assert dict(viewer.keymap) == before
    viewer.bind_key("N", None)


def test_boxes(panel: AnnotatePanel, settled: Settled) -> None:
    panel.draw_boxes()
    boxes = panel.session.boxes
    assert boxes.mode == "add_rectangle" and boxes.ndim == 2
    assert panel.session.annotation_settings.area == "boxes"
    assert not panel.boxes_button.isHidden()
    settled(panel.session)
    assert "box" in panel.legend.warnings
    boxes.add_rectangles(np.array([[5, 5], [5, 30], [30, 30], [30, 5]]))
    panel.session.annotation.paint((20, 20), 1)
    settled(panel.session)
    assert panel.legend.warnings == ""
    panel.draw_boxes()
    assert panel.session.boxes is boxes


def test_each_image_has_boxes_of_its_own(panel: AnnotatePanel) -> None:
    """A box drawn on one image would make background of the unpainted cells of the other."""
    session, first = panel.session, panel.session.annotation
    panel.draw_boxes()
    boxes = session.boxes
    session.image = panel.viewer.add_image(np.zeros((64, 80)), name="other")
    panel.make_annotation()
    assert session.boxes is None
    panel.draw_boxes()
    assert session.boxes is not boxes
    others = session.boxes
    session.annotation = first
    assert session.boxes is boxes
    panel.copy_annotation()
    assert session.boxes is boxes
    session.annotation = panel.viewer.layers["other annotation"]
    assert session.boxes is others
    own = session.boxes = panel.viewer.add_shapes()
    session.annotation = panel.viewer.add_labels(np.zeros((64, 80), int))
    assert session.boxes is own


def test_boxes_turn_with_the_annotation(make_napari_viewer: Any) -> None:
    """A rectangle drawn on a turned layer is the area that counts, not a larger one around it."""
    viewer = make_napari_viewer()
    affine = np.array([[0, 1, 5], [1, 0, 7], [0, 0, 1]])
    viewer.add_image(np.zeros((40, 50)), rotate=30, shear=[0.2], scale=(2, 3), affine=affine)
    panel = AnnotatePanel(viewer)
    panel.make_annotation()
    panel.draw_boxes()
    boxes, layer = panel.session.boxes, panel.session.annotation
    np.testing.assert_allclose(boxes.data_to_world((5, 7)), layer.data_to_world((5, 7)))


@pytest.mark.parametrize(
    "tool", ["brush", "background", "erase", "join", "split", "delete", "next"]
)
def test_a_tool_shows_the_layer_it_works_on(panel: AnnotatePanel, tool: str) -> None:
    """napari takes the brush away from a layer that is hidden."""
    layer = panel.session.annotation
    layer.mode = "pan_zoom"
    layer.visible = False
    if tool == "next":
        panel.paint_box.new_button.click()
    else:
        panel.paint_box.buttons[tool].click()
    assert layer.visible
    assert panel.paint_box.tool == ("brush" if tool == "next" else tool)


def test_drawing_boxes_shows_them(panel: AnnotatePanel) -> None:
    panel.draw_boxes()
    boxes = panel.session.boxes
    boxes.visible = False
    panel.draw_boxes()
    assert boxes.visible and boxes.mode == "add_rectangle"


def test_existing_labels_are_accepted_as_they_are(viewer: Any, settled: Settled) -> None:
    labels = np.zeros((64, 80), np.uint8)
    labels[5:15, 5:15] = 255
    layer = viewer.add_labels(labels, name="mine")
    colormap = layer.colormap
    panel = AnnotatePanel(viewer)
    settled(panel.session)
    assert panel.session.annotation is layer and layer.colormap is colormap
    assert panel.legend.headline.startswith("1 object")
    assert panel.error == ""
    panel.tools.new_object()
    assert "uint8" in panel.error and "256" in panel.error and "int32" in panel.error
    panel.paint_box.use("background")
    assert "uint8" in panel.error and "-1" in panel.error
    panel.copy_annotation()
    copy = panel.session.annotation
    assert copy is not layer and copy.data.dtype == np.int32 and not layer.visible
    assert np.array_equal(copy.data, labels)
    panel.tools.new_object()
    assert copy.selected_label == 256 and panel.error == ""


def test_numbers_beyond_the_data_type_are_declined(viewer: Any) -> None:
    labels = viewer.add_labels(np.ones((64, 80), np.uint8))
    panel = AnnotatePanel(viewer)
    panel.paint_box.number.setValue(300)
    assert "uint8" in panel.error and "300" in panel.error
    assert labels.selected_label == panel.paint_box.number.value() == 1
    panel.paint_box.number.setValue(7)
    assert panel.error == "" and labels.selected_label == 7


def test_numbers_beyond_32_bits_can_be_picked_and_copied(viewer: Any) -> None:
    labels = np.zeros((64, 80), np.uint64)
    labels[5:15, 5:15] = 5
    labels[30:40, 5:15] = 2**32 + 5
    layer = viewer.add_labels(labels)
    panel = AnnotatePanel(viewer)
    layer.selected_label = 2**32 + 5
    assert layer.selected_label == 2**32 + 5
    panel.copy_annotation()
    assert np.array_equal(panel.session.annotation.data, labels)
    labels[0, 0] = 2**64 - 1
    panel.session.annotation = layer
    panel.copy_annotation()
    assert "too large" in panel.error and panel.session.annotation is layer


def test_a_click_on_multiscale_labels_says_what_to_do(viewer: Any) -> None:
    labels = np.ones((64, 80), np.int32)
    layer = viewer.add_labels([labels, labels[::2, ::2]], multiscale=True)
    panel = AnnotatePanel(viewer)
    panel.session.annotation = layer
    panel.tools.pick("delete")
    click = SimpleNamespace(
        position=(5.0, 5.0),
        pos=(9, 9),
        type="mouse_press",
        view_direction=None,
        dims_displayed=(0, 1),
    )
    steps = panel.tools._on_click(layer, click)
    next(steps)
    click.type = "mouse_release"
    assert list(steps) == [] and "press Copy" in panel.error


@pytest.mark.parametrize("tool", ["brush", "background", "erase", "next", "split"])
def test_every_tool_declines_multiscale_labels(viewer: Any, settled: Settled, tool: str) -> None:
    fine = np.zeros((2, 64, 80), np.int32)
    fine[:, 10:20, 10:20] = 3
    panel = AnnotatePanel(viewer)
    session = panel.session
    session.annotation = viewer.add_labels([fine, fine[:, ::2, ::2]])
    settled(session)
    if tool == "next":
        panel.tools.new_object()
    else:
        panel.paint_box.use(tool)
    if tool == "split":
        panel.tools.apply(session.annotation, 3)
    assert "cannot paint: press Copy" in panel.error


def test_dask_labels_can_be_looked_at_and_copied(viewer: Any, settled: Settled) -> None:
    labels = np.zeros((64, 80), np.int32)
    labels[5:15, 5:15] = 2
    viewer.add_labels(da.from_array(labels, chunks=20), name="lazy")
    panel = AnnotatePanel(viewer)
    settled(panel.session)
    assert panel.legend.headline.startswith("1 object")
    panel.tools.pick("delete")
    panel.tools.apply(panel.session.annotation, 2)
    assert "press Copy" in panel.error
    panel.copy_annotation()
    panel.tools.pick("delete")
    panel.tools.apply(panel.session.annotation, 2)
    assert panel.error == "" and not panel.session.annotation.data.any()


def test_labels_of_another_size_are_refused(panel: AnnotatePanel) -> None:
    panel.session.annotation = panel.viewer.add_labels(np.zeros((9, 9), int), name="small")
    assert "(9, 9)" in panel.error and "(64, 80)" in panel.error
    panel.tools.new_object()
    panel.paint_box.use("background")
    assert "(9, 9)" in panel.error  # the tools work, but the layers still do not fit
    panel.make_annotation()
    assert panel.error == ""


def test_task_classes(panel: AnnotatePanel, settled: Settled) -> None:
    def choose(name: str, value: str) -> None:
        combo = panel.form.fields[name].editor
        combo.setCurrentIndex(combo.findData(value))

    choose("task", "classes")
    settings = panel.session.annotation_settings
    assert (settings.task, settings.area) == ("classes", "painted")
    assert panel.paint_box.buttons["join"].isHidden()
    panel.session.annotation.paint((10, 10), 1)
    panel.session.annotation.paint((40, 40), 2)
    settled(panel.session)
    assert panel.legend.headline.startswith("2 classes")
    choose("area", "all")
    assert panel.session.annotation_settings.area == "all"
    choose("area", "painted")
    choose("task", "objects")
    assert panel.session.annotation_settings == AnnotationSettings()
    assert not panel.paint_box.buttons["join"].isHidden()


def test_kinds_of_material_are_not_joined_split_or_deleted_by_a_key(panel: AnnotatePanel) -> None:
    """One key would renumber, or empty, a whole kind: its button is hidden for that reason."""
    layer, viewer, tools = panel.session.annotation, panel.viewer, panel.tools
    layer.data_setitem((np.array([5, 20]), np.array([5, 20])), 1)
    layer.data_setitem((np.array([40]), np.array([40])), 2)
    before = layer.data.copy()
    tools.pick("split")
    panel.session.annotation_settings = AnnotationSettings(task="classes", area="painted")
    assert tools.picking == ""
    viewer.cursor.position = (5, 5)
    for act in (
        tools.split_under_pointer,
        tools.join_under_pointer,
        tools.delete_under_pointer,
        lambda: tools.pick("delete"),
    ):
        panel.show_error("")
        act()
        assert "separate objects" in panel.error and tools.picking == ""
        assert np.array_equal(layer.data, before)
    panel.paint_box.new_button.click()
    assert panel.status == "Paint class 3." and panel.error == ""


def test_the_form_changes_the_session(panel: AnnotatePanel) -> None:
    combo = panel.form.fields["area"].editor
    combo.setCurrentIndex(combo.findData("painted"))
    assert panel.session.annotation_settings.area == "painted"
    panel.show()
    assert panel.form.fields["margin"].isHidden() or not panel.form.fields["margin"].isVisible()


def test_layers_deleted_renamed_and_replaced(panel: AnnotatePanel, settled: Settled) -> None:
    """Complaint 25."""
    viewer, session = panel.viewer, panel.session
    layer = session.annotation
    panel.tools.pick("split")
    layer.name = "renamed"
    assert panel.annotation_chooser.currentText() == "renamed"
    viewer.layers.remove(layer)
    settled(session)
    assert panel.tools.picking == "" and not panel.paint_box.isEnabled()
    assert panel.legend.headline == "" and "Press New" in panel.status
    panel.make_annotation()
    assert panel.paint_box.isEnabled()
    session.annotation.paint((10, 10), 1)
    viewer.layers.clear()
    settled(session)
    assert session.image is None and "Open an image" in panel.status


def test_two_viewers_do_not_mix(make_napari_viewer: Any, settled: Settled) -> None:
    panels = []
    for _ in range(2):
        viewer = make_napari_viewer()
        viewer.add_image(np.zeros((40, 50)))
        panels.append(AnnotatePanel(viewer))
    one, other = panels
    one.make_annotation()
    one.session.annotation.paint((10, 10), 1)
    settled(one.session)
    assert other.session.annotation is None
    assert one.legend.headline.startswith("1 object") and other.legend.headline == ""


def test_only_public_names_of_napari_are_used(
    make_napari_viewer_proxy: Any, settled: Settled
) -> None:
    """A private name reached through the proxy warns, and warnings are errors here."""
    viewer = make_napari_viewer_proxy()
    viewer.add_image(np.zeros((3, 40, 50)))
    panel = AnnotatePanel(viewer)
    panel.make_annotation()
    layer = panel.session.annotation
    layer.paint((0, 10, 10), 1)
    panel.tools.new_object()
    panel.paint_box.use("background")
    panel.tools.jump(1)
    for tool in ("join", "split", "delete"):
        panel.tools.pick(tool)
        panel.tools.apply(layer, 1)
    panel.tools.delete_under_pointer()
    panel.draw_boxes()
    panel.session.boxes.add_rectangles(np.array([[0, 5, 5], [0, 5, 30], [0, 30, 30], [0, 30, 5]]))
    layer.undo()
    viewer.dims.set_current_step(0, 1)
    panel.copy_annotation()
    settled(panel.session)
    assert panel.session.live.target is not None


def test_tools_say_what_they_do_and_what_is_missing(panel: AnnotatePanel) -> None:
    layer = panel.session.annotation
    panel.paint_box.buttons["background"].click()
    assert "certainly not an object" in panel.status
    panel.paint_box.buttons["brush"].click()
    assert panel.status == "Paint object 1."
    layer.data_setitem((np.array([3]), np.array([3])), -1)
    for act in (panel.tools.join_under_pointer, panel.tools.split_under_pointer):
        panel.viewer.cursor.position = (30, 30)
        act()
        assert panel.error == "There is no object under the mouse pointer."
        panel.viewer.cursor.position = (3, 3)
        act()
        assert panel.error == "This is painted background, not an object."


def test_no_tool_is_shown_while_another_layer_is_active(panel: AnnotatePanel) -> None:
    brush = panel.paint_box.buttons["brush"]
    assert brush.isChecked()
    panel.viewer.layers.selection.active = panel.session.image
    assert not brush.isChecked()  # a stroke would paint nothing now
    brush.click()
    assert brush.isChecked()
    assert same_layer(panel.viewer.layers.selection.active, panel.session.annotation)
