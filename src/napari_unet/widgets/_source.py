"""What an image layer offers to the network, and which part of it the user looks at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.jobs.image_source import ImageSource, Region

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Layer


def source_of(layer: Image, channel_axis: int | None = None) -> ImageSource:
    """Read how a layer is built; of a multiscale one the finest level."""
    array = layer.data[0] if layer.multiscale else layer.data
    return ImageSource(array, bool(layer.rgb), channel_axis)


def pixel_size(layer: Layer) -> tuple[float, float] | None:
    """Return the size of a pixel along y and x where pixels are not square."""
    y, x = (float(abs(size)) for size in np.asarray(layer.scale)[-2:])
    return None if math.isclose(y, x, rel_tol=0.01) or 0 in (y, x) else (y, x)


def label_placement(layer: Image, channel_axis: int | None = None) -> dict[str, Any]:
    """Return the arguments that put a new Labels layer exactly over an image layer.

    Channels behind another axis leave an axis of length 1, which is as long as all channels
    together: the labels are seen on each of them.
    """
    source = source_of(layer, channel_axis)
    keep = [axis for axis in range(layer.ndim) if axis != channel_axis or axis == source.held_axis]
    plane = np.ix_(keep, keep)
    homogeneous = [*keep, layer.ndim]
    rotate, shear = np.asarray(layer.rotate), _shear_matrix(layer)
    scale, middle = np.array(layer.scale), np.zeros(layer.ndim)
    if source.held_axis is not None:
        channels = source.array.shape[source.held_axis]
        middle[source.held_axis] = (channels - 1) / 2
        middle = rotate @ shear @ (scale * middle)
        scale[source.held_axis] *= channels
    return {
        "scale": scale[keep],
        "translate": (np.asarray(layer.translate) + middle)[keep],
        "rotate": rotate[plane],
        "shear": shear[plane],
        "affine": np.asarray(layer.affine.affine_matrix)[np.ix_(homogeneous, homogeneous)],
        "units": tuple(layer.units[axis] for axis in keep),
        "axis_labels": tuple(layer.axis_labels[axis] for axis in keep),
    }


def _shear_matrix(layer: Layer) -> npt.NDArray[np.float64]:
    """Return the shear as a matrix; napari gives the part above the diagonal where that is all."""
    shear = np.asarray(layer.shear, dtype=float)
    if shear.ndim == 2:
        return shear
    matrix = np.eye(layer.ndim)
    matrix[np.triu_indices(layer.ndim, k=1)] = shear
    return matrix


def looks_at_planes(viewer: Viewer, layer: Layer) -> bool:
    """Whether the viewer shows this layer's last two axes, flat."""
    dims = viewer.dims
    return dims.ndisplay == 2 and tuple(dims.displayed) == (dims.ndim - 2, dims.ndim - 1)


def shown_index(viewer: Viewer, layer: Image, channel_axis: int | None = None) -> tuple[int, ...]:
    """Return the position of the plane that is shown, along the leading axes of its labels."""
    point = layer.world_to_data(viewer.dims.point)
    sizes = _axis_sizes(layer)
    index = [
        int(np.clip(round(float(point[axis])), 0, sizes[axis] - 1))
        for axis in range(layer.ndim - 2)
        if axis != channel_axis
    ]
    held = source_of(layer, channel_axis).held_axis
    if held is not None:
        index.insert(held, 0)
    return tuple(index)


def shown_region(viewer: Viewer, layer: Layer) -> Region:
    """Return the rows and columns of the layer that can be seen; all of them when none can."""
    height, width = _axis_sizes(layer)[-2:]
    whole = (slice(0, height), slice(0, width))
    if not looks_at_planes(viewer, layer):
        return whole
    camera = viewer.scene.camera
    middle = np.asarray(camera.center[-2:], dtype=float)
    half = np.asarray(viewer.canvas.size, dtype=float) / max(float(camera.zoom), 1e-9) / 2
    corners = [
        _to_pixels(viewer, layer, middle + half * sign)
        for sign in ((-1, -1), (-1, 1), (1, -1), (1, 1))
    ]
    low = np.floor(np.min(corners, axis=0)).astype(int)
    high = np.ceil(np.max(corners, axis=0)).astype(int) + 1
    low, high = np.clip(low, 0, (height, width)), np.clip(high, 0, (height, width))
    if (high - low < 1).any():
        return whole
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def shown_middle(viewer: Viewer, layer: Image) -> tuple[float, float]:
    """Return the (y, x) pixel of the layer in the middle of the view."""
    if not looks_at_planes(viewer, layer):
        height, width = _axis_sizes(layer)[-2:]
        return height / 2, width / 2
    y, x = _to_pixels(viewer, layer, np.asarray(viewer.scene.camera.center[-2:], dtype=float))
    return float(y), float(x)


def _to_pixels(viewer: Viewer, layer: Layer, yx: Any) -> Any:
    world = [*viewer.dims.point[:-2], *yx]
    return np.asarray(layer.world_to_data(world))[-2:]


def _axis_sizes(layer: Layer) -> tuple[int, ...]:
    array = layer.data[0] if layer.multiscale else layer.data
    return tuple(array.shape[:-1] if getattr(layer, "rgb", False) else array.shape)


def limited(region: Region, middle: tuple[float, float], side: int) -> Region:
    """Shrink a region to at most ``side`` pixels per axis around ``middle``."""
    parts = []
    for part, centre in zip(region, middle, strict=True):
        length = min(part.stop - part.start, side)
        start = int(np.clip(round(centre - length / 2), part.start, part.stop - length))
        parts.append(slice(start, start + length))
    return parts[0], parts[1]
