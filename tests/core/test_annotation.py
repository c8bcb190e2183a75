"""What painted labels mean: target, state, weight, counts and warnings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.core.annotation import (
    State,
    TrainingTarget,
    check_trainable,
    read_convention,
    training_target,
)
from napari_unet.core.errors import AnnotationError, InputError
from napari_unet.core.separation import near_object, separate
from napari_unet.core.settings import AnnotationSettings, Area, WeightMapSettings
from napari_unet.core.unet import UNet
from napari_unet.core.weight_map import weight_map

Labels = npt.NDArray[np.int32]
EVERYWHERE = AnnotationSettings(area="all")
EIGHT = np.ones((3, 3), bool)


@st.composite
def paintings(draw: st.DrawFn, largest: int = 36) -> Labels:
    """Crowded rectangles, some touching, and some painted background."""
    shape = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    labels = np.zeros(shape, np.int32)
    for number in range(1, draw(st.integers(1, 9))):
        y, x = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        labels[y : y + draw(st.integers(1, 9)), x : x + draw(st.integers(1, 9))] = number
    y, x = draw(st.integers(0, shape[0])), draw(st.integers(0, shape[1]))
    labels[y : y + 3, x : x + 4] = -1
    return labels


def some_boxes(shape: tuple[int, ...]) -> st.SearchStrategy[list[tuple[int, ...]]]:
    corner = st.tuples(st.integers(-3, shape[0] + 3), st.integers(-3, shape[1] + 3))
    return st.lists(st.tuples(corner, corner).map(lambda two: (*two[0], *two[1])), max_size=3)


def inside_boxes(shape: tuple[int, ...], boxes: list[tuple[int, ...]]) -> npt.NDArray[np.bool_]:
    rows, columns = np.indices(shape)
    inside = np.zeros(shape, bool)
    for a, b, c, d in boxes:
        inside |= (
            (rows >= min(a, c))
            & (rows < max(a, c))
            & (columns >= min(b, d))
            & (columns < max(b, d))
        )
    return inside


def painted_example() -> Labels:
    """Two touching cells, one apart, one background stroke."""
    labels = np.zeros((60, 60), np.int32)
    labels[10:20, 10:20], labels[10:20, 20:30], labels[40:46, 40:46] = 1, 2, 3
    labels[55:58, 5:9] = -1
    return labels


@settings(max_examples=60, deadline=None)
@given(paintings(), st.sampled_from(["painted", "around", "boxes", "all"]), st.data())
def test_states_follow_the_area(labels: Labels, area: Area, data: st.DataObject) -> None:
    margin = data.draw(st.sampled_from([0.0, 1.0, 3.5, 10.0, 60.0]))
    ridge = data.draw(st.integers(0, 3))
    boxes = data.draw(some_boxes(labels.shape))
    result = training_target(
        labels,
        settings=AnnotationSettings(area=area, margin=margin),
        weights=WeightMapSettings(ridge=ridge),
        boxes=boxes,
    )
    distance = np.full(labels.shape, np.inf)
    if (labels > 0).any():
        distance = ndimage.distance_transform_edt(labels <= 0)
    trained = {
        "painted": labels != 0,
        "around": (labels != 0) | (distance <= margin),
        "boxes": inside_boxes(labels.shape, boxes),
        "all": np.ones(labels.shape, bool),
    }[area]
    kept = separate(labels, ridge)
    np.testing.assert_array_equal(result.state != State.IGNORED, trained)
    np.testing.assert_array_equal(result.target, trained & (kept > 0))
    np.testing.assert_array_equal(result.state == State.OBJECT, trained & (kept > 0))
    expected = weight_map(kept, mask=trained)
    np.testing.assert_allclose(result.weight, expected, rtol=1e-5, atol=1e-5)
    raised = result.weight - weight_map(kept, mask=trained, w0=0) > 0.05 * 10
    np.testing.assert_array_equal(result.state == State.EMPHASISED, raised)
    assert (result.weight[~trained] == 0).all()
    assert (result.weight[trained] > 0).all()


@settings(max_examples=40, deadline=None)
@given(paintings(), st.sampled_from(["painted", "around", "boxes", "all"]), st.data())
def test_counts_are_those_of_the_arrays(labels: Labels, area: Area, data: st.DataObject) -> None:
    boxes = data.draw(some_boxes(labels.shape))
    w0 = data.draw(st.sampled_from([0.0, 10.0]))
    result = training_target(
        labels,
        settings=AnnotationSettings(area=area),
        weights=WeightMapSettings(w0=w0),
        boxes=boxes,
    )
    counts, state = result.counts, result.state
    assert counts.ignored == (state == State.IGNORED).sum()
    assert counts.background == (state == State.BACKGROUND).sum()
    assert counts.object_pixels == (state == State.OBJECT).sum()
    assert counts.emphasised == (state == State.EMPHASISED).sum()
    assert counts.trained == (state != State.IGNORED).sum()
    assert counts.objects == len(np.unique(labels[(state == State.OBJECT)]))
    assert counts.classes == (counts.background + counts.emphasised, counts.object_pixels)
    if w0 == 0:
        assert counts.emphasised == 0


@settings(max_examples=80, deadline=None)
@given(paintings(), st.integers(1, 6))
def test_objects_are_never_connected_after_the_ridge(labels: Labels, ridge: int) -> None:
    """Complaint 3."""
    kept = separate(labels, ridge)
    for number in np.unique(kept[kept > 0]):
        around = ndimage.binary_dilation(kept == number, EIGHT)
        assert set(np.unique(kept[around])) <= {-1, 0, number}
    changed = kept != labels
    assert (kept[changed] == 0).all()
    assert (labels[changed] > 0).all()


@pytest.mark.parametrize("ridge", [0, 1, 2, 3, 4, 5])
def test_ridge_between_touching_walls_has_the_asked_width(ridge: int) -> None:
    labels = np.ones((8, 20), np.int32)
    labels[:, 10:] = 2
    assert ((separate(labels, ridge) == 0).sum(axis=1) == ridge).all()


def test_ridge_leaves_objects_apart_as_they_are() -> None:
    labels = np.zeros((8, 8), np.int32)
    labels[2:4, 1:3], labels[2:4, 4:6] = 1, 2
    np.testing.assert_array_equal(separate(labels, 1), labels)


@settings(max_examples=60, deadline=None)
@given(paintings(), st.floats(0, 70), st.sampled_from([(1.0, 1.0), (0.5, 2.0), (3.0, 0.7)]))
def test_near_object_equals_a_distance_transform(
    labels: Labels, margin: float, spacing: tuple[float, float]
) -> None:
    if not (labels > 0).any():
        assert not near_object(labels, margin, spacing).any()
        return
    distance = ndimage.distance_transform_edt(labels <= 0, sampling=spacing)
    near = near_object(labels, margin, spacing)
    np.testing.assert_array_equal(near[distance < margin - 1e-6], True)
    np.testing.assert_array_equal(near[distance > margin + 1e-6], False)


def test_object_cut_by_a_box_has_no_edge_there() -> None:
    """Complaint 8: a cell cut by the annotated area gives no made-up border.

    Beside the box's edge the neighbour's distance is that to the whole painted cell, and no
    pixel outside the box is trained.
    """
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 5:15], labels[10:30, 17:40] = 1, 2
    box = (0, 0, 40, 20)
    cut = training_target(labels, settings=AnnotationSettings(area="boxes"), boxes=[box])
    whole = training_target(labels, settings=EVERYWHERE)
    in_box = (slice(0, 40), slice(0, 20))
    np.testing.assert_array_equal(cut.state[in_box], whole.state[in_box])
    np.testing.assert_array_equal(cut.target[in_box], whole.target[in_box])
    no_balance = WeightMapSettings(class_balance=False)
    cut_weight = training_target(
        labels, settings=AnnotationSettings(area="boxes"), weights=no_balance, boxes=[box]
    ).weight
    whole_weight = training_target(labels, settings=EVERYWHERE, weights=no_balance).weight
    np.testing.assert_array_equal(cut_weight[in_box], whole_weight[in_box])
    assert (cut.state[:, 20:] == State.IGNORED).all()
    assert any("Object 2 is cut by a box" in sentence for sentence in cut.warnings)


def test_object_cut_by_the_image_border_has_no_edge_there() -> None:
    """Complaint 8: the border of the image is not a border of the cell."""
    labels = np.zeros((30, 60), np.int32)
    labels[5:15, :8], labels[5:15, 11:20] = 1, 2
    larger = np.zeros((30, 70), np.int32)
    larger[:, 10:], larger[5:15, :18] = labels, 1
    weights = WeightMapSettings(class_balance=False)
    small = training_target(labels, settings=EVERYWHERE, weights=weights)
    large = training_target(larger, settings=EVERYWHERE, weights=weights)
    gap = (slice(5, 15), slice(8, 11))
    np.testing.assert_array_equal(small.weight[gap], large.weight[:, 10:][gap])
    assert (small.state[5:15, 0] == State.OBJECT).all()


def test_five_cells_in_a_corner_are_a_valid_training_set() -> None:
    """Complaint 5: the annotation needs not be dense."""
    labels = np.zeros((300, 300), np.int32)
    for k in range(5):
        labels[5:15, 5 + 14 * k : 15 + 14 * k] = k + 1
    result = training_target(labels)
    check_trainable(result)
    assert result.warnings == ()
    assert result.counts.objects == 5
    assert (result.state[40:, :] == State.IGNORED).all()
    assert result.counts.background + result.counts.emphasised > 500


@pytest.mark.parametrize("seed", range(3))
def test_target_of_an_ignored_pixel_changes_no_gradient(seed: int) -> None:
    """Complaint 4: an ignored pixel's target changes loss and every gradient by exactly 0."""
    torch.manual_seed(seed)
    net = UNet(1, 2, base_channels=4, depth=2, padding="same", norm="batch", dropout=0.0)
    rng = np.random.default_rng(seed)
    labels = np.zeros((32, 32), np.int32)
    labels[3:9, 4:12], labels[9:14, 4:12] = 1, 2
    prepared = training_target(labels, settings=AnnotationSettings(area="around", margin=3))
    ignored = prepared.state == State.IGNORED
    assert 0 < ignored.sum() < ignored.size
    image = torch.from_numpy(rng.normal(size=(1, 1, 32, 32)).astype(np.float32))
    weight = torch.from_numpy(prepared.weight)[None]

    def loss_and_gradients(target: npt.NDArray[np.integer]) -> list[torch.Tensor]:
        net.zero_grad()
        per_pixel = torch.nn.functional.cross_entropy(
            net(image), torch.from_numpy(target.astype(np.int64))[None], reduction="none"
        )
        loss = (per_pixel * weight).sum() / weight.sum()
        torch.autograd.backward(loss)
        return [loss.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]

    perturbed = np.where(ignored, rng.integers(0, 2, labels.shape), prepared.target)
    assert (perturbed != prepared.target).any()
    before, after = loss_and_gradients(prepared.target), loss_and_gradients(perturbed)
    assert len(before) > 10
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)
    trained_flip = np.where(ignored, prepared.target, 1 - prepared.target)
    assert not torch.equal(before[0], loss_and_gradients(trained_flip)[0])


