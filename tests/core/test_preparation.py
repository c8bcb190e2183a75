"""From annotated planes to training data: scale, split without leak, windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core import preparation
from napari_unet.core.annotation import training_target
from napari_unet.core.errors import AnnotationError
from napari_unet.core.model import Model
from napari_unet.core.normalization import Normalization
from napari_unet.core.pairs import AnnotatedPlane, TrainingPair, annotated_planes
from napari_unet.core.preparation import PreparedData, prepare, scale_factors
from napari_unet.core.settings import AnnotationSettings, TrainSettings, WeightMapSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.unet import UNet

Labels = npt.NDArray[np.integer[Any]]
SETTINGS = TrainSettings(crop=32)
CLASSES = replace(SETTINGS, annotation=AnnotationSettings(task="classes"))


def discs(
    centres: list[tuple[int, int]], radius: int = 6, shape: tuple[int, int] = (100, 120)
) -> Labels:
    labels = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    for number, (y, x) in enumerate(centres, start=1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = number
    return labels


def row_of_discs(count: int, radius: int = 6) -> Labels:
    return discs([(30, 12 + 2 * (radius + 2) * k) for k in range(count)], radius, (80, 20 * count))


def planes_of(*labels: Labels, **options: Any) -> list[AnnotatedPlane]:
    rng = np.random.default_rng(0)
    return annotated_planes([TrainingPair(rng.random(one.shape), one, **options) for one in labels])


def prepared(
    planes: list[AnnotatedPlane],
    settings_: TrainSettings = SETTINGS,
    factors: list[float] | None = None,
) -> PreparedData:
    return prepare(
        planes,
        factors or [1.0] * len(planes),
        20.0,
        settings_,
        Normalization(),
        torch.device("cpu"),
    )


def trained_and_held_back(data: PreparedData, shape: tuple[int, int]) -> tuple[Any, Any]:
    """Return the weights of the training and of the validation side, on the whole plane."""
    trained = data.images[0].weight.numpy()
    assert trained.shape == shape
    held = np.zeros(shape, np.float32)
    for region in data.validation:
        held[region.window] = region.weight
    return trained, held


# --- validation split --------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["around", "all", "painted"]),
    st.floats(0.05, 0.5),
)
def test_no_pixel_is_both_trained_and_judged(seed: int, area: Any, fraction: float) -> None:
    """Complaint 7: a spatial split from one image, without leak."""
    _, labels = simulate_nuclei((120, 150), 12, diameter=14, seed=seed)
    labels[:3] = -1
    options = replace(
        SETTINGS, seed=seed, validation=fraction, annotation=AnnotationSettings(area=area, margin=6)
    )
    (plane,) = planes_of(labels)
    data = prepared([plane], options)
    trained, held = trained_and_held_back(data, labels.shape)
    target = training_target(labels, settings=options.annotation, weights=options.weights)
    assert not ((trained > 0) & (held > 0)).any()
    np.testing.assert_array_equal(trained + held, target.weight)
    # Objects are not divided either.
    used = np.where(target.weight > 0, labels, 0)
    on_both = np.intersect1d(np.unique(used[trained > 0]), np.unique(used[held > 0]))
    assert set(on_both) <= {0, -1}
    held_ids = np.unique(used[held > 0])
    assert data.validation_objects == (held_ids > 0).sum()
    count = len(np.unique(used[used > 0]))
    assert data.validation_objects == max(1, round(fraction * count))
    assert data.objects == count


def test_held_back_cells_are_neighbours_at_one_side() -> None:
    labels = row_of_discs(10)
    data = prepared(planes_of(labels))
    assert data.validation_objects == 2
    (region,) = data.validation
    assert len(np.unique(region.labels)) == 3
    columns = region.window[1]
    assert columns.start < 10 or columns.stop > 140
    trained, held = trained_and_held_back(data, labels.shape)
    # Only along one seam does a judged pixel have a trained neighbour.
    beside = (trained[:, 1:] > 0) & (held[:, :-1] > 0) | (trained[:, :-1] > 0) & (held[:, 1:] > 0)
    assert beside.any(axis=0).sum() <= 2


def test_both_sides_are_held_back_with_different_seeds() -> None:
    labels = row_of_discs(10)
    starts = set()
    for seed in range(8):
        data = prepared(planes_of(labels), replace(SETTINGS, seed=seed))
        starts.add(data.validation[0].window[1].start < 40)
    assert starts == {True, False}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_of_few_objects_none_is_held_back(count: int) -> None:
    """Complaints 5 and 24: each cell matters more for learning."""
    data = prepared(planes_of(row_of_discs(count)))
    assert data.validation == () and data.validation_objects == 0
    assert data.objects == count and len(data.painted) == 1


def test_of_many_images_with_few_cells_each_whole_images_are_held_back() -> None:
    """Forty cells on ten images are enough to judge a network on some of them."""
    planes = planes_of(*[row_of_discs(4)] * 10)
    data = prepared(planes)
    assert data.objects == 40 and data.validation_objects == 8
    assert len(data.images) == 8 and len(data.validation) == 2
    assert all(image.weight.any() for image in data.images)
    judged = {id(region.plane) for region in data.validation}
    ends = ({id(p.plane) for p in planes[:2]}, {id(p.plane) for p in planes[-2:]})
    assert judged in ends


def test_cells_in_the_corner_of_a_large_plane_are_split_like_those_of_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_plane = row_of_discs(6)
    height, width = small_plane.shape
    large_plane = np.zeros((900, 1000), np.int32)
    large_plane[:height, :width] = small_plane
    measured: list[int] = []
    transform = preparation.ndimage.distance_transform_edt

    def noted(mask: Any, **options: Any) -> Any:
        measured.append(mask.size)
        return transform(mask, **options)

    monkeypatch.setattr(preparation.ndimage, "distance_transform_edt", noted)
    one, other = (prepared(planes_of(labels)) for labels in (small_plane, large_plane))
    assert one.validation_objects == other.validation_objects == 1
    assert one.validation[0].window == other.validation[0].window
    np.testing.assert_array_equal(one.validation[0].weight, other.validation[0].weight)
    assert max(measured) <= small_plane.size


def test_without_a_fraction_nothing_is_held_back() -> None:
    data = prepared(planes_of(row_of_discs(9)), replace(SETTINGS, validation=0))
    assert data.validation == ()


def test_one_cell_in_the_corner_of_one_image_is_enough() -> None:
    """Complaints 5, 7 and 24."""
    labels = np.zeros((90, 70), np.uint8)
    labels[-8:, -9:] = 3
    data = prepared(planes_of(labels))
    assert data.objects == 1 and data.n_classes == 2
    assert 0 < data.trained_pixels < labels.size / 4
    assert data.images[0].objects.tolist() == [[86, 65]]


def test_classes_hold_back_a_strip_that_leaves_every_class_to_learn() -> None:
    labels = np.zeros((60, 100), np.int32)
    labels[10:20], labels[30:40], labels[50:55] = 1, 2, -1
    data = prepared(planes_of(labels), CLASSES)
    trained, held = trained_and_held_back(data, labels.shape)
    target = training_target(labels, settings=CLASSES.annotation)
    np.testing.assert_array_equal(trained + held, target.weight)
    assert not ((trained > 0) & (held > 0)).any()
    assert 0.15 < (held > 0).sum() / (target.weight > 0).sum() < 0.25
    assert set(np.unique(labels[trained > 0])) == {-1, 1, 2}
    held_columns = np.flatnonzero((held > 0).any(axis=0))
    assert np.ptp(held_columns) < 25
    assert data.n_classes == 3


def test_classes_hold_nothing_back_when_a_class_would_be_lost() -> None:
    labels = np.zeros((40, 100), np.int32)
    labels[10:20, :12], labels[10:20, 15:85], labels[10:20, 88:] = 1, 2, 3
    data = prepared(planes_of(labels), CLASSES)
    assert data.validation == ()
    assert set(data.images[0].target[data.images[0].weight > 0].tolist()) == {1, 2, 3}


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_background_painted_at_one_side_does_not_hinder_holding_back(seed: int) -> None:
    labels = np.zeros((40, 100), np.int32)
    labels[10:20] = 1
    labels[30:33, :5] = labels[30:33, -5:] = -1
    labels[30:33, 50 * (seed % 2) : 50 * (seed % 2) + 50] = 0
    everywhere = AnnotationSettings(task="classes", area="all")
    data = prepared(planes_of(labels), replace(SETTINGS, annotation=everywhere, seed=seed))
    assert data.validation_objects == 1


def test_classes_are_not_judged_on_background_alone() -> None:
    labels = np.zeros((40, 100), np.int32)
    labels[10:20, 40:60] = 1
    everywhere = replace(SETTINGS, annotation=AnnotationSettings(task="classes", area="all"))
    data = prepared(planes_of(labels), everywhere)
    assert data.validation == () and data.validation_objects == 0


# --- what is judged ----------------------------------------------------------------------------


def test_cells_far_apart_on_a_large_plane_are_judged_without_what_lies_between() -> None:
    labels = discs([(20, 20), (40, 60), (2470, 2480), (30, 2450)], 6, (2500, 2500))
    data = prepared(planes_of(labels))
    assert len(data.painted) == 3
    assert sum(region.cost for region in data.painted) < 20_000
    assert sorted(int(region.labels.max()) for region in data.painted) == [1, 1, 2]


@pytest.mark.parametrize("factor", [0.37, 1.0, 2.6])
@pytest.mark.parametrize("apart", [1, 9, 40])
def test_every_pixel_is_judged_once(
    factor: float, apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_LARGEST_PLANE", 0)
    monkeypatch.setattr(preparation, "_APART", apart)
    rng = np.random.default_rng(apart)
    labels = np.kron(rng.random((9, 11)) < 0.3, np.ones((7, 6), int)) * rng.integers(-1, 2)
    labels[3:8, 2:5], labels[50:, 60:], labels[40:42, 10] = 4, 5, -1
    target = training_target(labels, settings=AnnotationSettings(area="painted"))
    compared = np.zeros(labels.shape)
    for window, weight in preparation._compared_parts(target.weight, factor):
        assert weight[0].any() and weight[-1].any()
        assert weight[:, 0].any() and weight[:, -1].any()
        compared[window] += weight
    np.testing.assert_array_equal(compared, target.weight)


# --- what is handed on -------------------------------------------------------------------------


def test_a_large_plane_is_cut_around_its_annotation(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = discs([(130, 180), (145, 200)], shape=(300, 400))
    whole = prepared(planes_of(labels)).images[0]
    monkeypatch.setattr(preparation, "_LARGEST_PLANE", 1000)
    cut = prepared(planes_of(labels)).images[0]
    assert cut.image.shape[-2:] == cut.target.shape < whole.target.shape
    top, left = (whole.pixels[0] - cut.pixels[0]).tolist()
    assert top > 0 and left > 0
    height, width = cut.target.shape
    window = np.s_[top : top + height, left : left + width]
    for name in ("image", "target", "weight"):
        torch.testing.assert_close(getattr(cut, name), getattr(whole, name)[..., *window])
    assert torch.equal(cut.objects + torch.tensor([top, left]), whole.objects)
    # A crop that is rotated and zoomed around any trained pixel still lies inside.
    margin = 1.5 * SETTINGS.crop
    trained = torch.nonzero(cut.weight)
    assert trained.amin() >= margin - 1
    assert (torch.tensor([height, width]) - trained.amax(0)).min() >= margin


def test_the_intensity_scale_is_that_of_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Complaint 17: never one scale per crop or window."""
    monkeypatch.setattr(preparation, "_LARGEST_PLANE", 1000)
    labels = discs([(40, 40)], shape=(200, 200))
    image = np.random.default_rng(0).random((200, 200))
    image[120:] *= 50
    data = prepared(annotated_planes([(image, labels)]))
    assert float(data.images[0].image.max()) < 0.1
    expected = Normalization().measure(annotated_planes([(image, labels)])[0].plane)
    assert data.painted[0].scale.offset == expected.offset


