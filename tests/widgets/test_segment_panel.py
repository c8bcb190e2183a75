"""The Segment panel in a real viewer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_unet.core.model import Model
from napari_unet.core.model_file import save_model
from napari_unet.core.segmentation import segment
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.core.unet import UNet
from napari_unet.io.masks_tiff import read_masks
from napari_unet.io.measurements import read_measurements
from napari_unet.widgets._annotation_layer import annotation_colormap
from napari_unet.widgets._label_plane import plane_index
from napari_unet.widgets.export import ExportPanel
from napari_unet.widgets.segment import SegmentPanel


def picture(shape: tuple[int, int] = (96, 128), seed: int = 0) -> np.ndarray:
    """Bright squares on black: the hand-made network finds exactly these."""
    random = np.random.default_rng(seed)
    image = np.zeros(shape, np.float32)
    for top in range(4, shape[0] - 12, 20):
        for left in range(4, shape[1] - 12, 20):
            size = int(random.integers(5, 12))
            image[top : top + size, left : left + size] = 1
    return image


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any) -> Any:
    """A viewer as napari hands it to widgets: private attributes are out of reach."""
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(viewer: Any, bright_model: Model, qtbot: Any) -> Iterator[SegmentPanel]:
    panel = SegmentPanel(viewer)
    qtbot.addWidget(panel)
    panel.session.model = bright_model
    panel.options.tiles.set_settings(TileSettings(tile=32, device="cpu"))
    yield panel
    panel.session.close()


@pytest.fixture
def done(panel: SegmentPanel, qtbot: Any) -> Callable[[], None]:
    """Wait for the end of the segmentation and of the thresholds."""

    def wait() -> None:
        qtbot.waitUntil(lambda: not panel.running and not panel.thresholds.busy, timeout=60_000)

    return wait


def test_one_click_gives_objects_over_the_image(
    panel: SegmentPanel, viewer: Any, bright_model: Model, done: Callable[[], None]
) -> None:
    """complaint 19: the result lies where the image lies."""
    image = picture()
    viewer.add_image(image, scale=(0.5, 0.5), translate=(3, 4), units="um")
    panel.form.set_part("plane")
    panel.start()
    assert panel.button.running
    done()
    assert not panel.button.running
    assert panel.error == ""
    layer = panel.run.stream.layer
    np.testing.assert_array_equal(layer.data, segment(bright_model, image))
    assert tuple(layer.scale) == (0.5, 0.5)
    assert tuple(layer.translate) == (3, 4)
    assert {str(unit) for unit in layer.units} == {"micrometer"}
    assert layer.editable
    assert "objects" in panel.status


def test_the_view_alone(panel: SegmentPanel, viewer: Any, done: Callable[[], None]) -> None:
    image = picture()
    viewer.add_image(image)
    viewer.canvas.size = (40, 60)
    viewer.scene.camera.center = (40, 60)
    viewer.scene.camera.zoom = 1
    panel.form.set_part("view")
    panel.start()
    done()
    labels = panel.run.stream.layer.data
    inside = np.zeros(labels.shape, bool)
    inside[panel.run.request.region] = True
    assert 0 < inside.sum() < inside.size / 2
    np.testing.assert_array_equal(labels > 0, (image > 0.5) & inside)


@pytest.mark.parametrize(
    "make",
    [
        lambda i: (i * 200).astype(np.uint8),
        lambda i: (i * 40_000 + 3000).astype(np.uint16),
        lambda i: i > 0.5,
        lambda i: i.astype(np.float64) * 1e-3,
        lambda i: da.from_array(i, chunks=32),
        lambda i: zarr.array(i, chunks=(32, 32)),
    ],
    ids=["uint8", "uint16", "bool", "float64", "dask", "zarr"],
)
def test_any_kind_of_pixels(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None], make: Callable[[Any], Any]
) -> None:
    image = picture()
    viewer.add_image(make(image))
    panel.start()
    done()
    assert panel.error == ""
    np.testing.assert_array_equal(panel.run.stream.layer.data > 0, image > 0.5)


def test_multiscale_is_segmented_in_full_resolution(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    image = picture((192, 256))
    viewer.add_image([image, image[::2, ::2]], multiscale=True)
    panel.form.set_part("plane")
    panel.start()
    done()
    np.testing.assert_array_equal(panel.run.stream.layer.data > 0, image > 0.5)


def test_a_stack_with_channels_is_segmented_plane_by_plane(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    stack = np.stack([picture(seed=k) for k in range(3)])[:, None]
    two = np.repeat(stack, 2, axis=1)
    layer = viewer.add_image(two, scale=(4, 1, 2, 2), axis_labels=("z", "c", "y", "x"))
    assert panel.form.channels.axis == 1
    panel.form.channels.set_axis(None)
    panel.form.set_part("everything")
    assert panel.form.where.currentText() == "all 6 planes"
    panel.start()
    done()
    labels = panel.run.stream.layer
    assert labels.data.shape == layer.data.shape
    np.testing.assert_array_equal(labels.data > 0, two > 0.5)
    assert len(np.unique(labels.data)) == 1 + sum(
        len(np.unique(labels.data[z, c])) - 1 for z in range(3) for c in range(2)
    )
    panel.form.channels.set_axis(1)
    panel.start()
    done()
    assert "channel" in panel.error  # the network takes one
    assert not panel.button.running


@pytest.mark.parametrize("shape", [(1,), (3, 1)], ids=["CYX", "TCYX"])
def test_a_single_channel_with_an_axis_of_its_own_becomes_annotation_and_has_intensities(
    panel: SegmentPanel, viewer: Any, qtbot: Any, tmp_path: Any, shape: tuple[int, ...], done: Any
) -> None:
    image = np.broadcast_to(picture(), (*shape, 96, 128)).copy()
    viewer.add_image(image, axis_labels=("t", "c", "y", "x")[-image.ndim :])
    panel.start()
    done()
    panel.result.use_as_annotation()
    assert panel.error == ""
    assert panel.session.annotation.data.shape == image.shape
    export = ExportPanel(viewer)
    qtbot.addWidget(export)
    export.choose_format("csv")
    export.save(tmp_path / "table.csv")
    qtbot.waitUntil(lambda: not export.running, timeout=60_000)
    assert set(read_measurements(tmp_path / "table.csv")["mean_intensity"]) == {1.0}


def test_many_channels_are_taken_together_where_the_axis_is_labelled(
    panel: SegmentPanel, viewer: Any
) -> None:
    viewer.add_image(np.zeros((20, 32, 32)), axis_labels=("channel", "y", "x"))
    assert panel.form.channels.axis == 0


def test_a_result_looks_like_what_is_painted_and_says_what_it_holds(
    panel: SegmentPanel, viewer: Any, bright_model: Model, done: Callable[[], None]
) -> None:
    viewer.add_image(picture(), name="picture")
    for task, name in (("objects", "picture objects"), ("classes", "picture classes")):
        panel.session.model = dataclasses.replace(bright_model, task=task)
        panel.start()
        done()
        layer = panel.run.stream.layer
        assert layer.name == name
        assert np.allclose(layer.colormap.map(1), annotation_colormap().map(1))


@pytest.mark.parametrize("axis", [1, 2], ids=["TCZYX", "TZCYX"])
def test_results_follow_the_right_sliders_wherever_the_channels_are(
    panel: SegmentPanel,
    viewer: Any,
    bright_model: Model,
    qtbot: Any,
    tmp_path: Any,
    done: Callable[[], None],
    axis: int,
) -> None:
    """napari matches axes from the last one backwards: planes would follow the channels' slider."""
    net = UNet(2, 2, base_channels=1, depth=1, padding="same", norm=None).eval()
    net.load_state_dict(_of_two_channels(bright_model))
    panel.session.model = dataclasses.replace(bright_model, net=net)
    film = np.stack([[picture((40, 48), seed=3 * t + z) for z in range(3)] for t in range(2)])
    image = viewer.add_image(
        np.stack([film, np.zeros_like(film)], axis),
        axis_labels=list("tczyx" if axis == 1 else "tzcyx"),
    )
    panel.form.set_part("everything")
    panel.options.link.setChecked(True)
    panel.start()
    done()
    assert panel.error == "" and "6 planes" in panel.status
    layer = panel.run.stream.layer
    np.testing.assert_array_equal(layer.data.squeeze(axis) > 0, film > 0.5)
    for place in np.ndindex(*image.data.shape[:3]):
        viewer.dims.current_step = (*place, 0, 0)
        plane = tuple(at for k, at in enumerate(place) if k != axis)
        np.testing.assert_array_equal(layer.data[plane_index(viewer, layer)] > 0, film[plane] > 0.5)
    export = ExportPanel(viewer)
    qtbot.addWidget(export)
    export.save(tmp_path / "film_masks.tif")
    qtbot.waitUntil(lambda: not export.running, timeout=60_000)
    assert export.error == ""
    saved = read_masks(tmp_path / "film_masks.tif")
    assert saved.axes == "TZYX"
    np.testing.assert_array_equal(saved.data, layer.data.squeeze(axis))
    table = read_measurements(tmp_path / "film_measurements.csv")
    assert set(table["mean_intensity_ch1"]) == {1.0} and set(table["mean_intensity_ch2"]) == {0.0}


