"""Objects as an ImageJ ROI set (zip): outlines along pixel edges, so that masks come back exactly.

One ROI per object and plane, named by its label. Objects with holes or several parts are composite
ROIs; all others are traced polygons, as ImageJ's wand tool makes them.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.atomic import atomic_file
from napari_unet.core.errors import InputError
from napari_unet.io.grid import Grid, grid_for
from napari_unet.io.outlines import Outline, outlines, paint
from napari_unet.io.stacks import label_planes, object_numbers, positions

#: Larger coordinates do not fit into ImageJ's short integers.
_LARGEST_SHORT = 60_535
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
_OUR_NAME = re.compile(r"(\d+)(?:_[tczq]\d+)*")


def write_imagej_rois(
    path: str | Path,
    labels: Any,
    *,
    grid: Grid | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Write all objects into one zip file for ImageJ's ROI Manager.

    Parameters
    ----------
    path
        File to write, ending in ``.zip``; replaced when it exists.
    labels
        Whole numbers ``(..., Y, X)``; background is 0 or negative.
    grid
        Axes, so that ROIs stand on their slice or frame. ROIs themselves are in pixels.
    cancelled
        Asked while the file is written.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing file is left as it was.
    StoppedError
        If ``cancelled`` says so; an existing file is left as it was.
    InputError
        If the labels are not whole numbers.
    """
    grid = grid_for(labels if hasattr(labels, "shape") else np.asarray(labels), grid)
    with (
        atomic_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for index, plane in label_planes(labels, cancelled):
            place = positions(grid, index)
            suffix = "".join(f"_{letter.lower()}{at + 1}" for letter, at in place.items())
            for outline in outlines(plane, cancelled):
                name = f"{outline.label}{suffix}"
                archive.writestr(f"{name}.roi", _roi(outline, name, place).tobytes())


def read_imagej_rois(
    path: str | Path, shape: Sequence[int], *, grid: Grid | None = None
) -> npt.NDArray[np.int32]:
    """Paint the ROIs of a file into a label image.

    Parameters
    ----------
    path
        ``.zip`` or single ``.roi``.
    shape
        Shape of the label image ``(..., Y, X)``: the file does not know it.
    grid
        Axes of the label image; ROIs without a position go to the first plane.

    Returns
    -------
    ndarray of int32
        Labels by the ROI's names where these are numbers above 0, else counted from 1. Lines and
        points have no area and are left out.

    Raises
    ------
    InputError
        If the file is missing or holds no ROIs.
    """
    import roifile

    path = Path(path)
    labels = np.zeros(tuple(shape), dtype=np.int32)
    grid = grid_for(labels, grid)
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}; check the path.")
    try:
        found = roifile.roiread(path)
    except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name!r} is not an ImageJ ROI file; choose another one.") from error
    rois = [roi for roi in (found if isinstance(found, list) else [found]) if _has_area(roi)]
    names = [_OUR_NAME.fullmatch(roi.name) for roi in rois]
    numbers = object_numbers([int(name[1]) if name else None for name in names])
    shapes: dict[tuple[int, ...], list[tuple[int, Any]]] = {}
    for label, roi in zip(numbers, rois, strict=True):
        shapes.setdefault(_plane_of(roi, grid, labels.shape), []).append((label, _rings(roi)))
    for index, items in shapes.items():
        paint(labels[index], items)
    return labels


def _roi(outline: Outline, name: str, place: dict[str, int]) -> Any:
    import roifile

    rings = outline.rings
    corners = np.concatenate(rings)
    left, top = corners.min(axis=0).tolist()
    right, bottom = corners.max(axis=0).tolist()
    roi = roifile.ImagejRoi(name=name, left=left, top=top, right=right, bottom=bottom)
    for field, value in _position(place).items():
        setattr(roi, field, value)
    if len(rings) > 1:
        roi.roitype = roifile.ROI_TYPE.RECT
        roi.multi_coordinates = _path(rings)
        roi.shape_roi_size = len(roi.multi_coordinates)
        return roi
    roi.roitype = roifile.ROI_TYPE.TRACED
    roi.n_coordinates = len(corners)
    roi.integer_coordinates = (corners - (left, top)).astype(np.int32)
    if max(right, bottom) > _LARGEST_SHORT:
        roi.options |= roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        roi.subpixel_coordinates = corners.astype(np.float32)
    return roi


def _position(place: dict[str, int]) -> dict[str, int]:
    """Return the ROI's place in a stack, counted from 1 as ImageJ does."""
    if len(place) == 1:
        return {"position": next(iter(place.values())) + 1}
    if not place:
        return {}
    return {f"{letter.lower()}_position": place.get(letter, 0) + 1 for letter in "CZT"}


def _path(rings: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    parts = []
    for ring in rings:
        segments = np.full((len(ring), 3), _LINE, dtype=np.float32)
        segments[0, 0] = _MOVE
        segments[:, 1:] = ring
        parts += [segments.ravel(), np.array([_CLOSE], dtype=np.float32)]
    return np.concatenate(parts)


def _has_area(roi: Any) -> bool:
    return roi.roitype.name in ("POLYGON", "RECT", "OVAL", "FREEHAND", "TRACED")


def _rings(roi: Any) -> list[npt.NDArray[Any]]:
    if roi.composite:
        return [np.asarray(ring, dtype=float) for ring in roi.coordinates(multi=True)]
    return [np.asarray(roi.coordinates(), dtype=float)]


def _plane_of(roi: Any, grid: Grid, shape: tuple[int, ...]) -> tuple[int, ...]:
    leading = grid.axes[:-2]
    if len(leading) == 1:
        at = [max(roi.position, roi.t_position if leading == "T" else roi.z_position)]
    else:
        places = {"C": roi.c_position, "Z": roi.z_position, "T": roi.t_position}
        at = [places.get(letter, 0) for letter in leading]
    return tuple(min(max(n - 1, 0), size - 1) for n, size in zip(at, shape, strict=False))
