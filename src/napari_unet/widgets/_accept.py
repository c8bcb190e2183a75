"""Copying objects that the network found into the annotation, to correct and train again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import AnnotationError
from napari_unet.widgets._annotation_layer import next_free, paintable
from napari_unet.widgets._label_plane import plane_of
from napari_unet.widgets._object_tools import highest_number
from napari_unet.widgets._written_pixels import write_pixels
from napari_unet.widgets.session import METADATA_KEY

if TYPE_CHECKING:
    from napari.layers import Labels

#: Coordinates, one row per axis, and values.
_Pixels = tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]

#: An object is skipped when more of it than this is annotated already.
COVERED = 0.5


@dataclass(frozen=True)
class Accepted:
    """Numbers of the copied objects in the annotation, and how many were there already."""

    numbers: tuple[int, ...]
    skipped: int = 0
    things: tuple[str, str] = ("object", "objects")

    def sentence(self, hidden: str = "") -> str:
        """Say it in words; ``hidden`` names a layer that was hidden to show the copies."""
        count = len(self.numbers)
        text = f"{count} {self.things[count != 1]} copied into the annotation"
        if self.skipped:
            text += f"; {self.skipped} left out because they are annotated already"
        text += ". Correct them there and train again; Ctrl+Z takes it back."
        return f"{text} {hidden!r} is hidden." if hidden else text


def accept_objects(
    result: Labels,
    annotation: Labels,
    indices: Iterable[tuple[int, ...]],
    *,
    numbers: Collection[int] | None = None,
    boxes: dict[tuple[int, ...], npt.NDArray[np.int64]] | None = None,
    origin: str = "",
) -> Accepted:
    """Copy objects under new numbers, as one step of the annotation's own undo.

    What is annotated already is never changed: an object that is mostly annotated is skipped, and
    of the others only unlabelled pixels are written.

    Parameters
    ----------
    result, annotation
        Layers of the same shape.
    indices
        Planes to copy from.
    numbers
        Objects to copy; None for all.
    boxes
        Per plane ``(n, 4)`` half-open y0, x0, y1, x1: only objects that lie mostly inside one of
        them are copied.
    origin
        Kept for each object in the annotation's metadata and features.

    Raises
    ------
    AnnotationError
        If the layers do not fit, there is nothing to copy, or the annotation cannot be written.
    """
    target = _fitting(result, annotation)
    highest = highest_number(target)
    copies: list[_Pixels] = []
    new: list[int] = []
    skipped = 0
    for index in indices:
        ids, found = _numbered(np.asarray(plane_of(result, index)))
        asked = None if numbers is None else np.flatnonzero(np.isin(ids, list(numbers)))
        wanted, covered = _wanted(found, plane_of(annotation, index), asked, boxes, index)
        skipped += covered
        if not len(wanted):
            continue
        renumber = np.zeros(len(ids), np.int64)
        for number in wanted:
            highest = next_free(highest)
            renumber[number] = highest
            new.append(highest)
        copied = renumber[found]
        copied[np.asarray(plane_of(annotation, index)) != 0] = 0
        copies.append(_pixels(index, copied))
    if not new:
        raise AnnotationError(_nothing(skipped, numbers, boxes))
    paintable(annotation, highest)
    _write(annotation, copies)
    _record(annotation, new, origin)
    return Accepted(tuple(new), skipped)


def accept_classes(
    result: Labels,
    annotation: Labels,
    indices: Iterable[tuple[int, ...]],
    *,
    numbers: Collection[int] | None = None,
    boxes: dict[tuple[int, ...], npt.NDArray[np.int64]] | None = None,
) -> Accepted:
    """Copy classes, which keep their numbers, into unlabelled pixels.

    Parameters and errors are those of :func:`accept_objects`; of ``boxes`` the inside is copied.
    """
    _fitting(result, annotation)
    copies: list[_Pixels] = []
    present: set[int] = set()
    for index in indices:
        copied = np.maximum(plane_of(result, index), 0).astype(np.int64)
        copied[np.asarray(plane_of(annotation, index)) != 0] = 0
        if numbers is not None:
            copied[~np.isin(copied, list(numbers))] = 0
        if boxes is not None:
            copied[~_inside(copied.shape, boxes.get(index))] = 0
        copies.append(_pixels(index, copied))
        present.update(np.unique(copied[copied > 0]).tolist())
    if not present:
        raise AnnotationError("There is nothing to copy here that is not annotated already.")
    paintable(annotation, max(present))
    _write(annotation, copies)
    return Accepted(tuple(sorted(present)), things=("class", "classes"))


def _fitting(result: Labels, annotation: Labels) -> Any:
    """Return the array of an annotation that fits a result and can be painted."""
    shape = tuple(result.data.shape)
    target = annotation.data[0] if annotation.multiscale else annotation.data
    if shape != tuple(target.shape):
        raise AnnotationError(
            f"The objects ({_size(shape)}) and the annotation {annotation.name!r} "
            f"({_size(target.shape)}) differ in size; choose the annotation of the same image."
        )
    paintable(annotation, 1)
    return target


def _pixels(index: tuple[int, ...], plane: npt.NDArray[np.int64]) -> _Pixels:
    """Return what is not 0 of a plane."""
    rows, columns = np.nonzero(plane)
    leading = [np.full(len(rows), place) for place in index]
    return np.stack([*leading, rows, columns]), plane[rows, columns]


def _write(annotation: Labels, copies: Iterable[_Pixels]) -> None:
    """Write pixels as one step of undo."""
    places, values = zip(*copies, strict=True)
    write_pixels(annotation, tuple(np.concatenate(places, axis=1)), np.concatenate(values))


def origins(annotation: Labels) -> dict[int, str]:
    """Return where the objects of an annotation come from; painted ones are not in it."""
    entry = annotation.metadata.get(METADATA_KEY)
    known = entry.get("origin", {}) if isinstance(entry, dict) else {}
    return dict(known)


def _numbered(plane: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """Return the ids of a plane, 0 first, and where in them each pixel's is; -1 counts as 0.

    Tables follow the number of objects, not the highest id: other programs have ids of 2^40.
    """
    objects = np.maximum(plane, 0)
    highest = int(objects.max(initial=0))
    if highest <= objects.size:  # as our own results have it; sorting a stack takes seconds
        return np.arange(highest + 1), objects.astype(np.intp)
    ids = np.unique(np.append(objects.ravel(), objects.dtype.type(0)))
    return ids, np.searchsorted(ids, objects)


def _wanted(
    found: npt.NDArray[np.intp],
    annotated: Any,
    numbers: npt.NDArray[np.intp] | None,
    boxes: dict[tuple[int, ...], npt.NDArray[np.int64]] | None,
    index: tuple[int, ...],
) -> tuple[npt.NDArray[np.intp], int]:
    """Return the objects of one plane to copy, and how many were left out as annotated."""
    flat = found.ravel()
    area = np.bincount(flat)
    chosen = area > 0
    chosen[0] = False
    if numbers is not None:
        asked = np.zeros_like(chosen)
        asked[numbers] = True
        chosen &= asked
    if boxes is not None:
        chosen &= _mostly_inside(found, area, boxes.get(index))
    covered = np.bincount(flat, weights=(np.asarray(annotated) != 0).ravel(), minlength=len(area))
    fresh = covered <= COVERED * area
    return np.flatnonzero(chosen & fresh), int((chosen & ~fresh).sum())


def _mostly_inside(
    found: npt.NDArray[np.intp], area: npt.NDArray[np.intp], boxes: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(area), bool)
    for y0, x0, y1, x1 in [] if boxes is None else boxes:
        part = found[y0:y1, x0:x1].ravel()
        inside |= np.bincount(part, minlength=len(area)) > 0.5 * area
    return inside


def _inside(shape: tuple[int, ...], boxes: npt.NDArray[np.int64] | None) -> npt.NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    for y0, x0, y1, x1 in [] if boxes is None else boxes:
        inside[y0:y1, x0:x1] = True
    return inside


def _nothing(skipped: int, numbers: Collection[int] | None, boxes: Any) -> str:
    if skipped:
        return "These objects are annotated already; nothing was copied."
    if numbers is not None:
        return "Pick an object first (the colour picker of the result layer), then press again."
    if boxes is not None:
        return "No object lies inside the boxes; draw a box around some with the Annotate tab."
    return "There are no objects to copy in this plane."


def _record(annotation: Labels, numbers: list[int], origin: str) -> None:
    known = origins(annotation)
    known.update(dict.fromkeys(numbers, origin))
    entry = annotation.metadata.get(METADATA_KEY)
    # The purpose of a layer that was chosen as annotation by hand stays as it is.
    annotation.metadata[METADATA_KEY] = {**(entry or {}), "origin": known}
    table = annotation.features
    if len(table.columns) and "index" not in table.columns:
        return  # somebody's own table, one row per number: the metadata has to do
    ids = sorted({*known, *(int(number) for number in table.get("index", ()))})
    columns: dict[str, list[Any]] = {"index": ids}
    for name in table.columns.drop(["index", "origin"], errors="ignore"):
        before = dict(zip(table["index"], table[name], strict=True))
        columns[str(name)] = [before.get(number) for number in ids]
    # Shown in napari's status bar when the pointer is over an object.
    columns["origin"] = [known.get(number, "painted") for number in ids]
    annotation.features = columns


def _size(shape: Iterable[int]) -> str:
    return " x ".join(str(n) for n in shape)
