"""The live target equals the full computation after any strokes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core import distances
from napari_unet.core.annotation import training_target
from napari_unet.core.diameter import median_diameter
from napari_unet.core.errors import InputError
from napari_unet.core.live_target import LiveTarget
from napari_unet.core.settings import AnnotationSettings, WeightMapSettings

Labels = npt.NDArray[np.int32]
SHAPE = (48, 56)

areas = st.sampled_from(["painted", "around", "boxes", "all"])
tasks = st.sampled_from(["objects", "classes"])


@st.composite
def strokes(draw: st.DrawFn) -> tuple[tuple[int, int, int, int], int]:
    """A rectangle and what it is painted with (0 erases)."""
    y, x = draw(st.integers(0, SHAPE[0] - 1)), draw(st.integers(0, SHAPE[1] - 1))
    bottom = min(y + draw(st.integers(1, 14)), SHAPE[0])
    right = min(x + draw(st.integers(1, 14)), SHAPE[1])
    return (y, x, bottom, right), draw(st.sampled_from([0, -1, 1, 2, 3, 4, 300]))


def paint(labels: Labels, box: tuple[int, int, int, int], value: int) -> None:
    labels[box[0] : box[2], box[1] : box[3]] = value


def assert_equals_the_full_computation(
    live: LiveTarget, labels: npt.NDArray[np.integer], **options: object
) -> None:
    settings = options.get("settings", AnnotationSettings())
    if isinstance(settings, AnnotationSettings) and settings.task == "objects":
        assert live.diameter == median_diameter(labels)
    full = training_target(labels, **options)  # type: ignore[arg-type]
    snapshot = live.snapshot()
    np.testing.assert_array_equal(snapshot.target, full.target)
    np.testing.assert_array_equal(snapshot.state, full.state)
    np.testing.assert_array_equal(snapshot.weight, full.weight)
    assert snapshot.counts == full.counts
    assert snapshot.warnings == full.warnings
    assert live.counts == full.counts
    assert live.warnings == full.warnings


@settings(max_examples=60, deadline=None)
@given(
    st.lists(strokes(), max_size=8),
    st.lists(strokes(), min_size=1, max_size=5),
    areas,
    tasks,
    st.data(),
)
def test_strokes_equal_the_full_computation(
    before: list[tuple[tuple[int, int, int, int], int]],
    after: list[tuple[tuple[int, int, int, int], int]],
    area: str,
    task: str,
    data: st.DataObject,
) -> None:
    labels = np.zeros(SHAPE, np.int32)
    for box, value in before:
        paint(labels, box, value)
    options = {
        "settings": AnnotationSettings(task=task, area=area, margin=data.draw(st.floats(0, 15))),  # type: ignore[arg-type]
        "weights": WeightMapSettings(
            w0=data.draw(st.sampled_from([0.0, 10.0])),
            sigma=data.draw(st.sampled_from([0.5, 2.0, 5.0])),
            class_balance=data.draw(st.booleans()),
            ridge=data.draw(st.integers(0, 3)),
        ),
        "boxes": data.draw(
            st.sampled_from([None, [(5, 5, 30, 40)], [(0, 0, 9, 56), (20, 3, 40, 9)]])
        ),
        "spacing": data.draw(st.sampled_from([None, (1.0, 0.5)])),
        "scale": data.draw(st.sampled_from([1.0, 0.5, 3.0])),
    }
    live = LiveTarget(labels, **options)  # type: ignore[arg-type]
    for box, value in after:
        previous = live.snapshot()
        paint(labels, box, value)
        slack = data.draw(st.integers(0, 5))
        told = (box[0] - slack, box[1] - slack, box[2] + slack, box[3])
        changed = live.update(labels, data.draw(st.sampled_from([told, None])))
        assert_equals_the_full_computation(live, labels, **options)
        differs = (previous.target != live.target()) | (previous.state != live.state())
        if changed is None:
            assert not differs.any()
        else:
            differs[changed[0] : changed[2], changed[1] : changed[3]] = False
            assert not differs.any()


@settings(max_examples=30, deadline=None)
@given(st.lists(strokes(), max_size=8), areas, st.floats(0, 40), st.booleans(), st.data())
def test_windows_are_parts_of_the_whole(
    painted: list[tuple[tuple[int, int, int, int], int]],
    area: str,
    w0: float,
    balance: bool,
    data: st.DataObject,
) -> None:
    labels = np.zeros(SHAPE, np.int32)
    for box, value in painted:
        paint(labels, box, value)
    chosen = AnnotationSettings(area=area)  # type: ignore[arg-type]
    live = LiveTarget(labels, settings=chosen)
    live.change_weights(WeightMapSettings(w0=w0, class_balance=balance))
    top, left = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))
    window = (slice(top, top + 7), slice(left, left + 9))
    full = training_target(
        labels, settings=chosen, weights=WeightMapSettings(w0=w0, class_balance=balance)
    )
    np.testing.assert_array_equal(live.weight(window), full.weight[window])
    np.testing.assert_array_equal(live.state(window), full.state[window])
    np.testing.assert_array_equal(live.target(window), full.target[window])


def touching_cells() -> Labels:
    labels = np.zeros(SHAPE, np.int32)
    labels[10:20, 10:20], labels[10:20, 20:30], labels[30:38, 30:38] = 1, 2, 3
    return labels


def test_w0_and_balance_cost_no_distance_work(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = touching_cells()
    live = LiveTarget(labels)

    def forbidden(*_: object) -> None:
        raise AssertionError("distances were computed again")

    monkeypatch.setattr(distances, "_two_smallest", forbidden)
    changed = WeightMapSettings(w0=30, class_balance=False)
    assert not live.change_weights(changed)
    weights = live.weight()
    monkeypatch.undo()
    np.testing.assert_array_equal(weights, training_target(labels, weights=changed).weight)


@pytest.mark.parametrize("changed", [WeightMapSettings(sigma=2.0), WeightMapSettings(ridge=3)])
def test_sigma_and_ridge_are_computed_again(changed: WeightMapSettings) -> None:
    labels = touching_cells()
    live = LiveTarget(labels)
    assert live.change_weights(changed)
    assert_equals_the_full_computation(live, labels, weights=changed)


def test_another_area_and_other_boxes() -> None:
    labels = touching_cells()
    live = LiveTarget(labels)
    in_boxes = AnnotationSettings(area="boxes")
    assert live.change_settings(in_boxes, boxes=[(0, 0, 25, 25)])
    assert_equals_the_full_computation(live, labels, settings=in_boxes, boxes=[(0, 0, 25, 25)])
    assert not live.change_settings(in_boxes, boxes=[(25, 25, 0, 0)])
    assert live.change_settings(in_boxes, boxes=[(5, 0, 25, 25)])
    assert_equals_the_full_computation(live, labels, settings=in_boxes, boxes=[(5, 0, 25, 25)])


def test_nothing_painted_changes_nothing() -> None:
    labels = touching_cells()
    live = LiveTarget(labels)
    assert live.update(labels, (0, 0, 10, 10)) is None
    assert live.update(labels) is None
    assert live.update(labels, (100, 100, 120, 120)) is None


def test_the_caller_keeps_the_labels() -> None:
    """The copy is the target's own: painting alone changes nothing before the update."""
    labels = touching_cells()
    live = LiveTarget(labels)
    before = live.snapshot()
    labels[:] = 7
    np.testing.assert_array_equal(live.weight(), before.weight)
    live.target()
    with pytest.raises(ValueError, match="read-only"):
        live.target()[0, 0] = 1


