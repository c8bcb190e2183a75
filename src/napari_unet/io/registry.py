"""The formats that labels can be exported to, in one list for panels, writers and commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_unet.core.errors import InputError
from napari_unet.io.grid import Grid


@dataclass(frozen=True)
class Export:
    """Everything a format may want to know about the labels it writes.

    Attributes
    ----------
    labels
        Whole numbers ``(..., Y, X)``.
    grid
        Axes, pixel size, position and units of the labels; None when unknown.
    image
        The intensities that belong to the labels, for measurements; None without.
    channel_axis
        Axis of the channels in ``image``.
    name
        Name of the image.
    cancelled
        Asked while a file is written; all but plain TIFFs are then left as they were.
    """

    labels: Any
    grid: Grid | None = None
    image: Any | None = None
    channel_axis: int | None = None
    name: str = "image"
    cancelled: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Format:
    """One way to write labels.

    Attributes
    ----------
    name
        Short name for the command line.
    title
        Name for people.
    ending
        What is added to the name of the image.
    suffixes
        File endings the format is recognised by, the usual one first.
    content
        ``"masks"``: pixels; ``"outlines"``: objects; ``"table"``: measurements.
    keeps_background
        Whether painted background (-1) comes back.
    help
        One sentence for people.
    write
        Writes an :class:`Export` to a path.
    """

    name: str
    title: str
    ending: str
    suffixes: tuple[str, ...]
    content: Literal["masks", "outlines", "table"]
    keeps_background: bool
    help: str
    write: Callable[[Path, Export], None]

    def path_for(self, folder: str | Path, stem: str) -> Path:
        """Return the usual path of a result: the image's stem and the format's ending."""
        return Path(folder) / f"{stem}{self.ending}"

    def with_ending(self, path: Path) -> Path:
        """Add what a name lacks of the ending: ``cells.tif`` is ``cells_annotation.tif``."""
        if path.name.lower().endswith(self.suffixes):
            return path
        plain = {Path(suffix).suffix for suffix in self.suffixes}
        stem = path.stem if path.suffix.lower() in plain else path.name
        return path.with_name(f"{stem}{self.suffixes[0]}")


def formats() -> tuple[Format, ...]:
    """Return all formats, the most usual one first."""
    return _FORMATS


def format_named(name: str) -> Format:
    """Return a format by its short name.

    Raises
    ------
    InputError
        If there is no such format; the message lists them.
    """
    for found in _FORMATS:
        if found.name == name:
            return found
    known = ", ".join(found.name for found in _FORMATS)
    raise InputError(f"There is no format {name!r}; choose one of {known}.")


def format_for(path: str | Path) -> Format:
    """Return the format that a file's ending stands for (``_annotation.tif`` before ``.tif``).

    Raises
    ------
    InputError
        If no format writes such files; the message lists the endings.
    """
    name = Path(path).name.lower()
    fitting = [
        (len(suffix), found)
        for found in _FORMATS
        for suffix in found.suffixes
        if name.endswith(suffix)
    ]
    if fitting:
        return max(fitting, key=lambda item: item[0])[1]
    known = ", ".join(dict.fromkeys(found.suffixes[0] for found in _FORMATS))
    raise InputError(f"{Path(path).name!r} has no ending of a known format ({known}).")


def write_labels(
    path: str | Path,
    labels: Any,
    *,
    format: str | None = None,
    grid: Grid | None = None,
    image: Any | None = None,
    channel_axis: int | None = None,
    name: str = "image",
) -> Path:
    """Write labels in a format, by its name or by the file's ending.

    Parameters
    ----------
    path
        File or folder to write; replaced when it exists.
    labels, grid, image, channel_axis, name
        See :class:`Export`.
    format
        Short name of a format (default: by the ending of ``path``).

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    OutputError
        If it cannot be written; what was there is left as it was.
    InputError
        If the format is unknown or cannot hold these labels.
    """
    chosen = format_named(format) if format is not None else format_for(path)
    chosen.write(Path(path), Export(labels, grid, image, channel_axis, name))
    return Path(path)


def _write_masks(path: Path, export: Export) -> None:
    from napari_unet.io.masks_tiff import write_masks

    write_masks(path, export.labels, grid=export.grid)


def _write_annotation(path: Path, export: Export) -> None:
    from napari_unet.io.masks_tiff import write_annotation

    write_annotation(path, export.labels, grid=export.grid)


def _write_ome_zarr(path: Path, export: Export) -> None:
    from napari_unet.io.ome_zarr import write_ome_zarr

    write_ome_zarr(path, export.labels, grid=export.grid, cancelled=export.cancelled)


def _write_imagej_rois(path: Path, export: Export) -> None:
    from napari_unet.io.imagej_roi import write_imagej_rois

    write_imagej_rois(path, export.labels, grid=export.grid, cancelled=export.cancelled)


def _write_geojson(path: Path, export: Export) -> None:
    from napari_unet.io.geojson import write_geojson

    write_geojson(path, export.labels, grid=export.grid, cancelled=export.cancelled)


def _write_coco(path: Path, export: Export) -> None:
    from napari_unet.io.coco import write_coco

    write_coco(path, export.labels, image_name=export.name, cancelled=export.cancelled)


def _write_measurements(path: Path, export: Export) -> None:
    from napari_unet.io.measurements import write_measurements

    write_measurements(
        path,
        export.labels,
        export.image,
        channel_axis=export.channel_axis,
        grid=export.grid,
        cancelled=export.cancelled,
    )


_FORMATS = (
    Format(
        name="tiff",
        title="Masks (TIFF for ImageJ)",
        ending="_masks.tif",
        suffixes=(".tif", ".tiff"),
        content="masks",
        keeps_background=False,
        help="Each pixel holds the number of its object; opens in ImageJ with its pixel size.",
        write=_write_masks,
    ),
    Format(
        name="ome-zarr",
        title="Masks (OME-Zarr)",
        ending="_masks.zarr",
        suffixes=(".zarr",),
        content="masks",
        keeps_background=True,
        help="A folder for images of any size, with a pyramid for fast viewing.",
        write=_write_ome_zarr,
    ),
    Format(
        name="annotation",
        title="Annotation (TIFF, with painted background)",
        ending="_annotation.tif",
        suffixes=("_annotation.tif", "_annotation.tiff"),
        content="masks",
        keeps_background=True,
        help="What was painted, as it is, to train on it again.",
        write=_write_annotation,
    ),
    Format(
        name="imagej-roi",
        title="Outlines (ImageJ ROI set)",
        ending="_rois.zip",
        suffixes=(".zip",),
        content="outlines",
        keeps_background=False,
        help="One region per object for ImageJ's ROI Manager.",
        write=_write_imagej_rois,
    ),
    Format(
        name="geojson",
        title="Outlines (GeoJSON for QuPath)",
        ending=".geojson",
        suffixes=(".geojson",),
        content="outlines",
        keeps_background=False,
        help="One polygon per object, in pixels.",
        write=_write_geojson,
    ),
    Format(
        name="coco",
        title="Objects (COCO JSON)",
        ending="_coco.json",
        suffixes=(".json",),
        content="outlines",
        keeps_background=False,
        help="Boxes, areas and run-length masks for machine learning programs.",
        write=_write_coco,
    ),
    Format(
        name="csv",
        title="Measurements (CSV table)",
        ending="_measurements.csv",
        suffixes=(".csv",),
        content="table",
        keeps_background=False,
        help="Area, position, diameter, shape and intensity of each object.",
        write=_write_measurements,
    ),
)