def test_classes_keep_their_numbers_and_their_balance() -> None:
    labels = np.zeros((20, 20), np.int16)
    labels[:4], labels[4:6], labels[10:12] = 1, 3, -1
    result = training_target(labels, settings=AnnotationSettings(task="classes"))
    np.testing.assert_array_equal(result.target, np.where(labels > 0, labels, 0))
    np.testing.assert_array_equal(result.state == State.IGNORED, labels == 0)
    assert result.counts.classes == (40, 80, 0, 40)
    assert (result.n_classes, result.counts.objects) == (4, 2)
    totals = [result.weight[labels == k].sum() for k in (-1, 1, 3)]
    np.testing.assert_allclose(totals, 160 / 3, rtol=1e-5)
    check_trainable(result)


def test_unlabelled_is_background_for_classes_with_area_all() -> None:
    labels = np.zeros((6, 6), int)
    labels[0] = 2
    result = training_target(labels, settings=AnnotationSettings(task="classes", area="all"))
    assert result.counts.classes == (30, 0, 6)


def test_many_classes_need_two_bytes_and_are_named() -> None:
    labels = np.arange(900).reshape(30, 30)
    result = training_target(labels, settings=AnnotationSettings(task="classes"))
    assert result.target.dtype == np.uint16
    np.testing.assert_array_equal(result.target, labels)
    assert "900 classes" in result.warnings[0]
    with pytest.raises(InputError, match="too high for a class"):
        training_target(labels + 70_000, settings=AnnotationSettings(task="classes"))


