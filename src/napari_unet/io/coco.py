"""Objects as COCO JSON with run-length masks: exact, whatever the shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.atomic import write_text
from napari_unet.core.errors import InputError, stop_if
from napari_unet.io.outlines import paint
from napari_unet.io.stacks import label_planes, object_numbers


def write_coco(
    path: str | Path,
    labels: Any,
    *,
    image_name: str = "image",
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Write all objects of an image as COCO annotations.

    Each annotation has its area, its bounding box ``[x, y, width, height]`` and its mask as
    uncompressed run lengths (column by column, background first). Its ``id`` is its label in a
    single plane; in a stack each plane is an image, ids count from 1 and ``label`` holds the label.

    Parameters
    ----------
    path
        File to write; replaced when it exists.
    labels
        Whole numbers ``(..., Y, X)``; background is 0 or negative.
    image_name
        ``file_name`` of the image.
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
    images: list[dict[str, Any]] = []
    annotations: list[str] = []
    for index, plane in label_planes(labels, cancelled):
        entry: dict[str, Any] = {"id": len(images) + 1, "file_name": image_name}
        entry |= {"height": plane.shape[0], "width": plane.shape[1]}
        images.append(entry | ({"plane": list(index)} if index else {}))
        for annotation in _annotations(plane):
            stop_if(cancelled)
            number = len(annotations) + 1 if index else annotation["label"]
            whole = {"id": number, "image_id": len(images), "category_id": 1, **annotation}
            annotations.append(json.dumps(whole, separators=(",", ":")))
    head = {
        "info": {"description": "Objects segmented with napari-unet"},
        "licenses": [],
        "categories": [{"id": 1, "name": "object", "supercategory": ""}],
        "images": images,
    }
    body = ",\n".join(annotations)
    write_text(path, f'{json.dumps(head)[:-1]}, "annotations": [\n{body}\n]}}\n')


def read_coco(path: str | Path) -> npt.NDArray[np.int32]:
    """Paint the annotations of a COCO file into label images.

    Parameters
    ----------
    path
        File with run lengths (plain or compressed text) or polygons. All images must have one size.

    Returns
    -------
    ndarray of int32
        ``(Y, X)``, or ``(..., Y, X)`` for several images. Labels by ``label``, else by ``id``;
        counted from 1 when one of them is 0.

    Raises
    ------
    InputError
        If the file is missing or not COCO.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        images = content["images"]
        planes = {image["id"]: tuple(image.get("plane", (i,))) for i, image in enumerate(images)}
        sizes = {(int(image["height"]), int(image["width"])) for image in images}
        if len(sizes) != 1:
            raise InputError(f"The images of {path.name!r} differ in size; read them one by one.")
        size = sizes.pop()
        leading: tuple[int, ...] = ()
        if len(images) > 1 or "plane" in images[0]:
            leading = tuple(max(part) + 1 for part in zip(*planes.values(), strict=True))
        labels = np.zeros(leading + size, dtype=np.int32)
        annotations = content["annotations"]
        numbers = object_numbers([int(each.get("label", each["id"])) for each in annotations])
        for label, annotation in zip(numbers, annotations, strict=True):
            index = planes[annotation["image_id"]] if leading else ()
            _draw(labels[index], label, annotation["segmentation"])
    except FileNotFoundError as error:
        raise InputError(f"There is no file {str(path)!r}; check the path.") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path.name!r} is not a COCO file of objects ({error}).") from error
    return labels


def _annotations(plane: npt.NDArray[Any]) -> Iterator[dict[str, Any]]:
    """Yield the label, area, box and run lengths of each object, in order of the labels."""
    height, width = plane.shape
    columns = np.ascontiguousarray(plane.T).ravel()
    begins = np.ones(len(columns), dtype=bool)
    begins[1:] = columns[1:] != columns[:-1]
    start = np.flatnonzero(begins)
    length = np.diff(start, append=len(columns))
    label = columns[start].astype(np.int64)
    order = np.argsort(label, kind="stable")
    order = order[label[order] > 0]
    label, start, length = label[order], start[order], length[order]
    borders = np.flatnonzero(np.diff(label)) + 1
    if not len(label):
        return
    for begin, stop in zip((0, *borders), (*borders, len(label)), strict=True):
        first, runs = start[begin:stop], length[begin:stop]
        ends = first + runs
        counts = np.empty(2 * len(first) + 1, dtype=np.int64)
        counts[0], counts[2:-1:2] = first[0], first[1:] - ends[:-1]
        counts[1::2], counts[-1] = runs, height * width - ends[-1]
        left, right = int(first[0] // height), int((ends[-1] - 1) // height)
        top, bottom = _rows(first, ends, height)
        yield {
            "label": int(label[begin]),
            "area": int(runs.sum()),
            "bbox": [left, top, right - left + 1, bottom - top + 1],
            "iscrowd": 0,
            "segmentation": {"size": [height, width], "counts": counts.tolist()},
        }


def _rows(first: npt.NDArray[Any], ends: npt.NDArray[Any], height: int) -> tuple[int, int]:
    # A run that goes on in the next column covers that column's first and this one's last row.
    if (first // height != (ends - 1) // height).any():
        return 0, height - 1
    return int((first % height).min()), int(((ends - 1) % height).max())


def _draw(labels: npt.NDArray[Any], label: int, segmentation: Any) -> None:
    if isinstance(segmentation, list):
        rings = [np.asarray(ring, dtype=float).reshape(-1, 2) for ring in segmentation]
        # Polygons of one object may overlap: each is painted on its own.
        paint(labels, [(label, [ring]) for ring in rings])
        return
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = _decompress(counts)
    lengths = np.asarray(counts, dtype=np.int64)
    ends = np.cumsum(lengths)
    if (lengths < 0).any() or ends[-1:].sum() > labels.size:
        raise ValueError("a mask is larger than its image")
    lengths, ends = lengths[1::2], ends[1::2]
    skipped = np.cumsum(lengths) - lengths
    pixels = np.repeat(ends - lengths - skipped, lengths) + np.arange(lengths.sum())
    labels[pixels % labels.shape[0], pixels // labels.shape[0]] = label


def _decompress(text: str) -> list[int]:
    """Decode COCO's compressed run lengths: 6-bit groups; from the third on, differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
