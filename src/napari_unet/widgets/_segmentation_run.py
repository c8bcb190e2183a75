"""One click on Segment: the layers it fills, what it keeps, how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.events import DiameterChosen, LabelsChanged, TileDone
from napari_unet.core.settings import InstanceSettings
from napari_unet.jobs.instance_job import Link, PlanesLinked, ProbabilityStore
from napari_unet.jobs.segmentation_job import NumbersShifted, PlaneStarted, SegmentationRequest
from napari_unet.jobs.warm_up import ModelLoaded
from napari_unet.widgets._annotation_layer import result_colormap
from napari_unet.widgets._source import label_placement
from napari_unet.widgets._streaming_layer import StreamingLabels, allocate
from napari_unet.widgets.session import METADATA_KEY

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Layer

    from napari_unet.core.model import Model
    from napari_unet.widgets._frames import Frames

#: Probabilities for the threshold sliders may take this share of the free memory.
KEPT_SHARE = 0.25


class SegmentationRun:
    """Draws the events of one segmentation; all methods belong to the main thread.

    Parameters
    ----------
    viewer, frames
        The viewer that gets the layers, and when they are drawn.
    image
        The image layer that is segmented; it may be renamed or removed meanwhile.
    request
        What the job was asked for.
    show_probabilities
        Also fill an image layer with the probability of being an object.
    """

    def __init__(
        self,
        viewer: Viewer,
        frames: Frames,
        image: Image,
        request: SegmentationRequest,
        *,
        show_probabilities: bool = False,
    ) -> None:
        import psutil

        self._viewer, self._frames = viewer, frames
        self.image = image
        self.request = request
        self.model: Model | None = None
        self.diameters: dict[tuple[int, ...], float | None] = {}
        self._factors: dict[tuple[int, ...], float] = {}
        self.fraction = 0.0
        self.drew_something = False
        self.store = ProbabilityStore(int(KEPT_SHARE * psutil.virtual_memory().available))
        self._placement = label_placement(image, request.source.channel_axis)
        self.stream = StreamingLabels(
            viewer,
            frames,
            request.source.label_shape,
            f"{image.name} objects",
            placement={**self._placement, "colormap": result_colormap()},
            metadata={METADATA_KEY: {"role": "result", "image": image.name}},
        )
        self._first_name = self.stream.layer.name
        self._done_planes = 0
        self._taken_out: list[tuple[int, Layer]] = []
        self._probabilities: Image | None = None
        self._probability_array: npt.NDArray[Any] | None = None
        if show_probabilities:
            self._add_probabilities()

    @property
    def alive(self) -> bool:
        """Whether there still is a layer to fill."""
        return self.stream.alive

    @property
    def link(self) -> Link | None:
        """How objects are linked through the stack."""
        return self.request.link

    def handle(self, event: Any) -> None:
        """Take in one event of the job."""
        if isinstance(event, LabelsChanged):
            self.stream.write(event.index, event.slices, event.labels)
        elif isinstance(event, TileDone):
            self._take_tile(event)
        elif isinstance(event, PlaneStarted):
            self._done_planes = event.done
            self._open(event.index)
        elif isinstance(event, DiameterChosen):
            self.diameters[event.index] = event.diameter
            self._factors[event.index] = event.factor
        elif isinstance(event, ModelLoaded):
            self._take_model(event.model)
        elif isinstance(event, NumbersShifted):
            self.stream.shift(event.index, event.shift)
        elif isinstance(event, PlanesLinked):
            self.stream.write_all(event.labels)

    def finish(self) -> None:
        """Let the user edit."""
        self.stream.finish()
        self._frames.forget(self._refresh_probabilities)
        self._refresh_probabilities()

    def remove_layers(self) -> None:
        """Take the layers away."""
        self.take_out()
        self.close()

    def take_out(self) -> None:
        """Take the layers away for a while."""
        layers = self._viewer.layers
        own = [layer for layer in layers if layer in (self.stream.layer, self._probabilities)]
        self._taken_out = [(layers.index(layer), layer) for layer in own]
        for layer in own:
            layers.remove(layer)

    def put_back(self) -> None:
        """Bring the layers back that :meth:`take_out` took."""
        layers = self._viewer.layers
        active = layers.selection.active
        for place, layer in self._taken_out:
            layers.insert(min(place, len(layers)), layer)
        if active is not None:
            layers.selection.active = active
        self._taken_out = []

    def rest(self) -> None:
        """Give memory back, but go on noticing corrections: another image is segmented."""
        self.store = ProbabilityStore(0)

    def close(self) -> None:
        """Let go of timers and events; the layers stay."""
        self.stream.close()
        self._frames.forget(self._refresh_probabilities)

    def fork(self) -> None:
        """Go on in a new layer: the user has corrected the present one, which stays as it is."""
        old = self.stream
        old.close()
        self.stream = StreamingLabels(
            self._viewer,
            self._frames,
            self.request.source.label_shape,
            f"{old.layer.name} (new thresholds)",
            placement={**self._placement, "colormap": result_colormap()},
            metadata=dict(old.layer.metadata),
        )
        old.layer.visible = False

    def own_thresholds(self, index: tuple[int, ...]) -> InstanceSettings:
        """Return the model's own thresholds in pixels of a plane, whose objects have their size."""
        from napari_unet.core.instances import at_scale

        if self.model is None:
            return InstanceSettings()
        return at_scale(self.model.instances, self._factors.get(index, 1.0))

    def diameter_of(self, index: tuple[int, ...]) -> float | None:
        """Return the object size a plane was segmented at, or that of any other plane."""
        if index in self.diameters:
            return self.diameters[index]
        return next(iter(self.diameters.values()), None)

    def _take_model(self, model: Model) -> None:
        self.model = model
        layer = self.stream.layer
        if model.task == "classes" and layer.name == self._first_name:
            layer.name = f"{self.image.name} classes"
        entry = dict(layer.metadata.get(METADATA_KEY, {}))
        layer.metadata[METADATA_KEY] = {
            **entry,
            "model": model.name,
            "task": model.task,
        }

    def _open(self, index: tuple[int, ...]) -> None:
        height, width = self.request.source.plane_shape
        region = self.request.region or (slice(0, height), slice(0, width))
        if self.model is not None and self.model.task == "objects":
            self.store.open(index, region)

    def _take_tile(self, event: TileDone) -> None:
        self.drew_something = True
        total = max(1, len(self.request.planes))
        self.fraction = (self._done_planes + event.done / max(1, event.total)) / total
        self.store.put(event.index, event.slices, event.probabilities)
        if self._probability_array is not None:
            whole = self._probability_array
            plane = whole[event.index] if event.index else whole
            # The probability of being anything but background.
            plane[event.slices] = 1 - event.probabilities[0]
            self._frames.request(self._refresh_probabilities)

    def _add_probabilities(self) -> None:
        self._probability_array = allocate(self.request.source.label_shape, np.float16)
        self._probabilities = self._viewer.add_image(
            self._probability_array,
            name=f"{self.image.name} probability",
            colormap="magma",
            contrast_limits=(0, 1),
            opacity=0.6,
            blending="additive",
            metadata={METADATA_KEY: {"role": "probability"}},
            **self._placement,
        )
        layers = self._viewer.layers
        layers.move(layers.index(self._probabilities), layers.index(self.stream.layer))

    def _refresh_probabilities(self) -> None:
        layer = self._probabilities
        if layer is not None and layer in self._viewer.layers:
            layer.refresh(thumbnail=False, extent=False, highlight=False)
