"""Where a Labels layer stands: its visible plane, and boxes drawn over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels, Layer, Shapes

    from napari_unet.core.labels import Box


def plane_index(viewer: Viewer, layer: Layer) -> tuple[int, ...]:
    """Return the position of the visible plane along the leading axes of ``layer``."""
    array = layer.data[0] if layer.multiscale else layer.data
    sizes = array.shape
    point = layer.world_to_data(viewer.dims.point)
    return tuple(
        int(np.clip(round(float(point[axis])), 0, sizes[axis] - 1))
        for axis in range(layer.ndim - 2)
    )


def plane_of(layer: Labels, index: tuple[int, ...]) -> Any:
    """Return one plane of the labels; a view where the array is numpy's, unread where lazy."""
    array = layer.data[0] if layer.multiscale else layer.data
    return array[index] if index else array


def boxes_on_plane(
    shapes: Shapes | None, labels: Labels, index: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Return the rectangles drawn over one plane of the labels.

    Parameters
    ----------
    shapes
        The layer with the annotated areas; a shape that is no rectangle counts with its bounding
        box. A layer with fewer axes than the labels holds for all planes.
    labels
        The labels on whose grid the boxes are wanted.
    index
        The plane.

    Returns
    -------
    array
        ``(n, 4)`` int64 ``y0, x0, y1, x1``, half open, cut at the border; boxes without a whole
        pixel are left out.
    """
    found: list[Box] = []
    height, width = (int(n) for n in plane_of(labels, index).shape)
    if shapes is None:
        return np.zeros((0, 4), np.int64)
    for corners in shapes.data:
        points = np.asarray(corners, dtype=float)
        world = np.array([shapes.data_to_world(point) for point in points])
        missing = labels.ndim - world.shape[1]
        if missing > 0:
            origin = np.asarray(labels.data_to_world([*index, 0, 0]), dtype=float)
            world = np.hstack([np.tile(origin[:missing], (len(world), 1)), world])
        pixels = np.array([labels.world_to_data(point) for point in world[:, -labels.ndim :]])
        if missing <= 0 and not np.array_equal(np.round(pixels[0, :-2]).astype(int), index):
            continue
        # A pixel belongs to a box when its middle does (napari draws it from k - 0.5 to k + 0.5).
        low = np.clip(np.ceil(pixels[:, -2:].min(axis=0)), 0, (height, width)).astype(int)
        high = np.clip(np.floor(pixels[:, -2:].max(axis=0)) + 1, 0, (height, width)).astype(int)
        if (high > low).all():
            found.append((int(low[0]), int(low[1]), int(high[0]), int(high[1])))
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def counts_blank(shapes: Shapes | None, labels: Labels) -> bool:
    """Whether boxes count in a plane where nothing is painted: all in them is background.

    They do when they were drawn on that very plane. Boxes that hold for all planes of a stack
    would make background of every cell in those that nobody looked at.
    """
    return shapes is not None and shapes.ndim >= labels.ndim


def visible_box(viewer: Viewer, layer: Layer) -> Box:
    """Return the rows and columns of a single-scale layer that can be seen: y0, x0, y1, x1."""
    height, width = (int(n) for n in layer.data.shape[-2:])
    if viewer.dims.ndisplay != 2 or tuple(viewer.dims.displayed) != tuple(
        range(viewer.dims.ndim - 2, viewer.dims.ndim)
    ):
        return 0, 0, height, width
    corners = np.asarray(layer.corner_pixels)[:, -2:]
    low = np.clip(corners[0], 0, (height, width))
    high = np.clip(corners[1] + 1, 0, (height, width))
    if (high <= low).any():
        return 0, 0, height, width
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
