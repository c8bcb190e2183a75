"""Label images as OME-Zarr (NGFF 0.4 and 0.5) with a pyramid; written chunk by chunk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_unet.core.atomic import atomic_folder, output_error
from napari_unet.core.errors import InputError, OutputError, stop_if
from napari_unet.io.grid import FILE_AXES, Grid, file_axes, grid_for, unit_name
from napari_unet.io.images import lazily

NgffVersion = Literal["0.4", "0.5"]

_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_CHUNK = 1024
#: The pyramid ends when a plane is at most this large.
_SMALLEST_LEVEL = 512


def write_ome_zarr(
    path: str | Path,
    labels: Any,
    *,
    grid: Grid | None = None,
    version: NgffVersion = "0.4",
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Write labels as an OME-Zarr label image, painted background (-1) included.

    Each level of the pyramid takes every second pixel of the level below, so that no label is
    ever mixed. Labels are read and written chunk by chunk: they may be larger than memory.

    Parameters
    ----------
    path
        Folder to write, usually ending in ``.zarr``; replaced when it holds labels.
    labels
        Whole numbers ``(..., Y, X)``: numpy, zarr, dask or memory-mapped. The type is kept.
    grid
        Axes, pixel size, position and units. Axes are written in the order T, C, Z, Y, X.
    version
        Of the specification: 0.4 is Zarr format 2, 0.5 is Zarr format 3.
    cancelled
        Asked before each chunk.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds something else; it is left as it was.
    InputError
        If the labels are not whole numbers or have more axes.
    StoppedError
        If ``cancelled`` says so; an existing folder is left as it was.
    """
    if not hasattr(labels, "dtype"):
        labels = np.asarray(labels)
    grid = grid_for(labels, grid)
    if np.dtype(labels.dtype).kind not in "biu":
        raise InputError(f"The labels must be whole numbers, not {labels.dtype}.")
    labels, grid = _in_order(labels, grid)
    check_replaceable(path)
    with atomic_folder(path) as temporary:
        _write_pyramid(temporary, labels, grid, version, cancelled)


def _in_order(labels: Any, grid: Grid) -> tuple[Any, Grid]:
    """Bring axes into the order that OME-Zarr asks for, without reading lazy labels."""
    grid = replace(grid, axes=file_axes(grid.axes))
    order = sorted(range(grid.ndim), key=lambda axis: FILE_AXES.index(grid.axes[axis]))
    if order == list(range(grid.ndim)):
        return labels, grid
    return lazily(labels).transpose(order), Grid(
        axes="".join(grid.axes[axis] for axis in order),
        scale=tuple(grid.scale[axis] for axis in order),
        translate=tuple(grid.translate[axis] for axis in order),
        units=tuple(grid.units[axis] for axis in order),
    )