def test_stacks_are_planes_on_their_own() -> None:
    first = painted_example()
    second = np.rot90(first) * (first.T != 3)
    stack = training_target(np.stack([first, second])[:, None])
    for one, labels in zip((0, 1), (first, second), strict=True):
        alone = training_target(labels)
        np.testing.assert_array_equal(stack.weight[one, 0], alone.weight)
        np.testing.assert_array_equal(stack.state[one, 0], alone.state)
        np.testing.assert_array_equal(stack.target[one, 0], alone.target)
    each = [training_target(labels).counts for labels in (first, second)]
    assert stack.counts.objects == each[0].objects + each[1].objects
    assert stack.counts.ignored == each[0].ignored + each[1].ignored


def test_lengths_are_divided_by_the_scale() -> None:
    """At half the scale of the network a margin of 10 reaches 20 px of the image."""
    labels = painted_example()
    narrow = WeightMapSettings(ridge=1)
    half = training_target(labels, weights=narrow, scale=0.5)
    direct = training_target(
        labels,
        settings=AnnotationSettings(margin=20),
        weights=WeightMapSettings(sigma=10, ridge=2),
    )
    np.testing.assert_array_equal(half.weight, direct.weight)
    np.testing.assert_array_equal(half.state, direct.state)
    large = training_target(labels, weights=narrow, scale=10)
    assert large.target[10:20, 10:30].sum() == 190


