"""The live target equals a full recomputation after everything a user can do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_unet.core import live_target
from napari_unet.core.annotation import training_target
from napari_unet.core.annotation_rules import interpret as interpret_window
from napari_unet.core.pairs import annotated_planes, relative_spacing
from napari_unet.core.settings import AnnotationSettings, WeightMapSettings
from napari_unet.core.size_match import SizeMatch
from napari_unet.widgets import live_annotation
from napari_unet.widgets._annotation_layer import new_annotation, new_boxes
from napari_unet.widgets._label_plane import boxes_on_plane
from napari_unet.widgets._live_build import scale_of
from napari_unet.widgets._pairs_table import PairRow
from napari_unet.widgets.live_annotation import LiveAnnotation
from napari_unet.widgets.session import Session, session_of

Settled = Callable[[Session], None]


def check(session: Session) -> None:
    """Compare with the target computed from nothing."""
    live, layer = session.live, session.annotation
    assert live.target is not None and layer is not None and live.problem == ""
    plane = np.asarray(layer.data[live.index] if live.index else layer.data)
    expected = training_target(
        plane,
        settings=session.annotation_settings,
        weights=session.weight_settings,
        boxes=boxes_on_plane(session.boxes, layer, live.index),
        scale=live.scale,
    )
    assert np.array_equal(live.target.state(), expected.state)
    assert np.allclose(live.target.weight(), expected.weight, atol=1e-4)
    assert live.target.counts == expected.counts
    assert live.target.warnings == expected.warnings


@pytest.fixture
def session(viewer: Any) -> Session:
    session = session_of(viewer)
    new_annotation(session, session.image)
    return session


@pytest.fixture(params=["at once", "in a thread"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in a thread":
        monkeypatch.setattr(live_annotation, "AT_ONCE", 0)
        monkeypatch.setattr(live_annotation, "MOST_AT_ONCE", 0)


@pytest.mark.usefixtures("where")
def test_follows_strokes_undo_redo_and_assignments(session: Session, settled: Settled) -> None:
    layer = session.annotation
    settled(session)
    check(session)
    actions = (
        lambda: layer.paint((20, 20), 1),
        lambda: layer.paint((20, 32), 2),
        lambda: layer.paint((50, 70), -1),
        lambda: layer.fill((20, 20), 3),
        layer.undo,
        layer.redo,
        layer.undo,
        lambda: setattr(layer, "data", np.roll(layer.data, 5, axis=0)),
        lambda: (layer.data.__setitem__((slice(0, 9), slice(0, 9)), 8), layer.refresh()),
    )
    for action in actions:
        action()
        settled(session)
        check(session)


@pytest.mark.usefixtures("where")
def test_follows_settings(session: Session, settled: Settled) -> None:
    session.live  # noqa: B018
    session.annotation.paint((20, 20), 1)
    session.annotation.paint((20, 31), 2)
    for settings in (
        AnnotationSettings(area="all"),
        AnnotationSettings(area="painted"),
        AnnotationSettings(margin=3),
        AnnotationSettings(task="classes", area="all"),
        AnnotationSettings(),
    ):
        session.annotation_settings = settings
        settled(session)
        check(session)
    for weights in (
        WeightMapSettings(w0=3),
        WeightMapSettings(w0=0),
        WeightMapSettings(sigma=2),
        WeightMapSettings(ridge=3, class_balance=False),
    ):
        session.weight_settings = weights
        settled(session)
        check(session)


def test_w0_needs_no_thread_and_no_waiting(
    session: Session, settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.annotation.paint((20, 20), 1)
    settled(session)
    changes: list[Any] = []
    session.live.updated.connect(changes.append)
    with monkeypatch.context() as patch:
        patch.setattr(LiveAnnotation, "_rebuild", lambda self: pytest.fail("built anew"))
        session.weight_settings = WeightMapSettings(w0=25, class_balance=False)
    assert changes == [None]
    check(session)


def test_strokes_while_the_target_is_built_are_not_lost(
    session: Session, settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_annotation, "AT_ONCE", 0)
    session.annotation.paint((20, 20), 1)
    session.weight_settings = WeightMapSettings(sigma=3)
    session.live._rebuild()
    session.annotation.paint((40, 40), 2)
    session.weight_settings = WeightMapSettings(sigma=4)
    session.annotation.paint((50, 60), 3)
    settled(session)
    check(session)
    assert session.live.target.counts.objects == 3


def test_a_large_change_is_followed_beside_the_viewer(
    make_napari_viewer: Any, settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complaint 9: all objects of a result become annotation, and that is undone."""
    viewer = make_napari_viewer()
    session = session_of(viewer)
    layer = new_annotation(session, viewer.add_image(np.zeros((600, 700))))
    settled(session)
    threads: list[bool] = []

    def interpret(*arguments: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return interpret_window(*arguments)

    monkeypatch.setattr(live_target, "interpret", interpret)
    objects = np.zeros(layer.data.shape, np.int32)
    objects[20:40, 20:40], objects[500:520, 650:670] = 3, 4
    layer.data_setitem(np.nonzero(objects), objects[objects > 0])
    settled(session)
    layer.paint((300, 300), 9)
    settled(session)
    check(session)
    layer.undo()
    layer.undo()
    settled(session)
    check(session)
    assert threads == [False, True, False]
    assert session.live.target.counts.objects == 0


@pytest.mark.usefixtures("where")
def test_a_large_change_and_other_settings_at_once(session: Session, settled: Settled) -> None:
    """What is built anew in a moment is not followed as well, again and again."""
    settled(session)
    for sigma in (2.0, 3.0):
        session.annotation.paint((20, 20), 1)
        session.live.flush()
        session.annotation.paint((40, 40), int(sigma))
        session.weight_settings = WeightMapSettings(sigma=sigma)
        settled(session)
        check(session)


def test_follows_boxes(session: Session, settled: Settled) -> None:
    session.annotation.paint((20, 20), 1)
    boxes = new_boxes(session, session.annotation)
    session.annotation_settings = AnnotationSettings(area="boxes")
    settled(session)
    check(session)
    assert "box" in session.live.target.warnings[0]
    boxes.add_rectangles(np.array([[4.6, 9.5], [4.6, 40.4], [35.2, 40.4], [35.2, 9.5]]))
    settled(session)
    check(session)
    assert boxes_on_plane(boxes, session.annotation, ()).tolist() == [[5, 10, 36, 41]]
    assert session.live.target.counts.trained == 31 * 31
    session.viewer.layers.remove(boxes)
    settled(session)
    check(session)


def test_follows_the_plane_of_a_stack(make_napari_viewer: Any, settled: Settled) -> None:
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((3, 40, 50)), scale=(2, 0.5, 0.5), translate=(10, 1, 2))
    session = session_of(viewer)
    layer = new_annotation(session, image)
    seen: list[int] = []
    for plane in (0, 2, 1):
        viewer.dims.set_current_step(0, plane)
        settled(session)
        layer.paint((plane, 20, 10 + 10 * plane), plane + 1)
        settled(session)
        assert session.live.index == (plane,)
        check(session)
        seen.append(session.live.target.counts.objects)
    assert seen == [1, 1, 1]
    viewer.dims.set_current_step(0, 0)
    settled(session)
    check(session)


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("area", ["all", "boxes", "boxes of all planes"])
def test_planes_without_paint_are_shown_as_training_takes_them(
    make_napari_viewer: Any, settled: Settled, area: str
) -> None:
    """Left out of a stack, but for boxes that were drawn on that plane: all in them is background.

    Complaint 4: what was not painted is background only where the user says so.
    """
    viewer = make_napari_viewer()
    session = session_of(viewer)
    layer = new_annotation(
        session, viewer.add_image(np.ones((3, 40, 50)) * np.arange(3)[:, None, None])
    )
    corners = np.array([[5, 5], [5, 24], [14, 24], [14, 5]])
    if area == "boxes":
        boxes = new_boxes(session, layer)
        boxes.add_rectangles([np.insert(corners, 0, plane, axis=1) for plane in (0, 2)])
    elif area == "boxes of all planes":
        session.boxes = viewer.add_shapes([corners], shape_type="rectangle")
    session.annotation_settings = AnnotationSettings(area=area.split(maxsplit=1)[0])
    layer.brush_size = 5
    layer.paint((2, 10, 10), 1)
    row = PairRow(session, first=True)

    def counts() -> tuple[list[int], list[int]]:
        """Return the trained pixels of each plane in the preview, and in training."""
        shown, trained = [], [0] * 3
        for number in range(3):
            viewer.dims.set_current_step(0, number)
            settled(session)
            shown.append(session.live.target.counts.trained)
        settings = session.annotation_settings
        for plane in annotated_planes(row.pairs(with_boxes=settings.area == "boxes")):
            target = training_target(plane.labels, settings=settings, boxes=plane.boxes)
            trained[int(plane.plane.read(0, 1, 0, 1)[0, 0, 0])] = target.counts.trained
        return shown, trained

    box, whole = 10 * 20, 40 * 50
    blank = box if area == "boxes" else 0
    full = whole if area == "all" else box
    assert counts() == ([blank, 0, full],) * 2
    layer.paint((0, 30, 30), -1)
    settled(session)
    assert counts() == ([full, 0, full],) * 2
    viewer.dims.set_current_step(0, 0)
    settled(session)
    layer.undo()
    settled(session)
    assert session.live.target.counts.trained == blank
    row.deleteLater()


