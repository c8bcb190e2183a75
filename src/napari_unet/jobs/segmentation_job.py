"""Segmenting the view, a plane or a whole stack, nearest to the user's eyes first."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_unet.core.events import (
    DiameterChosen,
    LabelsChanged,
    PlaneDone,
    SegmentationDone,
    TileDone,
)
from napari_unet.core.linking import DEFAULT_OVERLAP, link_planes
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.jobs.image_source import ImageSource, Region
from napari_unet.jobs.warm_up import DeviceFound, ModelLoaded

if TYPE_CHECKING:
    from napari_unet.core.model import Model

#: Where the user looks: position of the plane, and (y, x) in it.
Attention = tuple[tuple[int, ...], tuple[float, float]]


@dataclass(frozen=True)
class SegmentationRequest:
    """What to segment, and how.

    Attributes
    ----------
    model
        A model, or the name or path of one.
    source
        The image.
    planes
        Positions of the planes to segment.
    region
        Part of the plane; None for all of it.
    diameter
        Object diameter in image pixels, ``"auto"``, or None to take the image as it is.
    tiles, instances
        Settings of core; ``instances`` None takes the model's own.
    link_axis
        Leading axis of the label array along which objects are linked at the end, or None.
    link_overlap
        Smallest intersection over union of linked objects.
    """

    model: str | Model
    source: ImageSource
    planes: Sequence[tuple[int, ...]]
    region: Region | None = None
    diameter: float | Literal["auto"] | None = "auto"
    tiles: TileSettings = TileSettings()
    instances: InstanceSettings | None = None
    link_axis: int | None = None
    link_overlap: float = DEFAULT_OVERLAP


@dataclass(frozen=True)
class PlaneStarted:
    """A plane is begun; ``done`` of ``total`` planes are finished."""

    index: tuple[int, ...]
    done: int
    total: int


@dataclass(frozen=True)
class PlanesLinked:
    """Objects carry one number through the stack: the whole label array."""

    labels: npt.NDArray[np.int32] = field(repr=False, compare=False)


def segmentation_job(
    request: SegmentationRequest,
    *,
    attention: Callable[[], Attention | None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[Any, None, int]:
    """Segment plane by plane; the plane that is looked at comes first.

    Parameters
    ----------
    request
        What to do.
    attention
        Asked before every tile and plane: where the user looks now. None: reading order.
    cancelled
        Ends the work in order; what is done stays.

    Yields
    ------
    DeviceFound, ModelLoaded
        Once.
    PlaneStarted, DiameterChosen, TileDone, LabelsChanged, PlaneDone
        For each plane, with its position.
    PlanesLinked
        At the end, when asked for and not cancelled.

    Returns
    -------
    int
        How many planes were finished.
    """
    from napari_unet.core.device import choose_device
    from napari_unet.core.model_file import load_model
    from napari_unet.core.prediction import Predictor

    device = choose_device(request.tiles.device)
    yield DeviceFound(device.name, device.reason)
    model = load_model(request.model) if isinstance(request.model, str) else request.model
    yield ModelLoaded(model.name, model)
    predictor = Predictor(model, request.tiles)
    left, finished = list(request.planes), 0
    linking = request.link_axis is not None
    stack = np.zeros(request.source.label_shape, np.int32) if linking else None
    while left and not (cancelled is not None and cancelled()):
        seen = attention() if attention is not None else None
        index = left.pop(_nearest(left, seen[0] if seen is not None else None))
        yield PlaneStarted(index, finished, len(request.planes))
        complete = yield from _one_plane(predictor, request, index, attention, cancelled, stack)
        finished += complete
    if stack is not None and request.link_axis is not None and finished == len(request.planes):
        linked = link_planes(
            stack, axis=request.link_axis, overlap=request.link_overlap, cancelled=cancelled
        )
        if not (cancelled is not None and cancelled()):
            yield PlanesLinked(linked)
    return finished


def _one_plane(
    predictor: Any,
    request: SegmentationRequest,
    index: tuple[int, ...],
    attention: Callable[[], Attention | None] | None,
    cancelled: Callable[[], bool] | None,
    stack: npt.NDArray[np.int32] | None,
) -> Generator[Any, None, bool]:
    """Segment one plane and return whether it was completed."""
    from napari_unet.core.segmentation import iter_segmentation

    def focus() -> tuple[float, float] | None:
        seen = attention() if attention is not None else None
        return None if seen is None or seen[0] != index else seen[1]

    plane, channel_axis = request.source.plane(index)
    events = iter_segmentation(
        predictor,
        plane,
        channel_axis=channel_axis,
        instances=request.instances,
        diameter=request.diameter,
        focus=focus if attention is not None else None,
        region=request.region,
        cancelled=cancelled,
    )
    complete = False
    for event in events:
        if isinstance(event, SegmentationDone):
            complete = event.complete
            if stack is not None:
                stack[index] = event.labels
        elif isinstance(event, (DiameterChosen, TileDone, LabelsChanged, PlaneDone)):
            yield replace(event, index=index)
    return complete


def _nearest(left: Sequence[tuple[int, ...]], index: tuple[int, ...] | None) -> int:
    """Return which of the planes that are left is nearest to the one that is looked at."""
    if index is None:
        return 0
    distances = [sum(abs(a - b) for a, b in zip(place, index, strict=True)) for place in left]
    return int(np.argmin(distances))
