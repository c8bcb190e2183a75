"""The Weights panel: two live views that are right after everything a user can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_unet.core.annotation import StateCounts, training_target
from napari_unet.core.annotation_rules import State
from napari_unet.core.settings import AnnotationSettings, WeightMapSettings
from napari_unet.widgets import _preview_layers, live_annotation
from napari_unet.widgets._annotation_layer import new_annotation
from napari_unet.widgets._preview_layers import strips, weight_range
from napari_unet.widgets.session import session_of
from napari_unet.widgets.weight_map import WeightMapPanel


def make_panel(viewer: Any) -> WeightMapPanel:
    session = session_of(viewer)
    if session.annotation is None:
        new_annotation(session, session.image)
    return WeightMapPanel(viewer)


@pytest.fixture
def panel(viewer: Any) -> WeightMapPanel:
    return make_panel(viewer)


@pytest.fixture
def drawn(qtbot: Any) -> Callable[[WeightMapPanel], None]:
    """Wait until every pixel of the preview is right."""

    def wait(panel: WeightMapPanel) -> None:
        qtbot.waitUntil(
            lambda: not panel.session.live.busy and panel.preview.up_to_date, timeout=20_000
        )

    return wait


Drawn = Callable[[WeightMapPanel], None]


def check(panel: WeightMapPanel) -> None:
    """Compare the layer with the target computed from nothing."""
    session, layer = panel.session, panel.preview.layer
    assert layer is not None
    index = session.live.index
    plane = session.annotation.data[index] if index else session.annotation.data
    expected = training_target(
        plane, settings=session.annotation_settings, weights=session.weight_settings
    )
    shown = np.asarray(layer.data).reshape(plane.shape)
    if panel.preview.view == "states":
        assert np.array_equal(shown, expected.state)
    else:
        assert np.allclose(shown, expected.weight, atol=1e-4)


@pytest.mark.parametrize("view", ["weights", "states"])
@pytest.mark.parametrize("strip", [1_500_000, 500])
def test_the_view_follows_brush_undo_and_sliders(
    panel: WeightMapPanel, drawn: Drawn, view: Any, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_preview_layers, "_STRIP_PIXELS", strip)
    layer = panel.session.annotation
    layer.paint((20, 20), 1)
    panel.view_buttons[view].click()
    drawn(panel)
    check(panel)
    form = panel.form.fields
    actions = (
        lambda: layer.paint((20, 31), 2),
        lambda: layer.paint((50, 60), -1),
        layer.undo,
        layer.undo,
        layer.redo,
        lambda: form["w0"].editor.setValue(30),
        lambda: form["class_balance"].editor.setChecked(False),
        lambda: form["sigma"].editor.setValue(2.5),
        lambda: form["ridge"].editor.setValue(3),
        lambda: panel.meaning.fields["margin"].editor.setValue(3),
        lambda: setattr(layer, "data", np.roll(layer.data, 7, axis=1)),
    )
    for action in actions:
        action()
        drawn(panel)
        check(panel)
    assert panel.session.weight_settings == WeightMapSettings(30, 2.5, False, 3)


def test_ignored_pixels_are_transparent_and_states_have_their_colours(
    panel: WeightMapPanel, drawn: Drawn
) -> None:
    panel.session.annotation.paint((20, 20), 1)
    panel.show_view("weights")
    drawn(panel)
    layer = panel.preview.layer
    low, high = layer.contrast_limits
    assert low == 0 and high >= layer.data.max()
    colors = layer.colormap.map(np.array([0.0, 0.05, 1.0]))
    assert colors[0, 3] == 0 and colors[1, 3] == colors[2, 3] == 1
    panel.show_view("states")
    drawn(panel)
    layer = panel.preview.layer
    assert layer.colormap.map(int(State.IGNORED))[3] == 0
    shades = {tuple(layer.colormap.map(int(state))) for state in State}
    assert len(shades) == len(State)
    assert not layer.editable


def test_counts_and_warnings(panel: WeightMapPanel, drawn: Drawn) -> None:
    """Complaint 4: what unlabelled means is shown, with counts, before training."""
    drawn(panel)
    assert "paint at least one" in panel.legend.warnings
    layer = panel.session.annotation
    layer.brush_size = 1
    layer.paint((20, 20), 1)
    drawn(panel)
    assert "single pixel" in panel.legend.warnings
    assert panel.legend.count(State.OBJECT).startswith("1 px")
    counts = panel.session.live.target.counts
    assert panel.legend.count(State.IGNORED).startswith(f"{counts.ignored:,} px")
    combo = panel.meaning.fields["area"].editor
    combo.setCurrentIndex(combo.findData("painted"))
    drawn(panel)
    assert "no background" in panel.legend.warnings


def test_the_brush_stays_active_and_the_preview_in_its_place(
    panel: WeightMapPanel, drawn: Drawn
) -> None:
    viewer, annotation = panel.viewer, panel.session.annotation
    annotation.mode = "paint"
    for view, offset in (("weights", -1), ("states", 1), ("weights", -1)):
        panel.show_view(view)
        drawn(panel)
        assert viewer.layers.selection.active is annotation and annotation.mode == "paint"
        place = viewer.layers.index(panel.preview.layer)
        assert place == viewer.layers.index(annotation) + offset
        assert len(viewer.layers) == 3
    panel.show_view("")
    assert panel.preview.layer is None and len(viewer.layers) == 2


def test_the_preview_stays_on_an_annotation_that_is_moved(
    panel: WeightMapPanel, drawn: Drawn
) -> None:
    layer = panel.session.annotation
    layer.paint((20, 20), 1)
    panel.show_view("states")
    drawn(panel)
    layer.scale, layer.rotate, layer.translate = (2, 2), 30, (5, 7)
    drawn(panel)
    shown = panel.preview.layer
    np.testing.assert_allclose(shown.data_to_world((3, 4)), layer.data_to_world((3, 4)))


def test_the_eye_and_the_opacity_of_the_preview_are_the_users(
    make_napari_viewer: Any, drawn: Drawn
) -> None:
    """Each plane has a layer of its own; the new one looks like the one before."""
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((3, 40, 50)))
    panel = make_panel(viewer)
    panel.show_view("states")
    drawn(panel)
    panel.preview.layer.visible = False
    panel.preview.layer.opacity = 0.3
    viewer.dims.set_current_step(0, 2)
    drawn(panel)
    assert panel.session.live.index == (2,)
    assert not panel.preview.layer.visible and panel.preview.layer.opacity == 0.3
    panel.show_view("")
    panel.show_view("states")
    assert panel.preview.layer.visible


def test_the_preview_is_no_annotation_and_no_image(panel: WeightMapPanel, drawn: Drawn) -> None:
    image, annotation = panel.session.image, panel.session.annotation
    for view in ("weights", "states"):
        panel.show_view(view)
        drawn(panel)
        assert panel.session.image is image and panel.session.annotation is annotation


def test_deleting_the_preview_switches_it_off(panel: WeightMapPanel, drawn: Drawn) -> None:
    panel.show_view("weights")
    drawn(panel)
    panel.viewer.layers.remove(panel.preview.layer)
    assert panel.preview.view == "" and panel.view_buttons[""].isChecked()
    panel.session.annotation.paint((10, 10), 1)
    drawn(panel)
    assert len(panel.viewer.layers) == 2


def test_annotation_deleted_and_replaced(panel: WeightMapPanel, drawn: Drawn) -> None:
    """Complaint 25."""
    viewer = panel.viewer
    panel.show_view("weights")
    drawn(panel)
    viewer.layers.remove(panel.session.annotation)
    drawn(panel)
    assert panel.preview.layer is None and "annotation" in panel.status
    new_annotation(panel.session, panel.session.image).paint((10, 10), 1)
    drawn(panel)
    check(panel)
    panel.session.annotation.name = "renamed"
    panel.session.annotation.paint((30, 30), 2)
    drawn(panel)
    check(panel)
    viewer.layers.clear()
    drawn(panel)
    assert panel.preview.layer is None


def test_planes_of_a_scaled_stack(make_napari_viewer: Any, drawn: Drawn) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((3, 40, 50)), scale=(2, 0.5, 0.25), translate=(10, 1, 2))
    panel = make_panel(viewer)
    annotation = panel.session.annotation
    panel.show_view("states")
    for plane in (0, 2, 1):
        viewer.dims.set_current_step(0, plane)
        annotation.paint((plane, 20, 10 + 10 * plane), plane + 1)
        drawn(panel)
        layer = panel.preview.layer
        assert layer.data.shape == (1, 40, 50)
        assert np.allclose(layer.data_to_world((0, 7, 9)), annotation.data_to_world((plane, 7, 9)))
        assert len(np.unique(layer.data)) == 3


def test_rgb_and_multiscale_images(make_napari_viewer: Any, drawn: Drawn) -> None:
    for data, options in (
        (np.zeros((40, 50, 3), np.uint8), {"rgb": True}),
        ([np.zeros((40, 50)), np.zeros((20, 25))], {"multiscale": True}),
    ):
        viewer = make_napari_viewer()
        viewer.add_image(data, contrast_limits=(0, 1), **options)
        panel = make_panel(viewer)
        panel.show_view("weights")
        panel.session.annotation.paint((20, 20), 1)
        drawn(panel)
        check(panel)


def test_an_existing_unsigned_layer(make_napari_viewer: Any, drawn: Drawn) -> None:
    viewer = make_napari_viewer()
    labels = np.zeros((40, 50), np.uint16)
    labels[5:10, 5:10], labels[5:10, 12:20] = 4000, 65535
    viewer.add_labels(labels)
    panel = WeightMapPanel(viewer)
    panel.show_view("states")
    drawn(panel)
    check(panel)


def test_closed_during_a_build(
    viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, drawn: Drawn
) -> None:
    monkeypatch.setattr(live_annotation, "AT_ONCE", 0)
    panel = make_panel(viewer)
    panel.show_view("weights")
    drawn(panel)
    panel.form.fields["sigma"].editor.setValue(9.0)
    panel.session.live._rebuild()
    viewer.close()
    qtbot.wait(20)
    assert panel.session.closed


def test_closing_the_panel_removes_the_preview(panel: WeightMapPanel, drawn: Drawn) -> None:
    viewer = panel.viewer
    viewer.window.add_dock_widget(panel, name="Weights")
    panel.show_view("weights")
    drawn(panel)
    viewer.window.remove_dock_widget(panel)
    assert len(viewer.layers) == 2
    panel.session.annotation.paint((10, 10), 1)
    drawn(panel)
    assert len(viewer.layers) == 2


def test_two_panels_share_the_settings(panel: WeightMapPanel) -> None:
    other = WeightMapPanel(panel.viewer)
    panel.form.fields["w0"].editor.setValue(17)
    assert other.form.settings().w0 == 17


def test_only_public_names_of_napari_are_used(make_napari_viewer_proxy: Any, drawn: Drawn) -> None:
    viewer = make_napari_viewer_proxy()
    viewer.add_image(np.zeros((2, 40, 50)))
    panel = make_panel(viewer)
    for view in ("weights", "states"):
        panel.show_view(view)
        panel.session.annotation.paint((0, 20, 20), 1)
        drawn(panel)
        viewer.dims.set_current_step(0, 1)
        drawn(panel)
        viewer.dims.set_current_step(0, 0)
        drawn(panel)
        check(panel)
    panel.show_view("")


def test_strips_cover_the_rest_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_preview_layers, "_STRIP_PIXELS", 60)
    seen = np.zeros((30, 40), int)
    window = slice(7, 20), slice(5, 33)
    seen[window] += 1
    for strip in strips((30, 40), window):
        assert seen[strip].size <= 80
        seen[strip] += 1
    assert (seen == 1).all()
    assert list(strips((30, 40), (slice(0, 30), slice(0, 40)))) == []


def test_weight_range() -> None:
    settings = WeightMapSettings()
    even = StateCounts(0, 500, 500, 0, 3, (500, 500))
    assert weight_range(even, settings, "objects") == (pytest.approx(11.0), False)
    rare = StateCounts(0, 99_990, 10, 0, 1, (99_990, 10))
    top, clipped = weight_range(rare, settings, "objects")
    assert clipped and top == pytest.approx(31.5, abs=0.1)
    assert weight_range(StateCounts(9, 0, 0, 0, 0, (0, 0)), settings, "objects")[0] > 0


def test_weights_of_classes_are_seen_in_colours_of_their_own(
    panel: WeightMapPanel, drawn: Drawn
) -> None:
    """All pixels that count are painted: the paint would hide them, and there are no gaps."""
    session = panel.session
    layer = session.annotation
    layer.brush_size = 9
    layer.paint((20, 20), 1)
    panel.show_view("weights")
    drawn(panel)
    layers = panel.viewer.layers
    assert layers.index(panel.preview.layer) < layers.index(layer)
    assert not panel.legend.is_gap_hidden and panel.legend.name(State.OBJECT) == "Object"
    layer.paint((40, 40), 2)
    layer.brush_size = 3
    layer.paint((60, 60), -1)
    session.annotation_settings = AnnotationSettings(task="classes", area="painted")
    drawn(panel)
    assert layers.index(panel.preview.layer) > layers.index(layer)
    top = panel.preview.layer.contrast_limits[1]
    assert top == pytest.approx(session.live.target.weight().max(), abs=0.11)
    assert panel.legend.is_gap_hidden and panel.legend.name(State.OBJECT) == "Painted class"


@pytest.mark.timed
@pytest.mark.slow
def test_a_large_annotation_follows_in_time(make_napari_viewer: Any, qtbot: Any) -> None:
    """2048 x 2048, 1,000 objects: 150 ms after a stroke, 50 ms after a move of the slider.

    Counted is the time of the main thread, so that other programs do not decide the result; the
    wall-clock times are what `benchmarks/preview_latency.py` prints.
    """
    import time

    labels = np.zeros((2048, 2048), np.int32)
    rows, columns = np.mgrid[-28:29, -28:29]
    for number in range(1000):
        row, column = divmod(number, 32)
        part = labels[row * 64 + 3 : row * 64 + 60, column * 64 + 3 : column * 64 + 60]
        part[rows**2 + columns**2 <= 28**2] = number + 1
    viewer = make_napari_viewer()
    layer = viewer.add_labels(labels)
    panel = WeightMapPanel(viewer)
    live, preview = panel.session.live, panel.preview
    qtbot.waitUntil(lambda: not live.busy, timeout=60_000)
    panel.show_view("weights")
    strokes, slides = [], []
    for number in range(5):
        layer.paint((300 + 50 * number, 1000), 2000 + number)
        start = time.thread_time()
        live.flush()
        while not preview.up_to_date:
            preview._next_strip()
        strokes.append(time.thread_time() - start)
        start = time.thread_time()
        panel.session.weight_settings = WeightMapSettings(w0=5.0 + number)
        slides.append(time.thread_time() - start)
        while not preview.up_to_date:
            preview._next_strip()
    check(panel)
    assert np.median(strokes) < 0.150
    assert np.median(slides) < 0.050


def test_the_panel_says_how_to_see_something_while_the_preview_is_off(
    panel: WeightMapPanel,
) -> None:
    assert "What is learned" in panel.status
    panel.show_view("states")
    assert panel.status == ""
    panel.show_view("")
    assert "What is learned" in panel.status