def test_follows_the_place_of_labels_and_boxes(session: Session, settled: Settled) -> None:
    layer = session.annotation
    layer.paint((20, 20), 1)
    layer.paint((20, 31), 2)
    boxes = new_boxes(session, layer)
    boxes.add_rectangles(np.array([[5, 5], [5, 40], [40, 40], [40, 5]]))
    session.annotation_settings = AnnotationSettings(area="boxes")
    settled(session)
    inside = session.live.target.counts.ignored
    boxes.translate = (-20, 0)
    settled(session)
    check(session)
    assert session.live.target.counts.ignored > inside


def test_other_axes_and_a_stroke_at_once(session: Session, settled: Settled) -> None:
    layer = session.annotation
    layer.data = np.zeros((3, 20, 30), np.int32)
    settled(session)
    layer.data = np.zeros((20, 30), np.int32)
    layer.paint((10, 10), 1)
    settled(session)
    check(session)


def test_another_layer_and_none(session: Session, settled: Settled) -> None:
    viewer = session.viewer
    settled(session)
    other = viewer.add_labels(np.eye(30, dtype=np.uint8))
    session.annotation = other
    settled(session)
    check(session)
    viewer.layers.remove(other)
    settled(session)
    assert session.annotation is None and session.live.target is None


def test_labels_that_cannot_be_used_say_why(session: Session, settled: Settled) -> None:
    settled(session)
    problems: list[str] = []
    session.live.failed.connect(problems.append)
    layer = session.viewer.add_labels(np.full((20, 20), -3, np.int32))
    session.annotation = layer
    settled(session)
    assert session.live.target is None
    assert problems[-1].endswith(".") and session.live.problem == problems[-1]


