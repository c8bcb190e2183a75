"""Images with their annotation, as training takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.errors import AnnotationError, InputError
from napari_unet.core.planes import Plane, as_plane, read_window


@dataclass(frozen=True)
class TrainingPair:
    """One image and what was painted on it.

    Attributes
    ----------
    image
        ``(Y, X)``, RGB, multi-channel with ``channel_axis``, or a stack of such planes (leading
        axes are independent planes). numpy, memory map, zarr or dask.
    labels
        Annotation on the image grid: 0 unlabelled, -1 painted background, k > 0 object or class.
    channel_axis
        Axis of the channels in ``image``; without it a last axis of 3 or 4 that the labels do not
        have is RGB(A).
    spacing
        Size of a pixel along y and x, for distances in physical proportions; None for square.
    boxes
        ``(n, 4)`` half-open rectangles y0, x0, y1, x1 for the annotated area ``"boxes"``. Of a
        single plane they count also where nothing is painted: all in them is background. In a
        stack they hold for its painted planes.
    name
        For messages.
    """

    image: Any = field(repr=False)
    labels: Any = field(repr=False)
    channel_axis: int | None = None
    spacing: tuple[float, float] | None = None
    boxes: npt.NDArray[np.intp] | None = field(default=None, repr=False)
    name: str = "image"


@dataclass(frozen=True)
class AnnotatedPlane:
    """One plane of a pair: pixels behind :class:`Plane`, labels in memory."""

    plane: Plane
    labels: npt.NDArray[np.integer[Any]] = field(repr=False)
    spacing: tuple[float, float] | None
    boxes: npt.NDArray[np.intp] | None = field(repr=False)
    name: str


def as_pair(pair: TrainingPair | tuple[Any, Any]) -> TrainingPair:
    """Accept ``(image, labels)`` in place of a :class:`TrainingPair`."""
    return pair if isinstance(pair, TrainingPair) else TrainingPair(*pair)


def relative_spacing(spacing: tuple[float, float] | None) -> tuple[float, float] | None:
    """Scale a spacing to mean 1, so that lengths keep meaning network pixels; None for square."""
    if spacing is None or spacing[0] == spacing[1]:
        return None
    mean = float(np.sqrt(spacing[0] * spacing[1]))
    return spacing[0] / mean, spacing[1] / mean


def annotated_planes(
    pairs: Sequence[TrainingPair | tuple[Any, Any]],
) -> list[AnnotatedPlane]:
    """Return every plane that carries annotation.

    Raises
    ------
    InputError
        If an image and its labels do not belong together.
    AnnotationError
        If nothing is painted anywhere.
    """
    if not pairs:
        raise AnnotationError("Give at least one image with annotation to train on.")
    planes = [plane for pair in pairs for plane in _planes(as_pair(pair))]
    if len(planes) > 1:
        planes = [replace(item, plane=replace(item.plane, name=item.name)) for item in planes]
    if not planes:
        raise AnnotationError("Nothing is painted yet; paint at least one object, then train.")
    channels = {plane.plane.channels for plane in planes}
    if len(channels) > 1:
        counts = " and ".join(str(count) for count in sorted(channels))
        raise InputError(
            f"The images have {counts} channels; train on images with equal numbers of channels."
        )
    return planes


def _planes(pair: TrainingPair) -> Iterator[AnnotatedPlane]:
    labels = pair.labels if hasattr(pair.labels, "shape") else np.asarray(pair.labels)
    image = pair.image if hasattr(pair.image, "shape") else np.asarray(pair.image)
    channel_axis = _channel_axis(pair, image.shape, labels.shape)
    for index in np.ndindex(*labels.shape[:-2]):
        painted = read_window(labels, index, f"labels of {pair.name}")
        boxed = not index and pair.boxes is not None and len(pair.boxes) > 0
        if not (boxed or painted.any()):
            continue
        where: list[Any] = [*index, slice(None), slice(None)]
        axis = None
        if channel_axis is not None:
            where.insert(channel_axis, slice(None))
            axis = sum(isinstance(part, slice) for part in where[:channel_axis])
        # One plane alone is not indexed: that would read all of a zarr array.
        pixels = image[tuple(where)] if index else image
        # A last axis of 3 or 4 that nobody named is RGB(A): as_plane leaves the alpha channel out.
        plane = as_plane(pixels, axis if pair.channel_axis is not None else None)
        name = f"{pair.name} {list(index)}" if index else pair.name
        yield AnnotatedPlane(plane, painted, pair.spacing, pair.boxes, name)


def _channel_axis(
    pair: TrainingPair, image: tuple[int, ...], labels: tuple[int, ...]
) -> int | None:
    """Find the channel axis and check that the shapes belong together."""
    if len(labels) < 2:
        raise InputError(f"The labels of {pair.name} must have at least two axes.")
    channel_axis = pair.channel_axis
    if channel_axis is not None:
        if not -len(image) <= channel_axis < len(image):
            raise InputError(
                f"The image of {pair.name} has {len(image)} axes and no channel axis "
                f"{channel_axis}; count the axes from 0."
            )
        channel_axis %= len(image)
    elif len(image) == len(labels) + 1 and image[-1] in (3, 4):
        channel_axis = len(image) - 1
    spatial = tuple(n for axis, n in enumerate(image) if axis != channel_axis)
    if spatial != tuple(labels):
        without = [image[:axis] + image[axis + 1 :] for axis in range(len(image))]
        one_more = channel_axis is None and tuple(labels) in without
        channels = " or say which axis holds the channels" if one_more else ""
        raise InputError(
            f"The labels of {pair.name} have shape {tuple(labels)} but the image has shape "
            f"{tuple(image)}; choose an annotation made on this image{channels}."
        )
    return channel_axis
