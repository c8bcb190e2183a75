"""File > Save of napari, writing what the Export panel writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_unet.core.errors import InputError, OutputError
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
    from napari.layers import Image, Labels

    from napari_unet.widgets._exported import export_of

    labels = next(layer for layer in layers if layer[2] == "labels")
    image = next((layer for layer in layers if layer[2] == "image"), None)
    if image is None:
        return _write("csv", path, _export(labels[0], labels[1]))
    below = Image(image[0], **image[1])
    export = export_of(Labels(labels[0], **labels[1]), _finest(labels[0], labels[1]), below)
    if export.image is None:
        raise InputError(
            f"{below.name!r} and the objects must have the same size; save the objects alone, or "
            "with their own image."
        )
    return _write("csv", path, export)


def _finest(data: Any, meta: dict[str, Any]) -> Any:
    several = meta.get("multiscale") or isinstance(data, (list, tuple))
    return data[0] if several else data


def _export(data: Any, meta: dict[str, Any]) -> Export:
    from napari_unet.widgets._exported import grid_of

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
