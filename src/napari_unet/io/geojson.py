"""Objects as GeoJSON for QuPath and others: polygons along pixel edges, exact with holes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_unet.core.atomic import write_text
from napari_unet.core.errors import InputError
from napari_unet.io.grid import Grid, grid_for
from napari_unet.io.outlines import Outline, outlines, paint
from napari_unet.io.stacks import label_planes, object_numbers, positions

#: Where we note the shape and calibration; GeoJSON allows further members.
_MEMBER = "napari_unet"
_IDS = uuid.UUID("6f0a3a4e-61c1-4a0c-9c43-0d1f6a0a5b57")


def write_geojson(
    path: str | Path,
    labels: Any,
    *,
    grid: Grid | None = None,
    object_type: Literal["detection", "annotation", "cell"] = "detection",
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Write all objects as one FeatureCollection.

    Coordinates are pixels with the origin at the image's upper left corner, as QuPath expects. An
    object is a Polygon or, when it has several parts, a MultiPolygon. Its label is in
    ``properties.label`` and is its name.

    Parameters
    ----------
    path
        File to write; replaced when it exists.
    labels
        Whole numbers ``(..., Y, X)``; background is 0 or negative.
    grid
        Axes (so that objects stand on their z-slice and time point), pixel size and position.
    object_type
        What the objects become in QuPath.
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
    if not hasattr(labels, "shape"):
        labels = np.asarray(labels)
    grid = grid_for(labels, grid)
    about = {
        "shape": [int(n) for n in labels.shape],
        "axes": grid.axes,
        "scale": list(grid.scale),
        "translate": list(grid.translate),
        "units": list(grid.units),
    }
    features = ",\n".join(
        json.dumps(feature, separators=(",", ":"))
        for feature in _features(labels, grid, object_type, cancelled)
    )
    head = f'{{"type":"FeatureCollection","{_MEMBER}":{json.dumps(about)},"features":[\n'
    write_text(path, f"{head}{features}\n]}}\n")


def read_geojson(
    path: str | Path, shape: Sequence[int] | None = None
) -> tuple[npt.NDArray[np.int32], Grid]:
    """Paint the polygons of a GeoJSON file into a label image.

    Parameters
    ----------
    path
        File of :func:`write_geojson`, QuPath or another program, in pixels.
    shape
        Shape of the label image ``(..., Y, X)``; needed for files of other programs.

    Returns
    -------
    labels, grid
        int32 labels by ``properties.label`` or names that are numbers above 0 when all objects
        have them, else counted from 1.

    Raises
    ------
    InputError
        If the file is missing, not GeoJSON, or the shape is not known.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        features = content["features"] if isinstance(content, dict) else list(content)
        about = content.get(_MEMBER, {}) if isinstance(content, dict) else {}
        size = tuple(int(n) for n in (about.get("shape") if shape is None else shape) or ())
        if not size:
            raise InputError(f"{path.name!r} does not say how large its image is; give the shape.")
        known = {key: about[key] for key in ("axes", "scale", "translate", "units") if key in about}
        grid = Grid.of(len(size), **known)
        labels = np.zeros(size, dtype=np.int32)
        shapes: dict[tuple[int, ...], list[tuple[int, Any]]] = {}
        numbers = object_numbers([_number_of(feature) for feature in features])
        for number, feature in zip(numbers, features, strict=True):
            geometry = feature["geometry"]
            index = _plane_of(geometry, grid, size)
            shapes.setdefault(index, []).append((number, _rings(geometry)))
        for index, items in shapes.items():
            paint(labels[index], items)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {str(path)!r}; check the path.") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path.name!r} is not a GeoJSON file of objects ({error}).") from error
    return labels, grid


def _features(
    labels: Any, grid: Grid, object_type: str, cancelled: Callable[[], bool] | None
) -> Iterator[dict[str, Any]]:
    for index, plane in label_planes(labels, cancelled):
        place = positions(grid, index)
        for outline in outlines(plane, cancelled):
            geometry = _geometry(outline)
            if place:
                geometry["plane"] = {"c": place.get("C", -1), "z": place.get("Z", 0)}
                geometry["plane"]["t"] = place.get("T", 0)
            yield {
                "type": "Feature",
                "id": str(uuid.uuid5(_IDS, f"{index}{outline.label}")),
                "geometry": geometry,
                "properties": {
                    "objectType": object_type,
                    "name": str(outline.label),
                    "label": outline.label,
                },
            }


def _geometry(outline: Outline) -> dict[str, Any]:
    # GeoJSON repeats the first vertex; its outer rings turn as ours do (positive area).
    parts = [
        [[*ring.tolist(), ring[0].tolist()] for ring in polygon.rings]
        for polygon in outline.polygons
    ]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _rings(geometry: dict[str, Any]) -> list[npt.NDArray[Any]]:
    kind, coordinates = geometry["type"], geometry["coordinates"]
    polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(kind, [])
    return [np.asarray(ring, dtype=float)[:, :2] for polygon in polygons for ring in polygon]


def _number_of(feature: dict[str, Any]) -> int | None:
    properties = feature.get("properties") or {}
    for value in (properties.get("label"), properties.get("name")):
        if str(value).isdecimal():
            return int(str(value))
    return None


def _plane_of(geometry: dict[str, Any], grid: Grid, shape: tuple[int, ...]) -> tuple[int, ...]:
    place = geometry.get("plane") or {}
    at = [max(0, int(place.get(letter.lower(), 0))) for letter in grid.axes[:-2]]
    return tuple(min(n, size - 1) for n, size in zip(at, shape, strict=False))
