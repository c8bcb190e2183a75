"""Segmenting the view, a plane or a whole stack, nearest to the user's eyes first."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
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
from napari_unet.core.linking import link_planes
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.jobs.image_source import ImageSource, Region
from napari_unet.jobs.instance_job import ClassesFound, Link, ObjectsFound, PlanesLinked
from napari_unet.jobs.warm_up import DeviceFound, ModelLoaded

if TYPE_CHECKING:
    from napari_unet.core.model import Model
    from napari_unet.core.prediction import Predictor

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
    link
        How objects are linked through the stack at the end, or None. Classes are not linked.
    known_diameters
        Diameters that were estimated before, per plane; they stand in for ``"auto"``.
    """

    model: str | Model
    source: ImageSource
    planes: Sequence[tuple[int, ...]]
    region: Region | None = None
    diameter: float | Literal["auto"] | None = "auto"
    tiles: TileSettings = TileSettings()
    instances: InstanceSettings | None = None
    link: Link | None = None
    known_diameters: Mapping[tuple[int, ...], float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class PlaneStarted:
    """A plane is begun; ``done`` of ``total`` planes are finished."""

    index: tuple[int, ...]
    done: int
    total: int


@dataclass(frozen=True)
class NumbersShifted:
    """All object numbers of a plane grow by ``shift``: numbers are unique through the stack."""

    index: tuple[int, ...]
    shift: int


def segmentation_job(
    request: SegmentationRequest,
    *,
    attention: Callable[[], Attention | None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[Any, None, ObjectsFound | ClassesFound]:
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
        At the end, when asked for and not cancelled; otherwise
    NumbersShifted
        for each plane of a stack, so that the result is that of core's ``segment``; also before
        an error is raised.

    Returns
    -------
    ObjectsFound or ClassesFound
        How many planes were finished, and the objects in what was done; or its classes.
    """
    from napari_unet.core.device import choose_device
    from napari_unet.core.model_file import load_model
    from napari_unet.core.prediction import Predictor

    device = choose_device(request.tiles.device)
    yield DeviceFound(device.name, device.reason)
    model = load_model(request.model) if isinstance(request.model, str) else request.model
    yield ModelLoaded(model.name, model)
    work = _Work(Predictor(model, request.tiles), request, attention, cancelled)
    left, finished = list(request.planes), 0
    while left and not work.stopped():
        seen = attention() if attention is not None else None
        index = left.pop(_nearest(left, seen[0] if seen is not None else None))
        yield PlaneStarted(index, finished, len(request.planes))
        try:
            finished += yield from work.plane(index)
        except Exception:
            yield from work.shifts()  # what is done stays, with numbers of its own
            raise
    if work.task == "classes":
        return work.classes()
    if work.stack is not None and request.link is not None and not left and not work.stopped():
        link = request.link
        linked = link_planes(work.stack, axis=link.axis, overlap=link.overlap, cancelled=cancelled)
        if not work.stopped():
            yield PlanesLinked(linked)
            return ObjectsFound(finished, int(linked.max(initial=0)))
    yield from work.shifts()
    return ObjectsFound(finished, work.objects)


class _Work:
    """One run over planes, each segmented by core on its own."""

    def __init__(
        self,
        predictor: Predictor,
        request: SegmentationRequest,
        attention: Callable[[], Attention | None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._predictor = predictor
        self._request = request
        self._attention = attention
        self._cancelled = cancelled
        self._highest: dict[tuple[int, ...], int] = {}
        model = predictor.model
        self.task = model.task
        self._class_pixels = np.zeros(len(model.class_names), np.int64)
        link = None if self.task == "classes" else request.link
        self.stack = None if link is None else np.zeros(link.shape, np.int32)

    def stopped(self) -> bool:
        """Whether the user asked to stop."""
        return self._cancelled is not None and self._cancelled()

    def plane(self, index: tuple[int, ...]) -> Generator[Any, None, bool]:
        """Segment one plane and return whether it was completed."""
        from napari_unet.core.segmentation import iter_segmentation

        request = self._request
        diameter = request.diameter
        if diameter == "auto":
            diameter = request.known_diameters.get(index, "auto")
        image, channel_axis = request.source.plane(index)
        events = iter_segmentation(
            self._predictor,
            image,
            channel_axis=channel_axis,
            instances=request.instances,
            diameter=diameter,
            focus=None if self._attention is None else lambda: self._focus(index),
            region=request.region,
            cancelled=self._cancelled,
        )
        complete = False
        for event in events:
            if isinstance(event, SegmentationDone):
                complete = event.complete
                self._highest[index] = int(event.labels.max(initial=0))
                if self.stack is not None:
                    self.stack[index] = event.labels
            elif isinstance(event, (DiameterChosen, TileDone, LabelsChanged, PlaneDone)):
                if isinstance(event, LabelsChanged):
                    self._count(index, event.labels)
                yield replace(event, index=index)
        return complete

    def _count(self, index: tuple[int, ...], labels: npt.NDArray[np.int32]) -> None:
        """Take in labels as they come, in case that the plane cannot be completed."""
        if self.task == "classes":  # each pixel comes once
            self._class_pixels += np.bincount(labels.ravel(), minlength=len(self._class_pixels))
            return
        self._highest[index] = max(int(labels.max(initial=0)), self._highest.get(index, 0))

    @property
    def objects(self) -> int:
        """Objects of all planes so far."""
        return sum(self._highest.values())

    def classes(self) -> ClassesFound:
        """Return how much of what was segmented belongs to each class."""
        return ClassesFound.counted(self._predictor.model.class_names, self._class_pixels)

    def shifts(self) -> Generator[NumbersShifted, None, None]:
        """Make the numbers unique in the order of the planes, whichever came first."""
        if self.task == "classes":
            return
        used = 0
        for index in sorted(self._highest):
            if used and self._highest[index]:
                yield NumbersShifted(index, used)
            used += self._highest[index]

    def _focus(self, index: tuple[int, ...]) -> tuple[float, float] | None:
        seen = self._attention() if self._attention is not None else None
        return None if seen is None or seen[0] != index else seen[1]


def _nearest(left: Sequence[tuple[int, ...]], index: tuple[int, ...] | None) -> int:
    """Return which of the planes that are left is nearest to the one that is looked at."""
    if index is None:
        return 0
    distances = [sum(abs(a - b) for a, b in zip(place, index, strict=True)) for place in left]
    return int(np.argmin(distances))
