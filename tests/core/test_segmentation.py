"""Planes and stacks to labels, and the events on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr

from napari_unet.core import segmentation
from napari_unet.core.errors import InputError
from napari_unet.core.events import (
    DiameterChosen,
    LabelsChanged,
    PlaneDone,
    SegmentationDone,
    TileDone,
)
from napari_unet.core.instances import at_scale, label_classes, label_instances
from napari_unet.core.model import Model
from napari_unet.core.prediction import Predictor, predict
from napari_unet.core.segmentation import PlaneStack, iter_segmentation, segment
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.core.unet import UNet

from .networks import small_model, small_net

TILES = TileSettings(tile=16)
OPTIONS = InstanceSettings(seed_threshold=0.5, mask_threshold=0.5, min_size=3)


def bright_spots(*shape: int, seed: int = 0) -> np.ndarray:
    """Return images whose bright squares a threshold network finds."""
    random = np.random.default_rng(seed)
    image = random.random(shape).astype(np.float32) * 10
    for index in np.ndindex(*shape[:-2]):
        for _ in range(4):
            y, x = (int(random.integers(0, n - 6)) for n in shape[-2:])
            image[index][y : y + 6, x : x + 6] += 100
    return image


@pytest.fixture(scope="module")
def model() -> Model:
    """A network that passes brightness through: bright pixels are objects."""
    net = UNet(1, 2, base_channels=1, depth=1, padding="same", norm=None, dropout=0)
    for parameter in net.parameters():
        parameter.data.zero_()
    contracting, expanding = net.contracting[0], net.expanding[0]
    for block in (contracting, expanding):
        for layer in (block[0], block[2]):  # type: ignore[index]
            layer.weight.data[0, 0, 1, 1] = 1
    net.classifier.weight.data[:, 0, 0, 0] = net.classifier.weight.new_tensor([-10.0, 10.0])
    net.classifier.bias.data[:] = net.classifier.bias.new_tensor([5.0, -5.0])
    return Model(net.eval(), diameter=6.0, instances=OPTIONS)


def run(model: Model, image: Any, **options: Any) -> list[Any]:
    options = {"settings": TILES, "diameter": None} | options
    return list(iter_segmentation(model, image, **options))


def test_a_plane_is_prediction_and_instances(model: Model) -> None:
    image = bright_spots(50, 60)
    labels = segment(model, image, diameter=None, settings=TILES)
    assert labels.dtype == np.int32
    assert labels.max() >= 2
    np.testing.assert_array_equal(labels, label_instances(predict(model, image), OPTIONS))


def test_the_models_thresholds_hold_unless_others_are_given(model: Model) -> None:
    image = bright_spots(50, 60)
    everything = segment(model, image, diameter=None)
    none = segment(model, image, diameter=None, instances=InstanceSettings(min_size=10_000))
    assert everything.any()
    assert not none.any()


def test_a_given_diameter_scales(model: Model) -> None:
    image = bright_spots(50, 60)
    labels = segment(model, image, diameter=12.0, settings=TILES)
    probabilities = predict(model, image, diameter=12.0, settings=TILES)
    expected = label_instances(probabilities, at_scale(OPTIONS, 0.5))
    np.testing.assert_array_equal(labels, expected)


def test_events_of_a_plane_arrive_in_order(model: Model) -> None:
    events = run(model, bright_spots(40, 40))
    kinds = [type(event) for event in events]
    assert kinds[0] is DiameterChosen
    assert kinds[-3:] == [LabelsChanged, PlaneDone, SegmentationDone]
    assert kinds.count(TileDone) == 9
    assert events[-1].complete
    assert events[-2].objects == events[-1].labels.max()


def test_painting_the_events_gives_the_result(model: Model) -> None:
    image = bright_spots(3, 40, 40)
    shown = np.zeros(image.shape, np.int32)
    events = run(model, image)
    for event in events:
        if isinstance(event, LabelsChanged):
            shown[(*event.index, *event.slices)] = event.labels
    np.testing.assert_array_equal(shown, events[-1].labels)


def test_planes_of_a_stack_are_independent_and_ids_unique(model: Model) -> None:
    image = bright_spots(2, 3, 40, 40)
    labels = segment(model, image, diameter=None, settings=TILES)
    assert labels.shape == image.shape
    seen: set[int] = set()
    for index in np.ndindex(2, 3):
        ids = set(np.unique(labels[index]).tolist()) - {0}
        assert not ids & seen
        seen |= ids
        alone = segment(model, image[index], diameter=None, settings=TILES)
        first = min(ids) - 1
        np.testing.assert_array_equal(np.where(labels[index] > 0, labels[index] - first, 0), alone)
    assert seen == set(range(1, len(seen) + 1))


def test_classes_are_labelled_by_their_index() -> None:
    classes = small_model(small_net(n_classes=3), task="classes")
    image = np.random.default_rng(0).random((2, 30, 30)).astype(np.float32)
    labels = segment(classes, image, settings=TILES)
    for plane in range(2):
        np.testing.assert_array_equal(labels[plane], label_classes(predict(classes, image[plane])))


@pytest.mark.parametrize(
    ("shape", "channel_axis", "stack", "plane", "channels"),
    [
        ((5, 6), None, (), (5, 6), 1),
        ((5, 6, 3), None, (), (5, 6), 3),
        ((5, 6, 4), None, (), (5, 6), 3),
        ((5, 6, 4), 2, (), (5, 6), 4),
        ((5, 6, 4), -1, (), (5, 6), 4),
        ((2, 5, 6), 0, (), (5, 6), 2),
        ((7, 5, 6), None, (7,), (5, 6), 1),
        ((7, 5, 6, 3), None, (7,), (5, 6), 3),
        ((7, 2, 5, 6), 1, (7,), (5, 6), 2),
        ((2, 7, 5, 6), 0, (7,), (5, 6), 2),
        ((7, 8, 5, 6), None, (7, 8), (5, 6), 1),
        ((7, 5, 2, 6), 2, (7,), (5, 6), 2),
    ],
)
@pytest.mark.parametrize("kind", ["numpy", "zarr", "dask"])
def test_planes_of_arrays(
    shape: tuple[int, ...],
    channel_axis: int | None,
    stack: tuple[int, ...],
    plane: tuple[int, int],
    channels: int,
    kind: str,
    tmp_path: Path,
) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    wrapped = {
        "numpy": lambda: array,
        "zarr": lambda: zarr.create_array(tmp_path / "a.zarr", data=array, chunks=shape),
        "dask": lambda: dask.array.from_array(array),
    }[kind]()
    planes = PlaneStack.of(wrapped, channel_axis)
    assert (planes.stack_shape, planes.plane_shape) == (stack, plane)
    index = tuple(n - 1 for n in stack)
    assert list(planes.indices())[-1] == index
    got = planes.plane(index)
    assert (got.shape, got.channels) == (plane, channels)
    axis = len(shape) - 1 if channel_axis is None and len(shape) > 2 else channel_axis
    if axis is None or (channel_axis is None and shape[-1] not in (3, 4)):
        expected = array[index][None]
    else:
        expected = np.moveaxis(array, axis, 0)[(slice(channels), *index)]
    np.testing.assert_array_equal(got.read(1, 4, 2, 6), expected[:, 1:4, 2:6])


def test_only_a_window_of_a_lazy_stack_is_read() -> None:
    """Complaint 18: choosing a plane of a stack does not load it."""

    class Recording:
        shape, ndim, dtype = (9, 500, 600), 3, np.dtype(np.uint8)

        def __init__(self) -> None:
            self.keys: list[Any] = []

        def __getitem__(self, key: Any) -> np.ndarray:
            self.keys.append(key)
            return np.zeros((4, 5), np.uint8)

    array = Recording()
    plane = PlaneStack.of(array).plane((3,))
    assert array.keys == []
    plane.read(10, 14, 20, 25)
    assert array.keys == [(3, slice(10, 14), slice(20, 25))]


def test_each_plane_of_a_file_is_read_once_for_all_tiles(model: Model) -> None:
    """Files are often one chunk per plane, which each tile would decompress again."""
    pixels = bright_spots(3, 60, 70)
    read: list[int] = []

    def load(block_info: Any = None) -> np.ndarray:
        number = block_info[None]["array-location"][0][0]
        read.append(number)
        return pixels[number : number + 1]

    lazy = dask.array.map_blocks(load, chunks=((1, 1, 1), (60,), (70,)), dtype=pixels.dtype)
    read.clear()
    found = segment(model, lazy, settings=TILES)
    assert read == [0, 1, 2]
    np.testing.assert_array_equal(found, segment(model, pixels, settings=TILES))


def test_a_large_file_is_not_read_as_a_whole_for_a_part_of_it(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = bright_spots(1, 400, 300)[0]
    monkeypatch.setattr("napari_unet.core.segmentation._HELD_FOR_A_PART", pixels.nbytes - 1)
    asked: list[int] = []

    class Recording:
        shape, ndim, dtype = pixels.shape, 2, pixels.dtype

        def __getitem__(self, key: Any) -> np.ndarray:
            asked.append(pixels[key].size)
            return pixels[key]

    part = (slice(100, 140), slice(50, 120))
    found = list(iter_segmentation(model, Recording(), diameter=None, settings=TILES, region=part))[
        -1
    ]
    expected = list(iter_segmentation(model, pixels, diameter=None, settings=TILES, region=part))[
        -1
    ]
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert max(asked[1:]) < pixels.size / 10  # the first one measures the intensities


@pytest.mark.parametrize("shape", [(5,), (0, 4), (5, 3)])
def test_arrays_without_a_plane(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="has no plane"):
        PlaneStack.of(np.zeros(shape), 1 if shape == (5, 3) else None)


def test_a_channel_axis_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="channel axis 3 does not exist"):
        PlaneStack.of(np.zeros((4, 4, 4)), 3)


def test_cancel_keeps_finished_planes_and_tiles(model: Model) -> None:
    """Complaint 11."""
    image = bright_spots(3, 40, 40)
    whole = segment(model, image, diameter=None, settings=TILES)
    tiles = 0

    def cancelled() -> bool:
        return tiles >= 12

    last: Any = None
    for event in iter_segmentation(
        model, image, diameter=None, settings=TILES, cancelled=cancelled
    ):
        tiles += isinstance(event, TileDone)
        last = event
    assert isinstance(last, SegmentationDone)
    assert not last.complete
    np.testing.assert_array_equal(last.labels[0], whole[0])
    assert last.labels[1].any() or not whole[1, :16].any()
    assert not last.labels[2].any()


def test_cancelled_before_it_began(model: Model) -> None:
    events = run(model, bright_spots(40, 40), cancelled=lambda: True)
    assert [type(event) for event in events] == [SegmentationDone]
    assert not events[0].complete
    assert not events[0].labels.any()


def test_diameter_is_estimated_per_plane(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    estimates = iter([6.0, 12.0, None])
    monkeypatch.setattr(segmentation, "estimate_diameter", lambda *_, **__: next(estimates))
    events = run(model, bright_spots(3, 40, 40), diameter="auto")
    chosen = [event for event in events if isinstance(event, DiameterChosen)]
    assert [(c.index, c.diameter, c.factor, c.source) for c in chosen] == [
        ((0,), 6.0, 1.0, "estimated"),
        ((1,), 12.0, 0.5, "estimated"),
        ((2,), None, 1.0, "none"),
    ]


def test_the_users_diameter_wins(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(segmentation, "estimate_diameter")
    (chosen, *_) = run(model, bright_spots(40, 40), diameter=3.0)
    assert (chosen.diameter, chosen.factor, chosen.source) == (3.0, 2.0, "given")


def test_a_model_without_diameter_is_never_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(segmentation, "estimate_diameter")
    (chosen, *_) = run(small_model(), bright_spots(20, 20), diameter="auto")
    assert (chosen.diameter, chosen.factor, chosen.source) == (None, 1.0, "none")


def test_channels_that_do_not_fit_are_refused(model: Model) -> None:
    with pytest.raises(InputError, match="cannot be used on an RGB image"):
        segment(model, np.zeros((20, 20, 3), np.uint8))


def test_nan_is_refused(model: Model) -> None:
    image = bright_spots(20, 20)
    image[3, 3] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        segment(model, image)


@pytest.mark.parametrize("diameter", ["auto", None])
def test_an_image_that_cannot_be_read_is_refused(model: Model, diameter: Any) -> None:
    """Also where its intensities are measured, before the first tile."""

    class Broken:
        shape, ndim, dtype = (40, 40), 2, np.dtype(np.uint8)

        def __getitem__(self, key: Any) -> np.ndarray:
            raise OSError("the drive is gone")

    with pytest.raises(InputError, match="could not be read \\(the drive is gone\\)"):
        segment(model, Broken(), diameter=diameter)


def test_one_pixel(model: Model) -> None:
    assert segment(model, np.ones((1, 1), np.uint8), diameter=None).shape == (1, 1)


def test_the_focus_is_handed_on(model: Model) -> None:
    events = run(model, bright_spots(48, 48), focus=lambda: (40.0, 40.0))
    first = next(event for event in events if isinstance(event, TileDone))
    assert first.slices == (slice(32, 48), slice(32, 48))


def test_a_predictor_may_be_given(model: Model) -> None:
    image = bright_spots(40, 40)
    np.testing.assert_array_equal(
        segment(Predictor(model, TILES), image, diameter=None), segment(model, image, diameter=None)
    )
