"""Images with their annotation: which planes are trained on, with which channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import zarr

from napari_unet.core.errors import AnnotationError, InputError
from napari_unet.core.pairs import (
    AnnotatedPlane,
    TrainingPair,
    annotated_planes,
    as_pair,
    relative_spacing,
)

RNG = np.random.default_rng(0)


def painted(*shape: int) -> npt.NDArray[np.int32]:
    labels = np.zeros(shape, np.int32)
    labels[..., 1:3, 1:4] = 1
    return labels


def pixels(plane: AnnotatedPlane) -> npt.NDArray[np.float32]:
    height, width = plane.plane.shape
    return plane.plane.read(0, height, 0, width)


def test_a_tuple_is_a_pair() -> None:
    image, labels = RNG.random((6, 7)), painted(6, 7)
    pair = as_pair((image, labels))
    assert pair == TrainingPair(image, labels) or pair.image is image
    assert as_pair(pair) is pair
    (plane,) = annotated_planes([(image, labels)])
    np.testing.assert_array_equal(pixels(plane)[0], image.astype(np.float32))
    np.testing.assert_array_equal(plane.labels, labels)


def test_lists_are_taken() -> None:
    (plane,) = annotated_planes([([[1, 2], [3, 4]], [[0, 1], [0, -1]])])
    assert plane.plane.shape == (2, 2) and plane.labels.min() == -1


def test_only_painted_planes_of_a_stack_are_used_and_named() -> None:
    labels = np.zeros((2, 3, 6, 7), np.int16)
    labels[0, 2, 2, 2], labels[1, 1, 3, 3] = 5, -1
    image = RNG.random(labels.shape)
    planes = annotated_planes([TrainingPair(image, labels, name="cells")])
    assert [plane.name for plane in planes] == ["cells [0, 2]", "cells [1, 1]"]
    for plane, index in zip(planes, [(0, 2), (1, 1)], strict=True):
        np.testing.assert_array_equal(pixels(plane)[0], image[index].astype(np.float32))
        np.testing.assert_array_equal(plane.labels, labels[index])


@pytest.mark.parametrize("channel_axis", [0, 1, 2, 3, -1, -2, -3, -4])
def test_channels_are_found_at_any_position_of_a_stack(channel_axis: int) -> None:
    channels = RNG.random((2, 3, 6, 7)).astype(np.float32)  # C Z Y X
    image = np.moveaxis(channels, 0, channel_axis)
    planes = annotated_planes([TrainingPair(image, painted(3, 6, 7), channel_axis)])
    assert len(planes) == 3
    for z, plane in enumerate(planes):
        np.testing.assert_array_equal(pixels(plane), channels[:, z])


@pytest.mark.parametrize("depth", [(), (2,)])
@pytest.mark.parametrize("last", [3, 4])
def test_rgb_is_recognised_and_its_alpha_channel_left_out(
    last: int, depth: tuple[int, ...]
) -> None:
    image = RNG.integers(0, 255, (*depth, 6, 7, last), dtype=np.uint8)
    planes = annotated_planes([(image, painted(*depth, 6, 7))])
    assert len(planes) == (2 if depth else 1)
    first = image[0] if depth else image
    np.testing.assert_array_equal(pixels(planes[0]), np.moveaxis(first[..., :3], -1, 0))


def test_a_narrow_stack_is_not_taken_for_rgb() -> None:
    """Three columns are three columns when the labels have them, too."""
    image = RNG.random((4, 6, 3))
    planes = annotated_planes([(image, np.ones((4, 6, 3), int))])
    assert len(planes) == 4 and planes[0].plane.shape == (6, 3)
    assert planes[0].plane.channels == 1


@pytest.mark.parametrize("kind", ["zarr", "dask", "memmap"])
@pytest.mark.parametrize("shape", [(16, 18), (3, 16, 18)])
def test_arrays_on_disk_are_taken(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    image = RNG.random(shape)
    held: Any
    if kind == "zarr":
        held = zarr.create_array(str(tmp_path / "i.zarr"), data=image, chunks=(8,) * len(shape))
    elif kind == "dask":
        held = da.from_array(image, chunks=8)
    else:
        held = np.memmap(tmp_path / "i.raw", dtype=image.dtype, mode="w+", shape=shape)
        held[:] = image
    planes = annotated_planes([(held, painted(*shape))])
    expected = image[None] if image.ndim == 2 else image
    assert len(planes) == len(expected)
    for plane, values in zip(planes, expected, strict=True):
        np.testing.assert_array_equal(pixels(plane)[0], values.astype(np.float32))


@pytest.mark.parametrize("channel_axis", [None, 0])
def test_a_single_plane_is_not_read_to_be_found(channel_axis: int | None) -> None:
    class Unread:
        shape = (2, 50, 60) if channel_axis is not None else (50, 60)
        ndim, dtype = len(shape), np.dtype(np.uint8)

        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("read")

    (plane,) = annotated_planes([TrainingPair(Unread(), painted(50, 60), channel_axis)])
    assert plane.plane.shape == (50, 60)


def test_what_belongs_to_a_pair_stays_with_its_planes() -> None:
    boxes = np.array([[0, 0, 4, 4]])
    pair = TrainingPair(RNG.random((2, 6, 7)), painted(2, 6, 7), spacing=(2.0, 1.0), boxes=boxes)
    for plane in annotated_planes([pair]):
        assert plane.spacing == (2.0, 1.0) and plane.boxes is boxes


def test_boxes_without_paint_count_on_a_plane_of_their_own() -> None:
    """All in them is background; in a stack that would be said of planes nobody looked at."""
    boxes = np.array([[0, 0, 4, 4]])
    empty = TrainingPair(RNG.random((6, 7)), np.zeros((6, 7), int), boxes=boxes)
    (plane,) = annotated_planes([empty])
    assert plane.boxes is boxes
    labels = np.stack([np.zeros((6, 7), int), painted(6, 7)])
    (plane,) = annotated_planes([TrainingPair(RNG.random((2, 6, 7)), labels, boxes=boxes)])
    assert plane.labels.any()
    with pytest.raises(AnnotationError, match="Nothing is painted yet"):
        annotated_planes([TrainingPair(RNG.random((6, 7)), empty.labels, boxes=boxes[:0])])


def test_relative_spacing() -> None:
    assert relative_spacing((4.0, 1.0)) == (2, 0.5)
    assert relative_spacing((3.0, 3.0)) is relative_spacing(None) is None


def test_nothing_painted_is_an_error_only_when_nothing_is_painted_anywhere() -> None:
    empty = (RNG.random((6, 7)), np.zeros((6, 7), int))
    assert len(annotated_planes([empty, (RNG.random((6, 7)), painted(6, 7))])) == 1
    for pairs in ([empty], [empty, empty]):
        with pytest.raises(AnnotationError, match="Nothing is painted yet"):
            annotated_planes(pairs)
    with pytest.raises(AnnotationError, match="at least one image"):
        annotated_planes([])


@pytest.mark.parametrize(
    ("image", "labels", "channel_axis"),
    [
        ((6, 7), (6, 8), None),
        ((6, 7), (7, 6), None),
        ((2, 6, 7), (6, 7), None),
        ((6, 7, 5), (6, 7), None),
        ((6, 7, 3), (6, 8), None),
        ((6, 7), (2, 6, 7), None),
        ((3, 6, 7), (6, 7), 1),
    ],
)
def test_shapes_that_differ_are_named(
    image: tuple[int, ...], labels: tuple[int, ...], channel_axis: int | None
) -> None:
    pair = TrainingPair(np.zeros(image), painted(*labels), channel_axis, name="nuclei")
    with pytest.raises(InputError) as caught:
        annotated_planes([pair])
    message = str(caught.value)
    assert "nuclei" in message and str(labels) in message and str(image) in message


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        ((2, 6, 7), "on this image or say which axis holds the channels."),
        ((6, 7, 5), "on this image or say which axis holds the channels."),
        ((2, 6, 8), "on this image."),
    ],
)
def test_channels_that_were_not_said_are_asked_for(image: tuple[int, ...], advice: str) -> None:
    with pytest.raises(InputError) as caught:
        annotated_planes([(np.zeros(image), painted(6, 7))])
    assert str(caught.value).endswith(advice)


def test_an_axis_that_does_not_exist_is_named() -> None:
    for axis in (3, -4):
        with pytest.raises(InputError, match=f"no channel axis {axis}"):
            annotated_planes([TrainingPair(np.zeros((2, 6, 7)), painted(6, 7), axis)])


def test_labels_need_two_axes() -> None:
    with pytest.raises(InputError, match="at least two axes"):
        annotated_planes([(np.zeros(5), np.ones(5, int))])


def test_images_with_different_channels_do_not_mix() -> None:
    gray, rgb = np.zeros((6, 7)), np.zeros((6, 7, 3))
    with pytest.raises(InputError, match="1 and 3 channels"):
        annotated_planes([(gray, painted(6, 7)), (rgb, painted(6, 7))])