def test_images_are_held_at_the_scale_of_the_network() -> None:
    labels = discs([(40, 40), (40, 80)])
    (plane,) = planes_of(labels)
    data = prepared([plane], factors=[0.5])
    (image,) = data.images
    assert image.image.shape == (1, 50, 60) and image.factor == 0.5
    assert image.target.shape == labels.shape
    target = training_target(labels, scale=0.5)
    np.testing.assert_array_equal(image.weight.numpy(), target.weight)
    assert data.painted[0].cost == pytest.approx(data.painted[0].labels.size / 4)


def test_anisotropic_pixels_stretch_the_weight_map() -> None:
    labels = discs([(30, 30), (30, 44), (44, 30)])
    data = prepared(planes_of(labels, spacing=(4.0, 1.0)))
    expected = training_target(labels, spacing=(2.0, 0.5))
    np.testing.assert_allclose(data.images[0].weight.numpy(), expected.weight, rtol=1e-5)
    square = prepared(planes_of(labels, spacing=(3.0, 3.0)))
    np.testing.assert_array_equal(square.images[0].weight.numpy(), training_target(labels).weight)


def test_the_settings_of_the_weight_map_are_used() -> None:
    labels = discs([(30, 30), (30, 44)])
    weights = WeightMapSettings(w0=3, sigma=2, class_balance=False)
    data = prepared(planes_of(labels), replace(SETTINGS, weights=weights))
    expected = training_target(labels, weights=weights)
    np.testing.assert_array_equal(data.images[0].weight.numpy(), expected.weight)


