"""File > Save of napari, writing what the Export panel writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_unet.core.errors import OutputError
from napari_unet.io.grid import FILE_AXES, Grid, named_axes
from napari_unet.io.registry import Export, format_named
from napari_unet.widgets._places import is_there

LayerData = tuple[Any, dict[str, Any], str]


def write_tiff(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer as masks for ImageJ."""
    return _write("tiff", path, _export(data, meta))


def write_ome_zarr(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer as OME-Zarr."""
    return _write("ome-zarr", path, _export(data, meta))


def write_imagej_rois(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write the outlines of a Labels layer for ImageJ's ROI Manager."""
    return _write("imagej-roi", path, _export(data, meta))


def write_geojson(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write the outlines of a Labels layer for QuPath."""
    return _write("geojson", path, _export(data, meta))


def write_coco(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write the objects of a Labels layer as COCO."""
    return _write("coco", path, _export(data, meta))


def write_csv(path: str, layers: list[LayerData]) -> list[str]:
    """Write measurements of a Labels layer, with intensities of an Image layer if one is given."""
    labels = next(layer for layer in layers if layer[2] == "labels")
    image = next((layer for layer in layers if layer[2] == "image"), None)
    export = _export(labels[0], labels[1])
    if image is not None:
        pixels = _finest(image[0], image[1])
        axis = pixels.ndim - 1 if image[1].get("rgb") else None
        name = str(image[1].get("name", export.name))
        export = Export(export.labels, export.grid, pixels, axis, name)
    return _write("csv", path, export)


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


def _finest(data: Any, meta: dict[str, Any]) -> Any:
    several = meta.get("multiscale") or isinstance(data, (list, tuple))
    return data[0] if several else data


def _export(data: Any, meta: dict[str, Any]) -> Export:
    labels = _finest(data, meta)
    return Export(labels, grid_of(labels.ndim, meta), name=str(meta.get("name", "image")))


def _write(name: str, path: str, export: Export) -> list[str]:
    """Write a file; a name typed without the format's ending gets it, as in the Export panel.

    Raises
    ------
    OutputError
        If that would replace another file, about which napari's dialog has not asked.
    """
    chosen, asked = format_named(name), Path(path)
    target = chosen.with_ending(asked)
    if target != asked and is_there(target):
        raise OutputError(f"{target.name!r} exists already; type its whole name to replace it.")
    chosen.write(target, export)
    return [str(target)]
