"""The layer that shows what the network makes of the view while it is being trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.jobs.training_job import Preview, View
from napari_unet.widgets._source import label_placement, limited
from napari_unet.widgets._streaming_layer import StreamingLabels
from napari_unet.widgets._view_feed import ViewFeed
from napari_unet.widgets.session import METADATA_KEY, same_layer

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_unet.jobs.image_source import Region

#: Longest side of the part of the view that is predicted along the way, in pixels.
PREVIEW_SIDE = 512
NAME = "training preview"


class TrainingPreview:
    """Feeds the training job with the view, and draws the previews that come back.

    Parameters
    ----------
    viewer
        Whose view is meant.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._feed = ViewFeed(viewer)
        self._stream: StreamingLabels | None = None
        self._channel_axis: int | None = None
        self._drawn: tuple[tuple[int, ...], Region] | None = None

    def follow(self, layer: Image, channel_axis: int | None) -> None:
        """Show previews of this image from now on."""
        if same_layer(layer, self._feed.layer) and channel_axis == self._channel_axis:
            return
        self.remove()
        self._channel_axis = channel_axis
        self._feed.follow(layer, channel_axis)

    def view(self) -> View | None:
        """Return what the user looks at; safe to call from a worker."""
        seen = self._feed.latest()
        if seen is None:
            return None
        plane, channel_axis = seen.source.plane(seen.index)
        region = limited(seen.region, seen.middle, PREVIEW_SIDE)
        return View(plane, channel_axis, seen.index, region)

    def show(self, preview: Preview) -> None:
        """Draw a preview; the one before disappears."""
        layer = self._feed.layer
        if layer is None or layer not in self._viewer.layers:
            self.remove()
            return
        if self._stream is None or not self._stream.alive:
            seen = self._feed.latest()
            if seen is None:
                return
            self.discard()
            self._stream = StreamingLabels(
                self._viewer,
                seen.source.label_shape,
                NAME,
                placement={**label_placement(layer, self._channel_axis), "opacity": 0.5},
                metadata={METADATA_KEY: {"role": "preview"}},
            )
        if self._drawn is not None and self._drawn != (preview.view.index, preview.view.region):
            self._stream.clear(*self._drawn)
        self._stream.write(preview.view.index, preview.view.region, preview.labels)
        self._drawn = (preview.view.index, preview.view.region)

    def stop(self) -> None:
        """Let go of the view; the last preview stays to look at."""
        self._feed.stop()

    def remove(self) -> None:
        """Let go of the view and take the layer away."""
        self._feed.stop()
        if self._stream is not None and self._stream.alive:
            self._viewer.layers.remove(self._stream.layer)
        self.discard()

    def discard(self) -> None:
        """Forget the layer without touching it."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._drawn = None, None
