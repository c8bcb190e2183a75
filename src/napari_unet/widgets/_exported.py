"""What files are to hold of a Labels layer, and of the image below it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_unet.io.grid import FILE_AXES, Grid, named_axes
from napari_unet.io.registry import Export
from napari_unet.widgets._annotation_layer import channel_axis_of
from napari_unet.widgets._source import source_of

if TYPE_CHECKING:
    from napari.layers import Image, Labels


def export_of(layer: Labels, array: Any, image: Image | None) -> Export:
    """Return labels with their place, and the intensities of an image where it is as large.

    Parameters
    ----------
    layer
        Where the labels are.
    array
        The labels themselves.
    image
        The image whose intensities are measured, if any.
    """
    meta = {
        "scale": layer.scale,
        "translate": layer.translate,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }
    if image is None:
        return Export(array, grid_of(array.ndim, meta), name=layer.name)
    source = source_of(image, channel_axis_of(image))
    if source.held_axis is not None and source.label_shape == tuple(array.shape):
        array = source.without_held_axis(array)
        kept = [axis for axis in range(layer.ndim) if axis != source.held_axis]
        meta = {name: [values[axis] for axis in kept] for name, values in meta.items()}
    grid = grid_of(array.ndim, meta)
    if source.stack_shape != tuple(array.shape):
        return Export(array, grid, name=layer.name)
    axis = source.array.ndim - 1 if source.rgb else source.channel_axis
    return Export(array, grid, source.array, axis, image.name)


def grid_of(ndim: int, meta: dict[str, Any]) -> Grid:
    """Return where labels stand; a mirrored axis counts with its size, other names as T, Z or C.

    Parameters
    ----------
    ndim
        Axes of the label array.
    meta
        Attributes of the layer: ``scale``, ``translate``, ``units``, ``axis_labels``.
    """
    scale = meta.get("scale")
    grid = Grid.of(
        ndim,
        axes=meta.get("axis_labels"),
        scale=None if scale is None else [abs(float(size)) or 1.0 for size in scale],
        translate=meta.get("translate"),
        units=[_unit(unit) for unit in meta["units"]] if meta.get("units") is not None else None,
    )
    return replace(grid, axes=named_axes(grid.axes, known=FILE_AXES))


def _unit(unit: Any) -> str:
    """Return a unit's name; napari calls an axis without calibration ``pixel``."""
    name = str(unit)
    return "" if name in ("pixel", "px", "dimensionless") else name
