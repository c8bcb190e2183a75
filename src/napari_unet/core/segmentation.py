"""From an image (one plane or a stack of planes) to labels, as a stream of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_unet.core.diameter import estimate_diameter
from napari_unet.core.errors import InputError
from napari_unet.core.events import (
    DiameterChosen,
    LabelsChanged,
    PlaneDone,
    SegmentationDone,
    TileDone,
)
from napari_unet.core.instances import StreamingInstances, at_scale, label_classes
from napari_unet.core.model import Model
from napari_unet.core.normalization import IntensityScale
from napari_unet.core.planes import HELD_BYTES, Plane, as_plane, in_memory, lazy_part
from napari_unet.core.prediction import Predictor, Region, check_region, iter_tiles, scale_factor
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.core.tile_run import Focus

#: Larger planes (bytes) are not read as a whole when only a part of them is segmented.
_HELD_FOR_A_PART = 2**24
SegmentationEvent = DiameterChosen | TileDone | LabelsChanged | PlaneDone | SegmentationDone

#: Object diameter of an image in its pixels, ``"auto"`` to estimate it, None to use it as it is.
Diameter = float | Literal["auto"] | None


@dataclass(frozen=True)
class PlaneStack:
    """The planes of an image: all axes before the last two (and beside the channels) are a stack.

    Attributes
    ----------
    image
        The array.
    channel_axis
        Axis of the channels, not negative, or None.
    stack_shape
        Lengths of the leading axes.
    plane_shape
        Height and width.
    rgb
        The channels are RGB or RGBA (of which the alpha channel is not used).
    """

    image: Any
    channel_axis: int | None
    stack_shape: tuple[int, ...]
    plane_shape: tuple[int, int]
    rgb: bool = False

    @classmethod
    def of(cls, image: Any, channel_axis: int | None = None) -> PlaneStack:
        """Find the planes of an array.

        Without ``channel_axis`` a last axis of 3 or 4 after at least two others is RGB(A).

        Raises
        ------
        InputError
            If the array has fewer than two spatial axes or is empty.
        """
        if isinstance(image, Plane):
            return cls(image, None, (), image.shape)
        if not hasattr(image, "shape"):
            image = np.asarray(image)
        shape = tuple(int(n) for n in image.shape)
        rgb = channel_axis is None and len(shape) >= 3 and shape[-1] in (3, 4)
        if rgb:
            channel_axis = len(shape) - 1
        elif channel_axis is not None:
            if not -len(shape) <= channel_axis < len(shape):
                raise InputError(
                    f"The channel axis {channel_axis} does not exist in an image of shape {shape}."
                )
            channel_axis %= len(shape)
        spatial = [n for axis, n in enumerate(shape) if axis != channel_axis]
        if len(spatial) < 2 or 0 in shape:
            raise InputError(f"An image of shape {shape} has no plane to segment.")
        return cls(image, channel_axis, tuple(spatial[:-2]), (spatial[-2], spatial[-1]), rgb)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels: all axes but the channels."""
        return (*self.stack_shape, *self.plane_shape)

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Iterate over the positions in the stack."""
        return iter(np.ndindex(*self.stack_shape))

    def plane(self, index: tuple[int, ...]) -> Plane:
        """Return one plane; nothing is read of an array that reads lazily."""
        if isinstance(self.image, Plane):
            return self.image
        window: list[Any] = [*index, slice(None), slice(None)]
        axis = None
        if self.channel_axis is not None:
            window.insert(self.channel_axis, slice(None))
            kept = sum(isinstance(part, slice) for part in window[: self.channel_axis])
            axis = None if self.rgb else kept
        if not index:
            return as_plane(self.image, axis)
        return as_plane(lazy_part(self.image, tuple(window)), axis)


def iter_segmentation(
    model: Model | Predictor,
    image: Any,
    *,
    channel_axis: int | None = None,
    settings: TileSettings | None = None,
    instances: InstanceSettings | None = None,
    diameter: Diameter = "auto",
    focus: Focus | None = None,
    region: Region | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[SegmentationEvent]:
    """Segment an image plane by plane.

    Parameters
    ----------
    model
        The model, or a :class:`~napari_unet.core.prediction.Predictor` (whose settings then hold).
    image
        ``(..., Y, X)``, ``(..., Y, X, 3 | 4)`` or with ``channel_axis``; leading axes are
        independent planes.
    instances
        Thresholds, the minimum size in image pixels; by default those of the model, whose minimum
        size follows the object size.
    diameter
        Object diameter in image pixels; ``"auto"`` estimates it for each plane, None leaves the
        image as it is. A model without a diameter never scales.
    focus
        Where to start in each plane, see :func:`~napari_unet.core.prediction.iter_tiles`.
    region
        Segment only this part of each plane; objects are cut at its border.
    cancelled
        Ends the run; what is done is kept.

    Yields
    ------
    SegmentationEvent
        Per plane: ``DiameterChosen``, then ``TileDone`` and provisional ``LabelsChanged`` as tiles
        arrive, the final ``LabelsChanged`` and ``PlaneDone``; at the end ``SegmentationDone``.
        Ids are unique over the whole stack.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model, settings)
    stack = PlaneStack.of(image, channel_axis)
    labels = np.zeros(stack.shape, np.int32)
    total = int(np.prod(stack.stack_shape, dtype=np.int64))
    used, complete = 0, True
    for number, index in enumerate(stack.indices(), start=1):
        if cancelled is not None and cancelled():
            complete = False
            break
        run = _PlaneRun(predictor, stack.plane(index), index, labels[index], used, region)
        yield from run.events(instances, diameter, focus, cancelled)
        if not run.complete:
            complete = False
            break
        used += run.objects
        yield PlaneDone(index, run.objects, number, total)
    yield SegmentationDone(labels, complete)