@pytest.mark.parametrize("spacing", [None, (0.2, 0.5)])
def test_objects_of_a_pixel_have_background_around_them(
    spacing: tuple[float, float] | None,
) -> None:
    """Complaint 24: enlarged for the network, a margin of 10 was less than one of their pixels."""
    labels = np.zeros((30, 40), np.int16)
    labels[5::10, 5::10] = np.arange(1, 13).reshape(3, 4)
    counts = training_target(labels, spacing=spacing, scale=60).counts
    assert counts.object_pixels == 12
    assert counts.background + counts.emphasised >= 4 * 12


def test_spacing_stretches_margin_and_distances() -> None:
    labels = painted_example()
    apart = separate(labels, 1)
    result = training_target(labels, weights=WeightMapSettings(ridge=1), spacing=(2.0, 0.5))
    distance = ndimage.distance_transform_edt(labels <= 0, sampling=(2.0, 0.5))
    trained = (labels != 0) | (distance <= 10)
    np.testing.assert_array_equal(result.state != State.IGNORED, trained)
    expected = weight_map(apart, spacing=(2.0, 0.5), mask=trained)
    np.testing.assert_allclose(result.weight, expected, rtol=1e-5)


def _painted(*changes: tuple[int, int, int, int, int]) -> Labels:
    labels = painted_example()
    for y0, x0, y1, x1, value in changes:
        labels[y0:y1, x0:x1] = value
    return labels


@pytest.mark.parametrize(
    ("labels", "area", "boxes", "words"),
    [
        (_painted((0, 0, 60, 60, 0)), "around", None, "No object is painted yet"),
        (_painted((0, 20, 60, 60, 0), (55, 0, 60, 60, 0)), "painted", None, "no background"),
        (_painted((50, 50, 51, 51, 4)), "around", None, "Object 4 is a single pixel"),
        (
            _painted((50, 50, 51, 51, 4), (3, 50, 4, 51, 5)),
            "around",
            None,
            r"2 objects \(4, 5\) are a single pixel",
        ),
        (_painted((0, 50, 3, 53, 3)), "around", None, "Object 3 has pieces far apart"),
        (_painted((9, 10, 10, 20, 4)), "around", None, "Object 4 is too thin and vanishes"),
        (_painted((0, 0, 60, 30, 3), (0, 30, 60, 60, 4)), "around", None, "were not exchanged"),
        (_painted(), "boxes", [], "No box is drawn"),
        (_painted(), "boxes", [(0, 35, 9, 60)], "every painted object lies outside"),
        (_painted(), "boxes", [(0, 0, 15, 60)], r"2 objects \(1, 2\) are cut by a box"),
    ],
)
def test_what_may_spoil_training_is_said(
    labels: Labels, area: Area, boxes: list[tuple[int, ...]] | None, words: str
) -> None:
    result = training_target(labels, settings=AnnotationSettings(area=area), boxes=boxes)
    assert len(result.warnings) == 1
    assert re.search(words, result.warnings[0])


def test_objects_that_all_vanish_are_not_blamed_on_boxes() -> None:
    labels = np.arange(1, 401, dtype=np.int32).reshape(20, 20).repeat(2, axis=1)
    labels[0] = 0
    with pytest.raises(AnnotationError, match="too thin and vanish under the ridge"):
        check_trainable(training_target(labels, weights=WeightMapSettings(ridge=2)))


def test_an_image_given_in_place_of_its_labels_is_named_first() -> None:
    """Every pixel touches other numbers; to erase single pixels would not help."""
    image = np.random.default_rng(0).integers(1, 1000, (20, 20))
    with pytest.raises(AnnotationError, match="image and labels were not exchanged"):
        check_trainable(training_target(image))


def test_a_good_annotation_has_no_warnings() -> None:
    assert training_target(painted_example()).warnings == ()


def test_pieces_near_each_other_are_one_object() -> None:
    labels = np.zeros((40, 40), int)
    labels[5:15, 5:15] = labels[5:15, 18:28] = 1
    assert training_target(labels).warnings == ()


