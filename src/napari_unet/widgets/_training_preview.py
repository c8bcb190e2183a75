"""The layer that shows what the network makes of the view while it is being trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.jobs.training_job import Preview, View
from napari_unet.widgets._annotation_layer import result_colormap
from napari_unet.widgets._source import label_placement, limited
from napari_unet.widgets._streaming_layer import StreamingLabels
from napari_unet.widgets._view_feed import ViewFeed
from napari_unet.widgets.session import METADATA_KEY, same_layer

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_unet.jobs.image_source import Region
    from napari_unet.widgets._frames import Frames

NAME = "training preview"
#: Colour of the outlines: none of the annotation's objects has it.
_OUTLINE_COLOR = (0.0, 0.94, 1.0, 1.0)
#: Width of the outlines on the screen, in its pixels, and the most pixels of the image for it.
_OUTLINE_WIDTH, _WIDEST = 2.0, 12


class TrainingPreview:
    """Feeds the training job with the view, and draws the previews that come back.

    Objects are drawn as outlines, so that what was painted stays in sight below them; classes of
    material are areas and drawn as such.

    Parameters
    ----------
    viewer
        Whose view is meant.
    frames
        When previews are drawn.
    """

    def __init__(self, viewer: Viewer, frames: Frames) -> None:
        self._viewer, self._frames = viewer, frames
        self._feed = ViewFeed(viewer)
        self._stream: StreamingLabels | None = None
        self._channel_axis: int | None = None
        self._outlines = True
        self._drawn: tuple[tuple[int, ...], Region] | None = None

    def follow(self, layer: Image, channel_axis: int | None, *, outlines: bool = True) -> None:
        """Show previews of this image from now on."""
        self._outlines = outlines
        if same_layer(layer, self._feed.layer) and channel_axis == self._channel_axis:
            return
        self.remove()
        self._channel_axis = channel_axis
        self._feed.follow(layer, channel_axis)

    def view(self, side: int) -> View | None:
        """Return at most ``side`` pixels per axis of what is looked at; a worker may call it."""
        seen = self._feed.latest()
        if seen is None:
            return None
        plane, channel_axis = seen.source.plane(seen.index)
        region = limited(seen.region, seen.middle, side)
        return View(plane, channel_axis, seen.index, region, seen.source)

    def show(self, preview: Preview) -> None:
        """Draw a preview; the one before disappears."""
        layer = self._feed.layer
        if layer is None or layer not in self._viewer.layers:
            self.remove()
            return
        seen = self._feed.latest()
        if seen is None or preview.view.source is not seen.source:
            return  # of an image that was followed before
        if self._stream is None or not self._stream.alive:
            self.discard()
            self._stream = StreamingLabels(
                self._viewer,
                self._frames,
                seen.source.label_shape,
                NAME,
                placement={**label_placement(layer, self._channel_axis), **self._looks()},
                metadata={METADATA_KEY: {"role": "preview"}},
            )
        if self._drawn is not None and self._drawn != (preview.view.index, preview.view.region):
            self._stream.clear(*self._drawn)
        labels: npt.NDArray[np.integer] = preview.labels
        if self._outlines:
            labels = outlines(labels, self._outline_pixels(layer))
        self._stream.write(preview.view.index, preview.view.region, labels)
        self._drawn = (preview.view.index, preview.view.region)

    def _looks(self) -> dict[str, Any]:
        from napari.utils.colormaps import CyclicLabelColormap

        if not self._outlines:
            return {"opacity": 0.5, "colormap": result_colormap()}
        colors = np.array([(0, 0, 0, 0), _OUTLINE_COLOR], np.float32)
        return {"opacity": 1.0, "colormap": CyclicLabelColormap(colors=colors, background_value=0)}

    def _outline_pixels(self, layer: Image) -> int:
        """Return how many pixels of the image are as wide as an outline on the screen."""
        zoom = float(self._viewer.scene.camera.zoom) * abs(float(layer.scale[-1]))
        return int(np.clip(round(_OUTLINE_WIDTH / max(zoom, 1e-9)), 1, _WIDEST))

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


def outlines(labels: npt.NDArray[np.integer], width: int) -> npt.NDArray[np.uint8]:
    """Return 1 on the outermost pixels of each object, else 0; the array's border is no outline."""
    height, length = labels.shape
    around = np.pad(labels, width, mode="edge")
    edge = np.zeros(labels.shape, bool)
    for y, x in ((0, width), (2 * width, width), (width, 0), (width, 2 * width)):
        edge |= around[y : y + height, x : x + length] != labels
    return (edge & (labels > 0)).astype(np.uint8)