def _of_two_channels(model: Model) -> dict[str, Any]:
    """Return the weights of the hand-made network for two channels, the second without effect."""
    import torch

    state = dict(model.net.state_dict())
    first = state["contracting.0.0.weight"]
    state["contracting.0.0.weight"] = torch.cat([first, torch.zeros_like(first)], 1)
    return state


def test_a_film_of_flat_images_is_linked_through_time(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    """An axis of one plane is no depth to link through."""
    viewer.add_image(np.stack([picture()] * 3)[:, None])
    panel.form.set_part("everything")
    panel.options.link.setChecked(True)
    panel.start()
    done()
    labels = panel.run.stream.layer.data
    np.testing.assert_array_equal(labels[0], labels[2])


def test_linked_objects_share_a_number_through_time(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    film = np.stack([picture()] * 3)
    viewer.add_image(film)
    panel.form.set_part("everything")
    panel.options.link.setChecked(True)
    panel.start()
    done()
    labels = panel.run.stream.layer.data
    assert labels.max() == len(np.unique(labels[0])) - 1
    np.testing.assert_array_equal(labels[0], labels[2])


def test_thresholds_rerun_only_the_instance_step(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None], qtbot: Any
) -> None:
    image = picture()
    image[37:43, 57:63] = 0.6  # between the squares, and less sure
    viewer.add_image(image)
    panel.form.set_part("plane")
    panel.start()
    done()
    assert panel.run.stream.layer.data[40, 60] > 0
    started: list[str] = []
    panel.session.job_started.connect(lambda job: started.append(job.title))
    panel.objects.set_settings(InstanceSettings(seed_threshold=0.95, mask_threshold=0.5))
    assert not panel.run.stream.layer.editable
    done()
    assert panel.run.stream.layer.data[40, 60] == 0
    assert panel.run.stream.layer.editable
    assert "Segmentation" not in started
    panel.objects.back_to_model()
    done()
    assert panel.run.stream.layer.data[40, 60] > 0
    panel.objects.set_settings(InstanceSettings(min_size=60))
    done()
    sizes = np.bincount(panel.run.stream.layer.data.ravel())[1:]
    assert sizes.min() >= 60


def test_sliders_moved_while_it_runs_hold_when_it_is_done(
    panel: SegmentPanel, viewer: Any, bright_model: Model, done: Callable[[], None]
) -> None:
    image = picture()
    viewer.add_image(image)
    wanted = InstanceSettings(min_size=60)
    panel.start()
    panel.objects.set_settings(wanted)
    done()
    expected = segment(bright_model, image, instances=wanted)
    assert 0 < expected.max() < segment(bright_model, image).max()
    np.testing.assert_array_equal(panel.run.stream.layer.data, expected)
    assert "with these thresholds" in panel.status
    panel.start()
    panel.objects.back_to_model()
    done()
    np.testing.assert_array_equal(panel.run.stream.layer.data, segment(bright_model, image))


def test_back_to_the_model_is_back_to_the_first_result(
    panel: SegmentPanel, viewer: Any, bright_model: Model, done: Callable[[], None]
) -> None:
    """The model's smallest size is meant at its own scale, and shown in pixels of the image."""
    model = dataclasses.replace(
        bright_model, diameter=16.0, instances=InstanceSettings(min_size=260)
    )
    panel.session.model = model
    viewer.add_image(np.stack([picture(), picture(seed=1)]))
    panel.form.set_part("everything")
    panel.form.set_cell_size(8.0)  # twice as large for the network
    panel.start()
    done()
    assert panel.error == ""
    first = np.array(panel.run.stream.layer.data)
    sizes = np.bincount(first.ravel())[1:]
    assert panel.objects.settings().min_size == 65  # pixels of this image
    assert 0 < sizes[sizes > 0].min() < 100
    panel.objects.form.fields["seed_threshold"].editor.setValue(0.6)
    done()
    assert panel.objects.settings().min_size == 65
    panel.objects.back_to_model()
    done()
    np.testing.assert_array_equal(panel.run.stream.layer.data, first)


def test_a_result_can_be_edited_again_when_its_sliders_are_left_behind(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    viewer.add_image(picture())
    panel.options.keep.setChecked(True)
    panel.start()
    done()
    first = panel.run.stream.layer
    panel.objects.set_settings(InstanceSettings(min_size=60))
    assert not first.editable
    panel.start()
    assert first.editable
    done()
    assert panel.run.stream.layer is not first
    assert first in viewer.layers


def test_images_segmented_in_turn_keep_one_result_each(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    """A result that was corrected stays, and a new one lies beside it."""
    images = [viewer.add_image(picture(seed=seed), name="ab"[seed]) for seed in (0, 1)]

    def segment_image(which: int) -> Any:
        panel.form.image.set_layer(images[which])
        panel.start()
        done()
        return panel.run.stream.layer

    def results() -> list[str]:
        return [layer.name for layer in viewer.layers if "objects" in layer.name]

    for which in (0, 1, 0, 1, 0):
        segment_image(which)
    assert sorted(results()) == ["a objects", "b objects"]
    viewer.layers["b objects"].data_setitem((np.array([0]), np.array([0])), 7)
    segment_image(1)
    assert sorted(results()) == ["a objects", "b objects", "b objects [1]"]
    viewer.layers.remove("a objects")
    segment_image(0)
    assert sorted(results()) == ["a objects", "b objects", "b objects [1]"]


def test_corrected_results_are_never_overwritten(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    """complaint 14, 15: neither by sliders nor by the next segmentation."""
    viewer.add_image(picture())
    panel.start()
    done()
    corrected = panel.run.stream.layer
    corrected.paint((2, 2), 200)
    kept = corrected.data.copy()
    panel.objects.set_settings(InstanceSettings(min_size=60))
    done()
    assert panel.run.stream.layer is not corrected
    np.testing.assert_array_equal(corrected.data, kept)
    panel.start()
    done()
    assert corrected in viewer.layers
    np.testing.assert_array_equal(corrected.data, kept)
    before = len(viewer.layers)
    panel.start()  # the last one was not touched: it is replaced
    done()
    assert len(viewer.layers) == before


def test_use_as_annotation_and_undo(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    image = picture()
    viewer.add_image(image)
    panel.start()
    panel.result.use_as_annotation()
    assert "Wait" in panel.error
    done()
    panel.result.use_as_annotation()
    assert panel.error == ""
    annotation = panel.session.annotation
    assert annotation.data.dtype == np.int32
    np.testing.assert_array_equal(annotation.data > 0, image > 0.5)
    # The copies are to be corrected: nothing lies over them, and the brush is theirs.
    assert not panel.run.stream.layer.visible
    assert viewer.layers.selection.active == annotation
    assert "is hidden" in panel.status
    panel.objects.form.fields["mask_threshold"].editor.setValue(0.6)
    assert panel.run.stream.layer.visible  # whoever moves a slider wants to see what it does
    done()
    panel.result.use_as_annotation()
    assert "already" in panel.error
    annotation.undo()
    assert not annotation.data.any()
    result = panel.run.stream.layer
    result.selected_label = int(result.data[6, 6])
    panel.result.set_scope("selected")
    viewer.layers.selection.active = result
    panel.result.use_as_annotation()
    assert len(np.unique(annotation.data)) == 2
    panel.result.set_scope("boxes")
    panel.result.use_as_annotation()
    assert "box" in panel.error


def test_probability_layer(panel: SegmentPanel, viewer: Any, done: Callable[[], None]) -> None:
    image = picture()
    viewer.add_image(image)
    panel.options.probabilities.setChecked(True)
    panel.start()
    done()
    layer = next(layer for layer in viewer.layers if layer.name.endswith("probability"))
    np.testing.assert_array_equal(layer.data > 0.5, image > 0.5)


def test_seams_are_checked_and_told_in_one_sentence(
    panel: SegmentPanel, viewer: Any, qtbot: Any
) -> None:
    """complaint 17"""
    viewer.add_image(picture())
    panel.result.check_seams()
    qtbot.waitUntil(panel.result.seams.isEnabled, timeout=60_000)
    assert "no seams" in panel.status
    assert panel.error == ""


def test_the_size_of_painted_cells_is_measured(panel: SegmentPanel, viewer: Any) -> None:
    viewer.add_image(picture())
    panel.measure()
    assert "Paint" in panel.error
    labels = np.zeros((96, 128), np.int32)
    viewer.add_labels(labels, name="painted")
    panel.measure()
    assert "paint at least one" in panel.error
    labels[10:20, 10:20] = 1
    panel.measure()
    assert panel.error == ""
    assert panel.form.cell_size() == pytest.approx(11.3, abs=0.1)


def test_the_first_step_is_said_before_it_is_asked_for(panel: SegmentPanel, viewer: Any) -> None:
    assert panel.status == "Open an image to segment."
    viewer.add_image(picture())
    assert panel.status == ""


def test_without_image_or_model_one_sentence_says_so(panel: SegmentPanel, viewer: Any) -> None:
    panel.start()
    assert panel.error == "Choose the image to segment."
    assert not panel.button.running


@pytest.mark.parametrize("bad", ["nan", "rgb", "pickle"])
def test_what_cannot_be_segmented_leaves_the_panel_ready(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None], bad: str, tmp_path: Any
) -> None:
    image = picture()
    if bad == "nan":
        image[50, 50] = np.nan
    viewer.add_image(np.stack([image] * 3, axis=-1) if bad == "rgb" else image, rgb=bad == "rgb")
    if bad == "pickle":
        (tmp_path / "model.safetensors").write_bytes(b"\x80\x04junk")
        panel.form.model.choose_file(tmp_path / "model.safetensors")
    panel.start()
    done()
    assert panel.error
    assert "unexpected" not in panel.error
    assert not panel.button.running
    assert len(viewer.layers) == 1  # no empty result stays behind


def test_planes_before_one_that_cannot_be_read_stay_and_follow_the_sliders(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    stack = np.stack([picture(seed=k) for k in range(3)])
    stack[2, 50, 50] = np.nan
    viewer.add_image(stack)
    panel.form.set_part("everything")
    panel.start()
    done()
    assert panel.error
    assert panel.status == "What was segmented before stays."
    labels = panel.run.stream.layer.data
    assert labels[0].any() and labels[1].any() and not labels[2].any()
    panel.objects.set_settings(InstanceSettings(min_size=10_000))
    done()
    assert "0 objects" in panel.status
    assert not labels.any()


@pytest.mark.parametrize("how", ["stopped", "failed", "removed"])
def test_a_result_stays_when_the_next_segmentation_has_nothing_to_show(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None], tmp_path: Any, how: str
) -> None:
    viewer.add_image(picture())
    panel.options.probabilities.setChecked(True)
    panel.start()
    done()
    run, layers = panel.run, list(viewer.layers)
    labels = run.stream.layer.data.copy()
    if how == "failed":
        (tmp_path / "model.safetensors").write_bytes(b"junk")
        panel.form.model.choose_file(tmp_path / "model.safetensors")
    panel.start()
    if how == "removed":
        viewer.layers.remove(panel.run.stream.layer)
    if how != "failed":
        panel.stop()
    done()
    assert panel.run is run and run.alive
    assert set(viewer.layers) == set(layers)
    assert {layer.name for layer in layers} == {"Image", "Image probability", "Image objects"}
    assert bool(panel.error) is (how == "failed")
    assert ("is back" in panel.status) is (how == "stopped")
    panel.objects.set_settings(InstanceSettings(min_size=10_000))  # the sliders still work on it
    done()
    assert labels.any() and not run.stream.layer.data.any()


def test_nothing_stays_behind_of_a_segmentation_that_was_stopped_at_once(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None]
) -> None:
    viewer.add_image(picture())
    panel.start()
    panel.stop()
    done()
    assert panel.error == ""
    assert panel.status == "Stopped before anything was segmented."
    assert len(viewer.layers) == 1


def test_a_model_file_is_opened_and_used(
    panel: SegmentPanel, viewer: Any, done: Callable[[], None], bright_model: Model, tmp_path: Any
) -> None:
    image = picture()
    viewer.add_image(image)
    save_model(bright_model, tmp_path / "saved.safetensors")
    panel.form.model.choose_file(tmp_path / "saved.safetensors")
    panel.start()
    done()
    np.testing.assert_array_equal(panel.run.stream.layer.data > 0, image > 0.5)
