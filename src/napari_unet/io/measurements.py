"""A table of measurements, one row per object and plane, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.atomic import write_text
from napari_unet.core.errors import InputError
from napari_unet.core.overlap import as_labels
from napari_unet.io.grid import Grid, grid_for, unit_symbol
from napari_unet.io.stacks import label_planes

Columns = dict[str, npt.NDArray[Any]]


def measure(
    labels: Any,
    image: Any | None = None,
    *,
    channel_axis: int | None = None,
    channel_names: Sequence[str] | None = None,
    grid: Grid | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Columns:
    """Measure all objects.

    Parameters
    ----------
    labels
        Whole numbers ``(..., Y, X)``; background is 0 or negative. Each plane of a stack is
        measured on its own.
    image
        Intensities of the same shape, with one more axis when ``channel_axis`` is given.
    channel_axis
        Axis of the channels in ``image``.
    channel_names
        One per channel (default: ``ch1``, ``ch2``, ...).
    grid
        Axes, pixel size, position and unit.
    cancelled
        Asked before each plane.

    Returns
    -------
    dict
        Columns by name, in order: the plane's position (``t``, ``z``, counted from 0) in a stack,
        ``label``, ``area_px``, ``centroid_y_px``, ``centroid_x_px`` (pixel centres are whole
        numbers), the bounding box ``bbox_top_px``, ``bbox_left_px``, ``bbox_bottom_px``,
        ``bbox_right_px`` (the last two exclusive), ``equivalent_diameter_px`` (of the circle of the
        same area), ``eccentricity`` (0 circle, towards 1 line; of the ellipse with the same second
        moments); with a pixel size the same in its unit, the unit in the name (``area_um2``,
        ``centroid_y_um``, in the layer's coordinates, ...); with an image ``mean_intensity``,
        ``min_intensity`` and ``max_intensity`` (per channel with its name).

    Raises
    ------
    InputError
        If shapes differ or labels are not whole numbers.
    StoppedError
        If ``cancelled`` says so.
    """
    if not hasattr(labels, "shape"):
        labels = np.asarray(labels)
    grid = grid_for(labels, grid)
    channels = _channels(labels.shape, image, channel_axis, channel_names)
    tables = []
    for index, plane in label_planes(labels, cancelled):
        table = measure_plane(plane, grid.plane())
        for name, channel in channels.items():
            pixels = _read_channel(image, index, channel, channel_axis)
            table |= _intensities(plane, table["label"], pixels, name)
        place = {
            letter.lower(): np.full(len(table["label"]), at, dtype=np.int64)
            for letter, at in zip(grid.axes, index, strict=False)
        }
        tables.append({**place, **table})
    if not tables:
        return {}
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def measure_plane(labels: npt.ArrayLike, grid: Grid | None = None) -> Columns:
    """Measure the shapes of one plane; see :func:`measure` for the columns.

    Moments are sums over all pixels at once, so the cost follows the pixels, not the objects.
    """
    array = as_labels(labels, "labels")
    grid = grid_for(array, grid)
    rows, columns = np.nonzero(array > 0)
    ids, which = np.unique(array[rows, columns], return_inverse=True)
    count = len(ids)
    area = np.bincount(which, minlength=count)
    y = np.bincount(which, rows, count) / np.maximum(area, 1)
    x = np.bincount(which, columns, count) / np.maximum(area, 1)
    top, bottom = _extremes(rows, which, count)
    left, right = _extremes(columns, which, count)
    height, width = grid.pixel_size or (1.0, 1.0)
    table: Columns = {
        "label": ids.astype(np.int64),
        "area_px": area,
        "centroid_y_px": y,
        "centroid_x_px": x,
        "bbox_top_px": top,
        "bbox_left_px": left,
        "bbox_bottom_px": bottom + 1,
        "bbox_right_px": right + 1,
        "equivalent_diameter_px": np.sqrt(4 * area / np.pi),
        "eccentricity": _eccentricity(
            (rows - y[which]) * height, (columns - x[which]) * width, which, area
        ),
    }
    if grid.pixel_size is not None:
        table |= _calibrated(table, grid)
    return table


def write_measurements(
    path: str | Path,
    labels: Any,
    image: Any | None = None,
    *,
    channel_axis: int | None = None,
    channel_names: Sequence[str] | None = None,
    grid: Grid | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Measure all objects (see :func:`measure`) and write the table as CSV.

    The file has a header line, commas, dots as decimal points and UTF-8 text.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing file is left as it was.
    InputError, StoppedError
        As :func:`measure`.
    """
    columns = measure(
        labels,
        image,
        channel_axis=channel_axis,
        channel_names=channel_names,
        grid=grid,
        cancelled=cancelled,
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    # Python's shortest exact notation; whole numbers have no decimal point.
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    write_text(path, text.getvalue())


def read_measurements(path: str | Path) -> Columns:
    """Read a table written by :func:`write_measurements`.

    Raises
    ------
    InputError
        If the file is missing or not such a table.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file)
        values = [[float(cell) for cell in row] for row in rows]
        table = np.array(values, dtype=float).reshape(len(rows), len(header))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {str(path)!r}; check the path.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name!r} is not a table of measurements.") from error
    return {name: table[:, i] for i, name in enumerate(header)}


def _channels(
    shape: tuple[int, ...],
    image: Any | None,
    channel_axis: int | None,
    names: Sequence[str] | None,
) -> dict[str, int]:
    """Return the index of each channel by the ending of its columns."""
    if image is None:
        return {}
    spatial = list(image.shape)
    count = 1 if channel_axis is None else spatial.pop(channel_axis)
    if tuple(spatial) != tuple(shape):
        raise InputError(
            f"The image {tuple(image.shape)} and the labels {tuple(shape)} must have the same size."
        )
    if channel_axis is None:
        return {"": 0}
    endings = names if names is not None else [f"ch{i + 1}" for i in range(count)]
    if len(set(endings)) != count:
        raise InputError(f"The image has {count} channels; give as many different names.")
    return {f"_{ending}": i for i, ending in enumerate(endings)}


def _read_channel(
    image: Any, index: tuple[int, ...], channel: int, channel_axis: int | None
) -> npt.NDArray[Any]:
    place: list[int | slice] = [*index, slice(None), slice(None)]
    if channel_axis is not None:
        place.insert(channel_axis % (len(index) + 3), channel)
    return np.asarray(image[tuple(place)])


def _intensities(
    labels: npt.NDArray[Any], ids: npt.NDArray[Any], pixels: npt.NDArray[Any], name: str
) -> Columns:
    inside = labels > 0
    values = pixels[inside].astype(np.float64)
    which = np.searchsorted(ids, labels[inside])
    count = len(ids)
    area = np.maximum(np.bincount(which, minlength=count), 1)
    low, high = _extremes(values, which, count)
    return {
        f"mean_intensity{name}": np.bincount(which, values, count) / area,
        f"min_intensity{name}": low,
        f"max_intensity{name}": high,
    }


def _extremes(
    values: npt.NDArray[Any], which: npt.NDArray[Any], count: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return minimum and maximum per object."""
    objects = np.arange(count)
    if not count:
        return values[:0], values[:0]
    low = np.asarray(ndimage.minimum(values, which, objects), dtype=values.dtype)
    high = np.asarray(ndimage.maximum(values, which, objects), dtype=values.dtype)
    return low, high


def _eccentricity(
    dy: npt.NDArray[Any], dx: npt.NDArray[Any], which: npt.NDArray[Any], area: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Return sqrt(1 - b^2/a^2) of the ellipse with the same second central moments."""
    count = len(area)
    yy, xx, xy = (
        np.bincount(which, product, count) / np.maximum(area, 1)
        for product in (dy * dy, dx * dx, dy * dx)
    )
    mean, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    large, small = mean + spread, np.maximum(mean - spread, 0)
    share = np.divide(small, large, out=np.ones(count), where=large > 0)
    result: npt.NDArray[np.float64] = np.sqrt(1 - share)
    return result


def _calibrated(table: Columns, grid: Grid) -> Columns:
    height, width = grid.scale
    y0, x0 = grid.translate
    # Plain letters: spreadsheet programs guess other encodings for the micro sign.
    unit = unit_symbol(grid.unit).replace("µ", "u").replace("Å", "angstrom")
    area = table["area_px"] * (height * width)
    # The bounding box runs along pixel edges, half a pixel beside the centres.
    return {
        f"area_{unit}2": area,
        f"centroid_y_{unit}": y0 + table["centroid_y_px"] * height,
        f"centroid_x_{unit}": x0 + table["centroid_x_px"] * width,
        f"bbox_top_{unit}": y0 + (table["bbox_top_px"] - 0.5) * height,
        f"bbox_left_{unit}": x0 + (table["bbox_left_px"] - 0.5) * width,
        f"bbox_bottom_{unit}": y0 + (table["bbox_bottom_px"] - 0.5) * height,
        f"bbox_right_{unit}": x0 + (table["bbox_right_px"] - 0.5) * width,
        f"equivalent_diameter_{unit}": np.sqrt(4 * area / np.pi),
    }