@pytest.mark.parametrize(
    ("labels", "area", "words"),
    [
        (np.zeros((9, 9), int), "around", "paint at least one"),
        (np.ones((9, 9), int), "around", "no background"),
        (np.full((9, 9), -1), "around", "paint at least one"),
        (np.eye(9, dtype=int), "boxes", "draw a box"),
        (np.repeat([[0, 1, 2, 0]], 9, axis=0), "all", "vanish under the ridge"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(labels: Labels, area: Area, words: str) -> None:
    """Complaint 24: it trains, or says clearly why not."""
    result = training_target(labels, settings=AnnotationSettings(area=area))
    with pytest.raises(AnnotationError, match=words):
        check_trainable(result)


def test_several_targets_are_judged_together() -> None:
    def of(value: int) -> TrainingTarget:
        return training_target(np.full((9, 9), value))

    check_trainable([of(1), of(-1)])
    with pytest.raises(AnnotationError):
        check_trainable([of(1), of(1)])
    with pytest.raises(AnnotationError):
        check_trainable([])


@pytest.mark.parametrize(
    ("labels", "area"),
    [
        (np.ones((2, 9, 9), int), "painted"),  # the same class on two planes
        (np.where(np.indices((9, 9))[0] < 4, 1, 2), "boxes"),  # the other class is outside
    ],
)
def test_one_trained_class_alone_misses_the_background(labels: Labels, area: Area) -> None:
    settings = AnnotationSettings(task="classes", area=area)
    result = training_target(labels, settings=settings, boxes=[(0, 0, 4, 9)])
    assert result.warnings[0].startswith("There is no background")
    with pytest.raises(AnnotationError, match="no background"):
        check_trainable(result)


def test_one_cell_in_one_image_is_enough() -> None:
    labels = np.zeros((9, 9), bool)
    labels[4, 4:6] = True
    check_trainable(training_target(labels))


def test_stardist_labels() -> None:
    labels = np.array([[0, -1, 5]])
    assert read_convention(labels, "stardist").tolist() == [[-1, 0, 5]]


def test_nnunet_labels() -> None:
    labels = np.array([[0, 1, 2, 3]], np.uint8)
    assert read_convention(labels, "nnunet").tolist() == [[-1, 1, 2, 0]]
    assert read_convention(labels, "nnunet", ignore_label=9).tolist() == [[-1, 1, 2, 3]]


def test_ignore_mask() -> None:
    labels = np.array([[0, 1, 2, 0]], np.uint8)
    mask = np.array([[1, 1, 0, 0]])
    assert read_convention(labels, ignore_mask=mask).tolist() == [[0, 0, 2, -1]]
    assert read_convention(labels, "stardist", mask).tolist() == [[0, 0, 2, -1]]


def test_own_labels_are_taken_as_they_are() -> None:
    labels = np.array([[0, -1, 7]])
    result = read_convention(labels)
    assert result.tolist() == labels.tolist()
    assert result is not labels


def test_conventions_are_never_guessed() -> None:
    labels = np.zeros((2, 2), int)
    with pytest.raises(InputError, match="no label above 0"):
        read_convention(labels, "nnunet")
    with pytest.raises(InputError, match="must be napari-unet"):
        read_convention(labels, "cellpose")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shape"):
        read_convention(labels, ignore_mask=np.zeros((3, 2)))


@pytest.mark.parametrize("boxes", [[1, 2, 3, 4], [[1, 2, 3]], [[0, 0, np.nan, 5]], "box", [["a"]]])
def test_unusable_boxes_are_refused(boxes: object) -> None:
    with pytest.raises(InputError, match="four finite numbers"):
        training_target(np.ones((4, 4)), settings=AnnotationSettings(area="boxes"), boxes=boxes)


@pytest.mark.parametrize("scale", [0, -1, np.nan])
def test_unusable_scales_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match="scale"):
        training_target(np.ones((4, 4)), scale=scale)


def test_sparsely_painted_real_images_leave_the_rest_alone(shared_data: Path) -> None:
    """Complaints 4 and 5: five to nine painted nuclei, the other nuclei are not background."""
    paths = sorted((shared_data / "bbbc007_sparse" / "masks").glob("*.tif"))
    assert paths
    for path in paths:
        labels = tifffile.imread(path)
        result = training_target(labels)
        check_trainable(result)
        assert result.counts.objects == len(np.unique(labels)) - 1
        assert result.counts.ignored > 0.5 * labels.size
        far = ndimage.distance_transform_edt(labels == 0) > 10
        assert (result.weight[far] == 0).all()