def check_replaceable(path: str | Path) -> None:
    """Check that a folder is missing, empty or an OME-Zarr label image, before it is replaced.

    Raises
    ------
    OutputError
        If it holds something else: an image, or files of any kind; or cannot be looked into.
    """
    import zarr
    import zarr.errors

    folder = Path(path)
    try:
        if not folder.is_dir() or not any(folder.iterdir()):
            return
    except OSError as error:  # its name is too long, or it may not be looked into
        raise output_error(path, error) from error
    try:
        attributes: dict[str, Any] = dict(zarr.open(str(folder), mode="r").attrs)
        if "image-label" in dict(attributes.get("ome", attributes)):
            return
    except (zarr.errors.BaseZarrError, OSError, LookupError, TypeError, ValueError):
        pass
    raise OutputError(
        f"{folder.name!r} was not written: a folder of that name holds something other than "
        "labels; choose another name."
    )


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr array or group, by what is in it or by its name.

    Labels inside an OME-Zarr (``image.zarr/labels/cells``) have no ending.
    """
    if not path.is_dir():
        return False
    marks = (".zarray", ".zgroup", "zarr.json")
    return path.suffix.lower() == ".zarr" or any((path / mark).exists() for mark in marks)


def open_image(path: str | Path) -> tuple[Any, Grid]:
    """Open a Zarr array or the full resolution of an OME-Zarr image, without reading pixels.

    Returns
    -------
    array, grid
        The Zarr array, and what its metadata say about axes, pixel size and position.

    Raises
    ------
    InputError
        If the folder holds no Zarr array.
    """
    import zarr
    import zarr.errors

    path = Path(path)
    if path.is_dir() and not is_zarr(path):
        raise InputError(f"{path.name!r} is a folder, not an image; name the image files in it.")
    try:
        node = zarr.open(str(path), mode="r")
        while isinstance(node, zarr.Group) and _multiscales(node) is None and "0" in node:
            node = node["0"]  # the layout of bioformats2raw, or a bare pyramid
        if isinstance(node, zarr.Array):
            return node, Grid.of(node.ndim)
        multiscales = _multiscales(node)
        if multiscales is not None:
            array = node[multiscales["datasets"][0]["path"]]
            if isinstance(array, zarr.Array):
                return array, _read_grid(multiscales, array.ndim)
    except (zarr.errors.BaseZarrError, OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path.name!r} is not a Zarr image, or it is damaged; choose another folder."
        ) from error
    raise InputError(
        f"{path.name!r} holds no image array; choose the Zarr folder of one image inside it."
    )


def read_ome_zarr(path: str | Path) -> tuple[Any, Grid]:
    """Open labels written by :func:`write_ome_zarr`; see :func:`open_image`.

    Raises
    ------
    InputError
        If there are none, or the array does not hold whole numbers.
    """
    array, grid = open_image(path)
    if np.dtype(array.dtype).kind not in "biu":
        raise InputError(f"{Path(path).name!r} holds an image, not labels.")
    return array, grid


def _write_pyramid(
    folder: Path,
    labels: Any,
    grid: Grid,
    version: NgffVersion,
    cancelled: Callable[[], bool] | None,
) -> None:
    import zarr

    zarr_format: Literal[2, 3] = 2 if version == "0.4" else 3
    group = zarr.open_group(str(folder), mode="w", zarr_format=zarr_format)
    source, shape, datasets = labels, tuple(int(n) for n in labels.shape), []
    dtype = np.dtype(labels.dtype) if labels.dtype != bool else np.dtype(np.uint8)
    for level in itertools.count():
        array = group.create_array(
            str(level),
            shape=shape,
            chunks=tuple(min(n, _CHUNK) for n in (1,) * (len(shape) - 2) + shape[-2:]),
            dtype=dtype,
            chunk_key_encoding={"name": "v2" if zarr_format == 2 else "default", "separator": "/"},
            dimension_names=tuple(grid.axes.lower()) if zarr_format == 3 else None,
        )
        step = 1 if level == 0 else 2
        for place in _chunks(shape):
            stop_if(cancelled)
            array[place] = np.asarray(source[_scaled(place, step, source.shape)])
        datasets.append({"path": str(level), "coordinateTransformations": _place(grid, 2**level)})
        if max(shape[-2:]) <= _SMALLEST_LEVEL:
            break
        source, shape = array, (*shape[:-2], *(-(-n // 2) for n in shape[-2:]))
    _write_metadata(group, grid, datasets, version)


def _write_metadata(
    group: Any, grid: Grid, datasets: list[dict[str, Any]], version: NgffVersion
) -> None:
    axes = []
    for letter, unit in zip(grid.axes, grid.units, strict=True):
        axis = {"name": letter.lower(), "type": _TYPES[letter]}
        axes.append({**axis, "unit": unit} if unit else axis)
    multiscales: dict[str, Any] = {"axes": axes, "datasets": datasets, "type": "nearest"}
    if version == "0.4":
        multiscales["version"] = version
        group.attrs["multiscales"] = [multiscales]
        group.attrs["image-label"] = {"version": version}
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [multiscales], "image-label": {}}


def _place(grid: Grid, factor: int) -> list[dict[str, Any]]:
    """Return scale and translation of a level. Its pixels are pixels of the full resolution."""
    plane = len(grid.axes) - 2
    scale = [value * (factor if i >= plane else 1) for i, value in enumerate(grid.scale)]
    return [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": list(grid.translate)},
    ]


def _chunks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the boxes of all chunks, plane by plane."""
    steps = (1,) * (len(shape) - 2) + (_CHUNK, _CHUNK)
    starts = (range(0, size, step) for size, step in zip(shape, steps, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(
            slice(at, min(at + step, size))
            for at, step, size in zip(corner, steps, shape, strict=True)
        )


def _scaled(place: tuple[slice, ...], step: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    plane = (
        slice(part.start * step, min(part.stop * step, size), step)
        for part, size in zip(place[-2:], shape[-2:], strict=True)
    )
    return (*place[:-2], *plane)


def _multiscales(node: Any) -> dict[str, Any] | None:
    attributes = dict(node.attrs)
    entries = dict(attributes.get("ome", attributes)).get("multiscales")
    return dict(entries[0]) if entries else None


def _read_grid(multiscales: dict[str, Any], ndim: int) -> Grid:
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscales["axes"]]
    scale, translate = np.ones(ndim), np.zeros(ndim)
    both = multiscales["datasets"][0], multiscales
    for transformation in itertools.chain(*(p.get("coordinateTransformations", ()) for p in both)):
        if transformation["type"] == "scale":
            factors = np.asarray(transformation["scale"], dtype=float)
            scale, translate = scale * factors, translate * factors
        elif transformation["type"] == "translation":
            translate = translate + np.asarray(transformation["translation"], dtype=float)
    # As for layers in napari: a mirrored axis counts with its size, one without a size as pixels.
    usable = np.isfinite(scale) & (scale != 0)
    scale, translate = np.where(usable, np.abs(scale), 1), np.nan_to_num(translate)
    return Grid.of(
        ndim,
        axes=[axis["name"] for axis in axes],
        scale=scale.tolist(),
        translate=translate.tolist(),
        units=[unit_name(axis.get("unit")) for axis in axes],
    )