def test_growing_ids_are_taken_over() -> None:
    labels = touching_cells().astype(np.int64)
    live = LiveTarget(labels)
    labels[40:44, 5:9] = 2**40
    live.update(labels, (40, 5, 44, 9))
    assert_equals_the_full_computation(live, labels)


def test_a_refused_stroke_leaves_all_as_it_was() -> None:
    labels = touching_cells()
    chosen = AnnotationSettings(task="classes")
    live = LiveTarget(labels, settings=chosen)
    good = labels.copy()
    for value in (-3, 70_000):
        labels[5:9, 5:9] = value
        with pytest.raises(InputError):
            live.update(labels, (5, 5, 9, 9))
        assert_equals_the_full_computation(live, good, settings=chosen)
    with pytest.raises(InputError, match="keep their shape"):
        live.update(labels[1:])


def test_refused_settings_leave_all_as_it_was() -> None:
    labels = touching_cells()
    labels[0, 0] = 70_000
    live = LiveTarget(labels)
    with pytest.raises(InputError):
        live.change_settings(AnnotationSettings(task="classes"))
    with pytest.raises(InputError):
        live.change_settings(AnnotationSettings(area="boxes"), boxes=[1, 2])
    assert_equals_the_full_computation(live, labels)


def test_a_stack_is_refused() -> None:
    with pytest.raises(InputError, match="2 axes"):
        LiveTarget(np.zeros((2, 5, 5), int))


def test_what_a_change_costs_is_known_before() -> None:
    labels = np.zeros((500, 600), np.int32)
    live = LiveTarget(labels, weights=WeightMapSettings(sigma=2))
    assert live.changed(labels) is None
    labels[100:110, 200:210] = 1
    assert live.changed(labels) == live.changed(labels, (0, 0, 300, 300)) == (100, 200, 110, 210)
    assert live.changed(labels, (0, 0, 90, 90)) is None
    box = live.update(labels)
    assert box is not None
    assert live.cost((100, 200, 110, 210)) == (box[2] - box[0]) * (box[3] - box[1]) < 60 * 60
    with pytest.raises(InputError, match="shape"):
        live.changed(labels[1:])