def test_huge_ids_cost_no_memory() -> None:
    """Ids of other tools may be anything; tables must not follow the largest."""
    labels = discs([(30, 30), (60, 60)]).astype(np.int64)
    labels[labels == 2] = 2**40
    data = prepared(planes_of(labels))
    (region,) = data.painted
    assert region.labels.dtype == np.int32
    assert np.unique(region.labels).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(region.labels == 2, labels[region.window] == 2**40)


def test_an_image_of_background_alone_joins_one_with_objects() -> None:
    """Negative examples are worth training on; alone they are not enough."""
    background = np.full((40, 40), -1)
    data = prepared(planes_of(discs([(40, 40)]), background))
    assert len(data.images) == 2 and data.objects == 1
    with pytest.raises(AnnotationError):
        prepared(planes_of(background))


def test_boxes_that_miss_every_object_are_explained() -> None:
    boxed = replace(SETTINGS, annotation=AnnotationSettings(area="boxes"))
    planes = planes_of(discs([(40, 40)]), boxes=np.array([[80, 80, 100, 100]]))
    with pytest.raises(AnnotationError, match="outside the boxes"):
        prepared(planes, boxed)


# --- object size -------------------------------------------------------------------------------


def base_model(diameter: float | None) -> Model:
    net = UNet(base_channels=2, depth=1, padding="same", dropout=0)
    return Model(net.eval(), diameter=diameter)