def segment(
    model: Model | Predictor,
    image: Any,
    *,
    channel_axis: int | None = None,
    settings: TileSettings | None = None,
    instances: InstanceSettings | None = None,
    diameter: Diameter = "auto",
    cancelled: Callable[[], bool] | None = None,
) -> npt.NDArray[np.int32]:
    """Return the labels of an image, int32, without its channel axis.

    In task ``objects`` every object of the stack has its own number, in task ``classes`` pixels
    hold the index of their class (0: background). Parameters as in :func:`iter_segmentation`.
    """
    events = iter_segmentation(
        model,
        image,
        channel_axis=channel_axis,
        settings=settings,
        instances=instances,
        diameter=diameter,
        cancelled=cancelled,
    )
    for event in events:
        if isinstance(event, SegmentationDone):
            return event.labels
    raise AssertionError("a segmentation ends with SegmentationDone")  # pragma: no cover


class _PlaneRun:
    """One plane of a stack: writes its labels in place, ids start after ``used``."""

    def __init__(
        self,
        predictor: Predictor,
        plane: Plane,
        index: tuple[int, ...],
        labels: npt.NDArray[np.int32],
        used: int,
        region: Region | None = None,
    ) -> None:
        self._predictor = predictor
        self._plane = plane
        self._index = index
        self._labels = labels
        self._used = used
        self._box = check_region(region, plane.shape)
        self.complete = False
        self.objects = 0

    def events(
        self,
        instances: InstanceSettings | None,
        diameter: Diameter,
        focus: Focus | None,
        cancelled: Callable[[], bool] | None,
    ) -> Iterator[SegmentationEvent]:
        model = self._predictor.model
        model.check_channels(self._plane.channels)
        part = self._box.shape != self._plane.shape
        self._plane = in_memory(self._plane, _HELD_FOR_A_PART if part else HELD_BYTES)
        scale = model.normalization.measure(self._plane)
        chosen = choose_diameter(
            self._predictor, self._plane, diameter, self._index, scale, cancelled
        )
        yield chosen
        streaming = None
        if model.task == "objects":
            thresholds = instances or at_scale(model.instances, chosen.factor)
            streaming = StreamingInstances(self._box.shape, thresholds)
        tiles = iter_tiles(
            self._predictor,
            self._plane,
            diameter=chosen.diameter,
            focus=focus,
            region=self._box.slices,
            cancelled=cancelled,
            scale=scale,
        )
        for tile in tiles:
            self.complete = tile.done == tile.total
            yield replace(tile, index=self._index)
            if streaming is None:
                yield self._write(tile.slices, label_classes(tile.probabilities))
                continue
            inside = _moved(tile.slices, -self._box.top, -self._box.left)
            for patch in streaming.add(inside, tile.probabilities):
                place = _moved(patch.slices, self._box.top, self._box.left)
                yield self._write(place, self._shifted(patch.labels))
        if streaming is not None:
            final = streaming.finish()
            self.objects = int(final.max(initial=0))
            yield self._write(self._box.slices, self._shifted(final))

    def _shifted(self, labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        return np.where(labels > 0, labels + np.int32(self._used), np.int32(0))

    def _write(self, slices: tuple[slice, slice], labels: npt.NDArray[np.int32]) -> LabelsChanged:
        self._labels[slices] = labels
        return LabelsChanged(slices, labels, self._index)


def _moved(slices: Region, down: int, right: int) -> Region:
    rows, columns = slices
    return (
        slice(rows.start + down, rows.stop + down),
        slice(columns.start + right, columns.stop + right),
    )


def choose_diameter(
    predictor: Predictor,
    plane: Plane,
    diameter: Diameter,
    index: tuple[int, ...] = (),
    scale: IntensityScale | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> DiameterChosen:
    """Decide the object size that a plane is segmented at.

    Raises
    ------
    InputError
        If a diameter is given that is not a positive number or far from the model's.
    """
    model = predictor.model
    if model.diameter is None or diameter is None:
        return DiameterChosen(index, None, 1.0, "none")
    if diameter != "auto":
        return DiameterChosen(index, float(diameter), scale_factor(model, diameter), "given")
    estimated = estimate_diameter(
        model, plane, settings=predictor.settings, scale=scale, cancelled=cancelled
    )
    if estimated is None:  # nothing to measure: the image is used as it is
        return DiameterChosen(index, None, 1.0, "none")
    return DiameterChosen(index, estimated, scale_factor(model, estimated), "estimated")
