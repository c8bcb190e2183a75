"""Tells a worker thread where the user looks, without the worker touching the viewer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_unet.jobs.image_source import ImageSource, Region
from napari_unet.jobs.latest import Latest
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._source import shown_index, shown_middle, shown_region, source_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image


@dataclass(frozen=True)
class LookedAt:
    """The plane, the part of it and its middle that the user sees of one image."""

    source: ImageSource = field(repr=False, compare=False)
    index: tuple[int, ...]
    region: Region
    middle: tuple[float, float]


class ViewFeed:
    """Follows camera, sliders and canvas of a viewer for one image layer.

    The newest :class:`LookedAt` lies in :attr:`latest`, which any thread may call. The image is
    read as it was when :meth:`follow` was called, whatever happens to the layer afterwards.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._connections = Connections()
        self._layer: Image | None = None
        self._source: ImageSource | None = None
        self.latest: Latest[LookedAt | None] = Latest(None)

    @property
    def layer(self) -> Image | None:
        """The layer that is followed."""
        return self._layer

    def follow(self, layer: Image, channel_axis: int | None = None) -> ImageSource:
        """Start to follow a layer (and leave another one)."""
        self.stop()
        self._layer, self._source = layer, source_of(layer, channel_axis)
        viewer = self._viewer
        camera, dims = viewer.scene.camera.events, viewer.dims.events
        for emitter in (
            camera.center,
            camera.zoom,
            dims.current_step,
            dims.ndisplay,
            dims.order,
            viewer.canvas.events.size,
        ):
            self._connections.connect(emitter, self._look)
        self._look()
        return self._source

    def stop(self) -> None:
        """Let go of the viewer; the latest value becomes None."""
        self._connections.clear()
        self._layer = self._source = None
        self.latest.set(None)

    def _look(self, _event: Any = None) -> None:
        layer, source = self._layer, self._source
        if layer is None or source is None:
            return
        if source_of(layer, source.channel_axis).label_shape != source.label_shape:
            return  # other data was put into the layer: stay with what was seen of the old one
        self.latest.set(
            LookedAt(
                source,
                shown_index(self._viewer, layer, source.channel_axis),
                shown_region(self._viewer, layer),
                shown_middle(self._viewer, layer),
            )
        )
