"""Corrections of whole objects in one plane; each is one step of the layer's own undo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_unet.core.errors import AnnotationError
from napari_unet.widgets._annotation_layer import next_free, paintable
from napari_unet.widgets._label_plane import plane_of
from napari_unet.widgets._written_pixels import write_pixels

if TYPE_CHECKING:
    from napari.layers import Labels

_EIGHT_CONNECTED = np.ones((3, 3), bool)
_Rows = npt.NDArray[np.intp]


def merge_objects(layer: Labels, index: tuple[int, ...], keep: int, others: Sequence[int]) -> int:
    """Give the pixels of ``others`` the number ``keep``; return how many pixels changed.

    Raises
    ------
    AnnotationError
        If one of the numbers is not an object of this plane.
    """
    others = [number for number in others if number != keep]
    plane = np.asarray(plane_of(layer, index))
    for number in (keep, *others):
        if number <= 0 or not (plane == number).any():
            raise AnnotationError(f"There is no object {number} in this plane to merge.")
    rows, columns = np.nonzero(np.isin(plane, others))
    _write(layer, index, rows, columns, np.full(len(rows), keep))
    return len(rows)


def delete_objects(layer: Labels, index: tuple[int, ...], numbers: Sequence[int]) -> int:
    """Make objects of one plane unlabelled; return how many pixels changed.

    Raises
    ------
    AnnotationError
        If none of them is there.
    """
    plane = np.asarray(plane_of(layer, index))
    rows, columns = np.nonzero(np.isin(plane, [n for n in numbers if n != 0]))
    if not len(rows):
        named = ", ".join(str(number) for number in numbers)
        raise AnnotationError(f"There is no object {named} in this plane to delete.")
    _write(layer, index, rows, columns, np.zeros(len(rows), int))
    return len(rows)


def split_object(
    layer: Labels, index: tuple[int, ...], number: int, new_number: int
) -> tuple[int, ...]:
    """Split an object: into its separate pieces, or, when it is of one piece, at its waist.

    Parameters
    ----------
    layer, index
        The plane.
    number
        The object; its largest part keeps the number.
    new_number
        The first number that is free; the other parts get it and the next free ones.

    Returns
    -------
    tuple
        The new numbers.

    Raises
    ------
    AnnotationError
        If the object is not there, has a single pixel, or the layer cannot hold the new numbers.
    """
    plane = np.asarray(plane_of(layer, index))
    if number <= 0 or not (plane == number).any():
        raise AnnotationError(f"There is no object {number} in this plane to split.")
    inside = plane == number
    window = ndimage.find_objects(inside.astype(np.uint8))[0]
    pieces = split_mask(inside[window])
    count = int(pieces.max())
    if count < 2:
        raise AnnotationError(f"Object {number} is a single pixel and cannot be split.")
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    by_size = np.argsort(-sizes, kind="stable") + 1
    added = [new_number]
    while len(added) < count - 1:
        added.append(next_free(added[-1]))
    paintable(layer, added[-1])
    # Of the layer's type: ids of 2^63 and more fit no signed one.
    numbers = np.zeros(count + 1, plane.dtype)
    numbers[by_size[0]] = number
    numbers[by_size[1:]] = np.array(added, plane.dtype)
    rows, columns = np.nonzero(pieces)
    values = numbers[pieces[rows, columns]]
    _write(layer, index, rows + window[0].start, columns + window[1].start, values)
    return tuple(added)


def split_mask(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Return the parts of an object, numbered: its pieces, or two halves of a single piece.

    The halves are grown from the two most prominent maxima of the distance to the border, along
    falling distance, so they meet at the waist. A shape with one maximum (a disc, a line one
    pixel wide) is cut across its longer axis.
    """
    pieces, count = ndimage.label(inside, structure=_EIGHT_CONNECTED)
    if count != 1:
        return np.asarray(pieces, np.int32)
    rows, columns = np.nonzero(inside)
    if len(rows) < 2:
        return np.asarray(pieces, np.int32)
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    padded = np.pad(inside, 1)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(padded), 1.0)
    distance = np.where(padded, distance, 0)
    apart = max(1, int(distance.max() / 2))
    peaks = peak_local_max(  # type: ignore[no-untyped-call]
        distance, min_distance=apart, num_peaks=2, labels=padded.astype(np.int32)
    )
    if len(peaks) < 2:
        return _cut_across(inside, rows, columns)
    markers = np.zeros(padded.shape, np.int32)
    markers[tuple(peaks.T)] = (1, 2)
    grown = watershed(  # type: ignore[no-untyped-call]
        -distance, markers, mask=padded, connectivity=2
    )
    return np.asarray(grown[1:-1, 1:-1], np.int32)


def _cut_across(
    inside: npt.NDArray[np.bool_], rows: _Rows, columns: _Rows
) -> npt.NDArray[np.int32]:
    points = np.stack([rows, columns], axis=1).astype(float)
    centred = points - points.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    along = centred @ axis
    order = np.argsort(along, kind="stable")
    parts = np.zeros(inside.shape, np.int32)
    half = np.empty(len(rows), np.int32)
    half[order] = np.where(np.arange(len(rows)) < len(rows) // 2, 1, 2)
    parts[rows, columns] = half
    return parts


def neighbour_number(plane: Any, number: int, step: int) -> int | None:
    """Return the next higher (``step`` 1) or lower (-1) object number present in a plane."""
    values = np.asarray(plane)
    if step > 0:
        found = values[values > max(number, 0)]
        return int(found.min()) if found.size else None
    found = values[(values > 0) & (values < number)]
    return int(found.max()) if found.size else None


def middle_of(plane: Any, number: int) -> tuple[float, float]:
    """Return the middle (y, x) of an object's bounding box."""
    rows, columns = np.nonzero(np.asarray(plane) == number)
    return (
        (float(rows.min()) + float(rows.max())) / 2,
        (float(columns.min()) + float(columns.max())) / 2,
    )


def _write(
    layer: Labels,
    index: tuple[int, ...],
    rows: _Rows,
    columns: _Rows,
    values: npt.NDArray[np.integer],
) -> None:
    leading = [np.full(len(rows), place) for place in index]
    write_pixels(layer, (*leading, rows, columns), values)