@pytest.mark.usefixtures("where")
def test_correcting_unusable_labels_brings_the_target_back(
    session: Session, settled: Settled
) -> None:
    layer = session.annotation
    for correct in (layer.undo, lambda: layer.paint((20, 20), 0)):
        layer.paint((20, 20), -2)
        settled(session)
        assert session.live.target is None and "not -2" in session.live.problem
        correct()
        settled(session)
        check(session)


def test_a_huge_plane_is_declined(
    session: Session, settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(session)
    monkeypatch.setattr(live_annotation, "LARGEST", 100)
    session.live._rebuild()
    assert session.live.target is None and "too large" in session.live.problem


def test_lengths_are_shown_at_the_networks_scale(session: Session, settled: Settled) -> None:
    session.annotation.brush_size = 10
    for middle in ((20, 20), (20, 31), (45, 60)):
        session.annotation.paint(middle, middle[1])
    settled(session)
    assert session.live.scale == 1
    session.size_match = SizeMatch(20.0, 20.0)
    settled(session)
    assert 1.7 < session.live.scale < 2.2
    check(session)
    session.annotation_settings = AnnotationSettings(task="classes")
    settled(session)
    assert session.live.scale == 1


def test_scale_follows_the_size_of_what_is_painted(session: Session, settled: Settled) -> None:
    session.size_match = SizeMatch(20.0, 20.0)
    session.annotation.brush_size = 10
    session.annotation.paint((20, 20), 1)
    settled(session)
    session.live._check_size()
    settled(session)
    before = session.live.scale
    session.annotation.brush_size = 20
    session.annotation.paint((20, 20), 1)
    settled(session)
    session.live._check_size()
    settled(session)
    assert session.live.scale < 0.7 * before
    check(session)


def test_following_the_size_reads_no_plane(
    session: Session, settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured a second after each stroke, maybe during the next: 0.6 s of a large plane."""
    session.size_match = SizeMatch(20.0, 20.0)
    session.annotation.paint((20, 20), 1)
    settled(session)
    monkeypatch.setattr(live_annotation, "plane_of", lambda *_: pytest.fail("the plane was read"))
    monkeypatch.setattr(LiveAnnotation, "_rebuild", lambda self: None)
    session.live._check_size()


def test_scale_of() -> None:
    plane = np.zeros((50, 50), int)
    assert scale_of(plane, None) == scale_of(plane, SizeMatch(10.0, 10.0)) == 1
    plane[10:20, 10:20] = 1
    size = 2 * np.sqrt(100 / np.pi)
    assert scale_of(plane, SizeMatch(1.02 * size, 1.02 * size)) == 1
    assert scale_of(plane, SizeMatch(1000.0, 1000.0)) == 20
    assert scale_of(plane, SizeMatch(5.0, 28.0)) == 1
    assert scale_of(plane, SizeMatch(14.0, 28.0)) == 14 / size
    assert scale_of(plane, SizeMatch(14.0, 28.0, given=56.0)) == 0.5


def test_pixels_have_the_size_that_training_reads_from_the_image(
    session: Session, settled: Settled
) -> None:
    """Labels opened from a file often have no size of their own."""
    viewer, layer, image = session.viewer, session.annotation, session.image
    layer.paint((20, 20), 1)
    layer.paint((20, 31), 2)
    row = PairRow(session, first=True)
    other = viewer.add_image(image.data, name="other", scale=(3, 1))
    for change in (
        lambda: setattr(image, "scale", (1, 3)),
        lambda: setattr(layer, "scale", (2, 1)),
        lambda: setattr(session, "image", other),
        lambda: setattr(other, "scale", (3, 3)),
    ):
        change()
        settled(session)
        (pair,) = row.pairs(with_boxes=False)
        expected = training_target(layer.data, spacing=relative_spacing(pair.spacing))
        assert np.allclose(session.live.target.weight(), expected.weight, atol=1e-4)
    session.image = None
    settled(session)
    expected = training_target(layer.data, spacing=relative_spacing((2, 1)))
    assert np.allclose(session.live.target.weight(), expected.weight, atol=1e-4)
    row.deleteLater()


def test_closing_during_a_build_leaves_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch, settled: Settled
) -> None:
    monkeypatch.setattr(live_annotation, "AT_ONCE", 0)
    settled(session)
    session.live._rebuild()
    live = session.live
    session.viewer.close()
    assert live.target is None and not live.busy