def test_the_training_diameter_of_the_base_is_matched_per_image() -> None:
    small, large = discs([(40, 40), (60, 60)], 5), discs([(40, 40), (70, 70)], 20)
    factors, diameter = scale_factors(planes_of(small, large), SETTINGS, base_model(24.0))
    assert diameter == 24
    assert factors[0] == pytest.approx(24 / 9.7, rel=0.05)
    assert factors[1] == pytest.approx(24 / 39.7, rel=0.05)


def test_an_image_without_objects_takes_the_scale_of_the_others() -> None:
    background = np.full((40, 40), -1)
    factors, _ = scale_factors(
        planes_of(discs([(40, 40)], 5), background), SETTINGS, base_model(24.0)
    )
    assert factors[0] == factors[1] > 2


@pytest.mark.parametrize(("radius", "expected"), [(4, 14.0), (10, None), (30, 28.0)])
def test_from_scratch_objects_are_brought_into_the_range_of_the_network(
    radius: int, expected: float | None
) -> None:
    factors, diameter = scale_factors(planes_of(discs([(50, 50)], radius)), SETTINGS, None)
    if expected is None:
        assert factors == [1.0] and diameter == pytest.approx(2 * radius, rel=0.06)
    else:
        assert diameter == expected
        assert factors[0] == pytest.approx(expected / (2 * radius), rel=0.15)


def test_the_diameter_of_the_user_wins() -> None:
    options = replace(SETTINGS, diameter=48.0)
    factors, diameter = scale_factors(planes_of(discs([(50, 50)], 9)), options, base_model(24.0))
    assert factors == [0.5] and diameter == 24


def test_almost_the_right_size_is_not_resampled() -> None:
    options = replace(SETTINGS, diameter=24.9)
    factors, _ = scale_factors(planes_of(discs([(50, 50)])), options, base_model(24.0))
    assert factors == [1.0]


def test_classes_and_models_without_a_diameter_are_not_resampled() -> None:
    planes = planes_of(discs([(50, 50)], 30))
    assert scale_factors(planes, CLASSES, None) == ([1.0], None)
    assert scale_factors(planes, SETTINGS, base_model(None)) == ([1.0], None)


def test_painted_background_alone_has_no_object_size() -> None:
    with pytest.raises(AnnotationError, match="only background"):
        scale_factors(planes_of(np.full((9, 9), -1)), SETTINGS, None)


def test_a_plane_of_background_is_no_reason_to_warn() -> None:
    labels = row_of_discs(3)
    background = np.full_like(labels, -1)
    assert prepared(planes_of(labels, background)).warnings == ()
    labels[70, 3] = 9
    (warning,) = prepared(planes_of(labels, background)).warnings
    assert "single pixel" in warning
