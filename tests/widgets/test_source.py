"""Axes of image layers, and where the user looks."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_unet.widgets._source import (
    label_placement,
    limited,
    pixel_size,
    shown_index,
    shown_middle,
    shown_region,
    source_of,
)


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


def test_planes_of_every_kind_of_layer(viewer: Any) -> None:
    flat = source_of(viewer.add_image(np.zeros((20, 30))))
    rgb = source_of(viewer.add_image(np.zeros((4, 20, 30, 3), np.uint8), rgb=True))
    stack = source_of(viewer.add_image(np.zeros((2, 5, 20, 30))), channel_axis=1)
    pyramid = source_of(viewer.add_image([np.ones((40, 60)), np.ones((20, 30))], multiscale=True))
    assert (flat.label_shape, flat.plane(())[0].shape) == ((20, 30), (20, 30))
    assert (rgb.label_shape, rgb.plane((3,))[0].shape) == ((4, 20, 30), (20, 30, 3))
    assert (stack.label_shape, stack.stack_shape) == ((2, 1, 20, 30), (2, 20, 30))
    assert stack.without_held_axis(np.zeros(stack.label_shape)).shape == stack.stack_shape
    plane, channel_axis = stack.plane((1, 0))
    assert (plane.shape, channel_axis) == ((5, 20, 30), 0)
    assert pyramid.label_shape == (40, 60)


def test_pixels_that_are_not_square_are_known_in_any_unit(viewer: Any) -> None:
    """Nanometres in metres are no rounding error, and a per mille of difference is one."""
    image = viewer.add_image(np.zeros((3, 20, 30)), scale=(1, 4e-9, 2e-9))
    assert pixel_size(image) == (4e-9, 2e-9)
    for scale in ((1, 2e-9, 2e-9), (1, 3.001, 3.0)):
        image.scale = scale
        assert pixel_size(image) is None


def test_labels_lie_on_every_channel_of_a_turned_film(viewer: Any) -> None:
    affine = np.eye(5)
    affine[:, -1] = (1, 2, 3, 4, 1)
    affine[2:4, 2:4] = [[1, 0.1], [0.2, 0.9]]
    image = viewer.add_image(
        np.zeros((2, 5, 20, 30)),
        rotate=30,
        scale=(3, 2, 2, 3),
        translate=(4, 3, 2, 1),
        affine=affine,
    )
    over = viewer.add_labels(np.zeros((2, 1, 20, 30), int), **label_placement(image, 1))
    for time, channel in np.ndindex(2, 5):
        world = image.data_to_world((time, channel, 7, 19))
        np.testing.assert_allclose(over.world_to_data(world)[[0, 2, 3]], (time, 7, 19), atol=1e-9)
        assert round(over.world_to_data(world)[1]) == 0
        viewer.dims.current_step = (time, channel, 0, 0)
        assert shown_index(viewer, image, 1) == (time, 0)


@pytest.mark.parametrize("kind", ["dask", "zarr"])
def test_lazy_arrays_are_read_one_plane_at_a_time(viewer: Any, kind: str) -> None:
    pixels = np.arange(3 * 20 * 30, dtype=np.float32).reshape(3, 20, 30)
    array = da.from_array(pixels, chunks=(1, 20, 30)) if kind == "dask" else zarr.array(pixels)
    source = source_of(viewer.add_image(array))
    plane, _ = source.plane((2,))
    np.testing.assert_array_equal(np.asarray(plane), pixels[2])
    if kind == "dask":
        assert not isinstance(plane, np.ndarray)


def test_labels_lie_exactly_over_the_image(viewer: Any) -> None:
    """complaint 19: scale, translate, units and axis names go along."""
    image = viewer.add_image(
        np.zeros((3, 2, 20, 30)),
        scale=(1, 2, 0.5, 0.25),
        translate=(0, 1, 10, 20),
        units=("pixel", "um", "um", "um"),
        axis_labels=("c", "z", "y", "x"),
    )
    placed = viewer.add_labels(np.zeros((2, 20, 30), int), **label_placement(image, 0))
    assert tuple(placed.scale) == (2, 0.5, 0.25)
    assert tuple(placed.translate) == (1, 10, 20)
    assert placed.axis_labels == ("z", "y", "x")
    assert [str(unit) for unit in placed.units] == ["micrometer"] * 3
    turned = viewer.add_image(np.zeros((20, 30)), rotate=30, shear=[0.2], scale=(3, 3))
    over = viewer.add_labels(np.zeros((20, 30), int), **label_placement(turned))
    np.testing.assert_allclose(over.data_to_world((5, 7)), turned.data_to_world((5, 7)))


def test_labels_lie_on_a_turned_image_with_channels(viewer: Any) -> None:
    inside = np.array([[1, 0.1, 2], [0, 0.9, 3], [0, 0, 1]])
    affine = np.eye(4)
    affine[1:, 1:] = inside
    image = viewer.add_image(
        np.zeros((3, 20, 30)), rotate=30, shear=[0, 0, 0.2], scale=(1, 2, 3), affine=affine
    )
    over = viewer.add_labels(np.zeros((20, 30), int), **label_placement(image, 0))
    for point in ((0, 0), (5, 7), (19, 29)):
        np.testing.assert_allclose(over.data_to_world(point), image.data_to_world((0, *point))[1:])


def test_the_view_follows_camera_scale_and_slider(viewer: Any) -> None:
    layer = viewer.add_image(np.zeros((6, 400, 600)), scale=(3, 0.5, 0.5), translate=(0, 100, 200))
    viewer.canvas.size = (100, 200)
    viewer.scene.camera.center = (100 + 50, 200 + 100)  # pixel (100, 200)
    viewer.scene.camera.zoom = 4  # 100 x 200 screen pixels show 25 x 50 world, 50 x 100 pixels
    viewer.dims.set_point(0, 12)
    assert shown_index(viewer, layer) == (4,)
    assert shown_middle(viewer, layer) == (100, 200)
    rows, columns = shown_region(viewer, layer)
    assert (rows.start, columns.start) == (75, 150)
    assert abs(rows.stop - 125) <= 1
    assert abs(columns.stop - 250) <= 1


def test_looking_away_or_in_3d_means_the_whole_plane(viewer: Any) -> None:
    layer = viewer.add_image(np.zeros((6, 40, 60)))
    whole = (slice(0, 40), slice(0, 60))
    viewer.scene.camera.center = (5000, 5000)
    viewer.scene.camera.zoom = 10
    assert shown_region(viewer, layer) == whole
    viewer.dims.ndisplay = 3
    assert shown_region(viewer, layer) == whole
    assert shown_middle(viewer, layer) == (20, 30)
    viewer.dims.ndisplay = 2
    viewer.dims.order = (1, 0, 2)
    assert shown_region(viewer, layer) == whole


def test_a_channel_axis_is_no_position(viewer: Any) -> None:
    layer = viewer.add_image(np.zeros((4, 3, 20, 30)))
    viewer.dims.set_point((0, 1), (2, 1))
    assert shown_index(viewer, layer) == (2, 1)
    assert shown_index(viewer, layer, channel_axis=1) == (2, 0)
    assert shown_index(viewer, layer, channel_axis=0) == (1,)


def test_a_region_is_limited_around_its_middle() -> None:
    assert limited((slice(0, 100), slice(10, 30)), (90, 20), 40) == (slice(60, 100), slice(10, 30))
